package pglog_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
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

	b, err := s.Fetch(t.Context(), "", 10)
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
