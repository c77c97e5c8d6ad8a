package pglog_test

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/pglog"
)

// Since Postgres 17 the slot survives a failover, and the changes go on without a gap.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := start(t)
	d := primary.NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	if version(t, db) < 17 {
		return
	}
	db.MustExec(`create table t (id int primary key); create publication p for table t; select pg_create_physical_replication_slot('standby')`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	standby := dbtest.StartStandby(t, primary, logical("-c", "primary_slot_name=standby", "-c", "sync_replication_slots=on", "-c", "hot_standby_feedback=on"))
	next := standby.Database(d.Name()).Open(t, dbtest.PGX)
	one := func(db *sqlx.DB) { db.MustExec(`insert into t select count(*) from t`) }
	delivered := 0
	lab.WaitFor(t, func() bool { // the standby synchronizes the slot
		one(db)
		db.MustExec(`select pg_log_standby_snapshot()`)
		got, to := read(t, s, at, 10)
		delivered, at = delivered+len(got), to
		require.NoError(t, s.Close())
		var n int
		return next.Get(&n, `select count(*) from pg_replication_slots where slot_name = $1 and synced and not temporary`, s.Slot) == nil && n == 1
	})
	one(db)
	got, at := read(t, s, at, 10)
	delivered += len(got)
	one(db) // is not read before the failover
	lab.WaitFor(t, func() bool {
		var end string
		var replayed bool
		return db.Get(&end, `select pg_current_wal_flush_lsn()::text`) == nil && next.Get(&replayed, `select pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, end) == nil && replayed
	})
	require.NoError(t, primary.Kill())
	s2 := &pglog.Source{DB: next, Slot: s.Slot, Publication: "p"}
	require.ErrorIs(t, fetch(s2, at), pglog.ErrStandby)
	next.MustExec(`select pg_promote()`)
	lab.WaitFor(t, func() bool {
		var standby bool
		return next.Get(&standby, `select pg_is_in_recovery()`) == nil && !standby
	})
	one(next)
	got, _ = read(t, s2, at, 1)
	assert.Len(t, got, 2)
	var rows int
	require.NoError(t, next.Get(&rows, `select count(*) from t`))
	assert.Equal(t, rows, delivered+len(got))
	require.NoError(t, s2.Close())
}
