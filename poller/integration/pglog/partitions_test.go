package pglog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/pglog"
)

// Each partition has its own replica identity. The log of a table that is published by its root has the values of
// the partition's identity in the columns of the root's. If the two differ, the table is refused, and Setup corrects it.
func TestPartitionsWithAnotherIdentity(t *testing.T) {
	t.Parallel()
	server := start(t)
	for name, c := range map[string]struct{ create, change, got string }{
		"nothing":       {`alter table leaf replica identity nothing`, "", ""},
		"another index": {`create unique index other on leaf (other); alter table leaf replica identity using index other`, `delete from t`, "delete public.t {1} - {1}"},
		"root full":     {`alter table t replica identity full`, `update t set id = 2`, "update public.t {2} {2, 7, xxx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := server.NewDatabase(t).Open(t, dbtest.PGX)
			db.MustExec(`create table t (id int primary key, other int not null, body text) partition by range (id); create table leaf partition of t for values from (0) to (10); alter table leaf alter body set storage external;
				insert into t values (1, 7, repeat('x', 5000)); create publication p for table t with (publish_via_partition_root)`)
			s := open(t, db)
			_, at := read(t, s, "", 10)
			db.MustExec(c.create)
			if c.change == "" {
				_, err := db.Exec(`update t set other = 8`)
				require.ErrorContains(t, err, "does not have a replica identity")
			}
			again := open(t, db)
			again.Slot = s.Slot
			refused(t, pglog.ErrIdentity, fetch(again, at), "public.leaf", "REPLICA IDENTITY FULL")
			r, err := again.Check(t.Context())
			require.NoError(t, err)
			require.Len(t, r.Problems, 1)
			assert.Contains(t, r.Problems[0], "public.leaf")
			text, err := again.Setup(t.Context())
			require.NoError(t, err)
			db.MustExec(text)
			r, err = again.Check(t.Context())
			require.NoError(t, err)
			assert.Empty(t, r.Problems)
			db.MustExec(`update t set other = 7`)
			got, at := read(t, again, at, 10)
			require.Len(t, got, 1)
			require.NoError(t, again.Close())
			if c.change == "" {
				return
			}
			db.MustExec(c.change)
			got, _ = read(t, again, at, 10)
			require.Len(t, got, 1)
			assert.True(t, strings.HasPrefix(texts(t, got)[0], c.got), texts(t, got)[0])
		})
	}
}

// A partition that is attached later is looked at as well.
func TestPartitionIsAttachedLater(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int not null) partition by range (id); alter table t replica identity full; create publication p for table t with (publish_via_partition_root)`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	db.MustExec(`create table leaf (id int not null); alter table t attach partition leaf for values from (0) to (10); insert into t values (1)`)
	_, err := db.Exec(`delete from t`)
	require.ErrorContains(t, err, "does not have a replica identity")
	again := open(t, db)
	again.Slot = s.Slot
	refused(t, pglog.ErrIdentity, fetch(again, at), "public.leaf")
	db.MustExec(`alter table leaf replica identity full; delete from t`)
	got, _ := read(t, again, at, 10)
	assert.Equal(t, []string{"insert public.t - {1} -", "delete public.t - - {1}"}, texts(t, got))
}

// A partition had another identity for some time, and its log does not have the keys of the table.
func TestPartitionHadAnotherIdentity(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key, other int not null) partition by range (id); create table leaf partition of t for values from (0) to (10); create unique index other on leaf (other);
		insert into t values (1, 7); create publication p for table t with (publish_via_partition_root)`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	db.MustExec(`alter table leaf replica identity using index other; delete from t; alter table leaf replica identity default`)
	refused(t, pglog.ErrIdentity, fetch(s, at), "public.t", "new copy")
}
