package pglog_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// The printed statements are enough if they are run unchanged, and the application's statements work after them.
func TestSetup(t *testing.T) {
	t.Parallel()
	server := start(t)
	d := server.NewDatabase(t)
	admin := d.Open(t, dbtest.PGX)
	admin.MustExec(`create schema "S.s"; create table t (id int primary key); create table "S.s"."a ""b""" (n int); create table parts (id int primary key) partition by list (id);
		create table part partition of parts default; create role reader login password 'x'; insert into t values (1); insert into "S.s"."a ""b""" values (2)`)
	s := open(t, d.WithUser("reader", "x").Open(t, dbtest.PQ))
	r, err := s.Check(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, r.Problems)
	assert.Contains(t, r.Problems[0], "REPLICATION")
	assert.Contains(t, r.Slot, "does not exist")
	text, err := s.Setup(t.Context())
	require.NoError(t, err)
	assert.NotContains(t, text, "ALL TABLES", "a table that is created later, without a key, could not be updated")
	admin.MustExec(text) // as one message, as some tools send it
	text, err = s.Setup(t.Context())
	require.NoError(t, err)
	assert.Empty(t, text)
	r, err = s.Check(t.Context())
	require.NoError(t, err)
	assert.Empty(t, r.Problems)
	assert.ElementsMatch(t, []string{"public.t", `"S.s"."a ""b"""`, "public.parts"}, r.Tables)
	assert.Contains(t, r.String(), "max_slot_wal_keep_size is not set")

	b, err := lab.Fetch(t, s, "", 10)
	require.NoError(t, err)
	assert.Positive(t, b.Pinned)
	got, at := read(t, s, "", 10)
	assert.Len(t, got, 2)
	admin.MustExec(`update t set id = 2; update "S.s"."a ""b""" set n = 3; delete from "S.s"."a ""b"""; insert into parts values (1); update parts set id = 2`)
	got, _ = read(t, s, at, 10)
	assert.Len(t, got, 5)
	r, err = s.Check(t.Context())
	require.NoError(t, err)
	assert.Positive(t, r.Pinned)
}

// After the printed statements no UPDATE fails that worked before: a replica identity is not that of partitions, a
// parent is published without its children, and the index of an identity may have been dropped.
func TestSetupKeepsUpdates(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table ev (id int not null, v int) partition by list (id); create table ev1 partition of ev for values in (1);
		create table ev2 partition of ev for values in (2) partition by list (id); create table ev21 partition of ev2 (primary key (id)) for values in (2);
		create table par (id int primary key, v int); create table child (w int) inherits (par);
		create table lost (id int not null, v int); create unique index lost_id on lost (id); alter table lost replica identity using index lost_id; drop index lost_id;
		create table late (id int primary key deferrable, v int);
		insert into ev values (1, 1), (2, 1); insert into par values (1, 1); insert into child values (2, 1, 1); insert into lost values (1, 1); insert into late values (1, 1)`)
	updates := `update ev set v = 2; update par set v = 2; update lost set v = 2; update late set v = 2`
	one := open(t, db, "par")
	text, err := one.Setup(t.Context())
	require.NoError(t, err)
	db.MustExec(text)
	db.MustExec(updates)
	s := open(t, db)
	r, err := one.Check(t.Context())
	require.NoError(t, err)
	assert.Empty(t, r.Problems)
	text, err = s.Setup(t.Context())
	require.NoError(t, err)
	db.MustExec(text)
	db.MustExec(updates)
	got, at := read(t, s, "", 10)
	assert.Len(t, got, 6)
	db.MustExec(updates)
	got, _ = read(t, s, at, 10)
	assert.Len(t, got, 6)
}

// A partitioned table joins a publication of plain tables, and is published as one table.
func TestSetupOfPartitionsLater(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table plain (id int primary key); create table parts (id int primary key) partition by list (id); create table part partition of parts default`)
	setup := func(tables ...string) string {
		text, err := open(t, db, tables...).Setup(t.Context())
		require.NoError(t, err)
		db.MustExec(text)
		return text
	}
	assert.Contains(t, setup("plain"), "publish_via_partition_root")
	assert.NotContains(t, setup("plain", "parts"), "SET (publish")
	assert.Empty(t, setup())
	db.MustExec(`drop publication p; create publication p for table plain, parts with (publish_via_partition_root = false)`)
	assert.Empty(t, setup("plain"), "another reader may depend on it")
	assert.NotContains(t, setup("plain", "parts"), "ADD TABLE")
	assert.Empty(t, setup())
	s := open(t, db)
	r, err := s.Check(t.Context())
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"public.plain", "public.parts"}, r.Tables)
	assert.Empty(t, r.Problems)
}
