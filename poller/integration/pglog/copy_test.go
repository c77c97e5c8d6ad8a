package pglog_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/pglog"
)

// A statement that rewrites a table would empty it for the snapshot of the copy. It waits for the copy.
func TestTableIsRewrittenDuringCopy(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table a (id int primary key); create table b (id int primary key, v int); insert into a values (1), (2); insert into b values (1, 1), (2, 2); create publication p for table a, b`)
	s := open(t, db)
	b, err := lab.Fetch(t, s, "", 1)
	require.NoError(t, err)
	assert.Equal(t, []string{"upsert public.a {1} {1} -"}, texts(t, b.Records))
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := db.ExecContext(ctx, `alter table b alter v type bigint`)
		done <- err
	}()
	lab.WaitFor(t, func() bool {
		var waits bool
		return db.Get(&waits, `select count(*) > 0 from pg_locks where not granted and relation = 'b'::regclass`) == nil && waits || len(done) > 0
	})
	got, _ := read(t, s, b.To, 1)
	assert.Equal(t, []string{"upsert public.a {2} {2} -", "upsert public.b {1} {1, 1} -", "upsert public.b {2} {2, 2} -"}, texts(t, got))
	require.NoError(t, <-done)
}

// The log that follows a copy begins at the slot's position before the copy.
func TestSlotIsMadeAgainDuringCopy(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); insert into t values (1), (2); create publication p for table t`)
	s := open(t, db)
	b, err := lab.Fetch(t, s, "", 1)
	require.NoError(t, err)
	db.MustExec(`insert into t values (0)`)
	db.MustExec(`select pg_drop_replication_slot($1)`, s.Slot)
	db.MustExec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, s.Slot)
	refused(t, pglog.ErrHistory, fetch(s, b.To), "has been advanced")
	got, _ := read(t, s, "", 1)
	assert.Equal(t, []string{"upsert public.t {0} {0} -", "upsert public.t {1} {1} -", "upsert public.t {2} {2} -"}, texts(t, got), "the new copy has a new snapshot")
}

// A restored server uses the ids of copied transactions again.
func TestServerIsRestoredAfterCopy(t *testing.T) {
	t.Parallel()
	server := start(t)
	d := server.NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t`)
	s := open(t, db)
	db.MustExec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, s.Slot)
	require.NoError(t, server.Stop())
	restore, err := server.Backup()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	db = d.Open(t, dbtest.PGX)
	s = &pglog.Source{DB: db, Slot: s.Slot, Publication: "p"}
	for i := range 20 {
		db.MustExec(`insert into t values ($1)`, i)
	}
	b, err := lab.Fetch(t, s, "", 100)
	require.NoError(t, err)
	require.Len(t, b.Records, 20)
	require.NoError(t, s.Close())
	require.NoError(t, server.Stop())
	require.NoError(t, restore())
	require.NoError(t, server.Start())
	db = d.Open(t, dbtest.PGX)
	s = &pglog.Source{DB: db, Slot: s.Slot, Publication: "p"}
	db.MustExec(`insert into t values (200)`)
	refused(t, pglog.ErrHistory, fetch(s, b.To), "restored")
	require.NoError(t, s.Close())
}

// A commit is in the log before it is visible, as long as it waits for a standby. The copy waits for it, if the slot
// is past its record.
func TestCommitWaitsForStandbyBeforeCopy(t *testing.T) {
	t.Parallel()
	db := start(t, "-c", "synchronous_commit=local", "-c", "synchronous_standby_names=far").NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); insert into t values (1); create publication p for table t`)
	s := open(t, db)
	db.MustExec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, s.Slot)
	done := make(chan error, 1)
	go func() {
		_, err := db.Exec(`set synchronous_commit = on; insert into t values (2)`)
		done <- err
	}()
	var pid int
	lab.WaitFor(t, func() bool {
		return db.Get(&pid, `select pid from pg_stat_activity where wait_event = 'SyncRep'`) == nil
	})
	db.MustExec(`select pg_replication_slot_advance($1, pg_current_wal_flush_lsn())`, s.Slot)
	b, err := s.Fetch(t.Context(), "", 10)
	require.NoError(t, err)
	assert.Empty(t, b.Records)
	require.NotNil(t, b.Held)
	require.Len(t, b.Held.By, 1)
	assert.Contains(t, b.Held.By[0], "transaction that writes")
	db.MustExec(`select pg_cancel_backend($1)`, pid) // ends the wait, and the commit is visible
	require.NoError(t, <-done)
	got, _ := read(t, s, b.To, 10)
	assert.Equal(t, []string{"upsert public.t {1} {1} -", "upsert public.t {2} {2} -"}, texts(t, got))
}
