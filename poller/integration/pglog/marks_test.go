package pglog_test

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
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
			return db.Get(&left, `select count(*) from pg_replication_slots`) == nil && left == 0
		})
	}
}

// Temporary slots come and go. So a pipeline goes on when one is free, and does not read one of its own name.
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
