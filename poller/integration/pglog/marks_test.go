package pglog_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/pglog"
)

// hold creates a temporary slot in a session that stays open until the function is called.
func hold(t *testing.T, db *sqlx.DB, slot string) (end func()) {
	t.Helper()
	conn, err := db.Connx(context.Background())
	require.NoError(t, err)
	_, err = conn.ExecContext(context.Background(), `select pg_create_logical_replication_slot($1, 'pgoutput', true)`, slot)
	require.NoError(t, err)
	return func() { // Close would keep the session
		_, _ = conn.ExecContext(context.Background(), `select pg_terminate_backend(pg_backend_pid())`)
		_ = conn.Close()
		lab.WaitFor(t, func() bool { // it drops the slot after it has answered
			var left int
			return db.Get(&left, `select count(*) from pg_replication_slots where slot_name = $1`, slot) == nil && left == 0
		})
	}
}

// Temporary slots come and go. So a pipeline goes on when one is free, and does not read a temporary slot with the name of its slot.
func TestTemporarySlots(t *testing.T) {
	t.Parallel()
	db := start(t, "-c", "max_replication_slots=1").NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); insert into t values (1); create publication p for table t`)
	s := open(t, db)
	for name, part := range map[string]string{"other": "max_replication_slots", s.Slot: "temporary"} {
		end := hold(t, db, name)
		err := fetch(s, "")
		require.ErrorIs(t, err, pglog.ErrSetup)
		assert.Contains(t, err.Error(), part)
		assert.NotEqual(t, retry.Fatal, retry.Classify(err))
		end()
	}
	got, _ := read(t, s, "", 10)
	assert.Equal(t, []string{"upsert public.t {1} {1} -"}, texts(t, got))
}

// The server is made to log its running transactions by a temporary slot, which takes none that another program needs.
func TestMarks(t *testing.T) {
	t.Parallel()
	d := start(t, "-c", "max_replication_slots=4").NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t; create table busy (v text); alter table busy alter v set storage external`)
	var tried, marks atomic.Int64
	watched := traced(t, d, tracer{after: func(query string, rows int64) {
		if strings.HasPrefix(query, "SELECT pg_drop_replication_slot") {
			tried.Add(1)
			marks.Add(rows)
		}
	}})
	s := open(t, watched)
	_, at := read(t, s, "", 10)
	db.MustExec(`insert into t values (1); insert into busy select repeat('x', 1000000) from generate_series(1, 17)`)
	empty := func(at source.Cursor) { // a new Source may try again at once, after a mark that failed
		s := &pglog.Source{DB: watched, Slot: s.Slot, Publication: "p"}
		before := tried.Load()
		b, err := lab.Fetch(t, s, at, 10)
		require.NoError(t, err)
		require.Empty(t, b.Records)
		require.NoError(t, s.Close())
		require.Equal(t, before+1, tried.Load())
	}
	b, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	assert.Len(t, b.Records, 1)
	assert.Zero(t, tried.Load(), "not after a batch with changes")

	others := []func(){hold(t, db, "other1"), hold(t, db, "other2")}
	empty(b.To)
	assert.Zero(t, marks.Load(), "the last slot stays free")
	db.MustExec(`select pg_create_logical_replication_slot('last', 'pgoutput'), pg_drop_replication_slot('last')`)
	others[0]()
	others[1]()
	end := hold(t, db, "pglog_mark_0")
	empty(b.To)
	assert.Zero(t, marks.Load(), "another Source makes one")
	end()
	lab.WaitFor(t, func() bool { empty(b.To); return marks.Load() > 0 }) // the server may take longer than a mark waits
}
