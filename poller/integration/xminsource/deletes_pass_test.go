package xminsource_test

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// A key pass that one Fetch does not end is not idle: a drain would end without its deletes.
func slowKeyPass(t *testing.T, db *sqlx.DB) {
	db.MustExec(`INSERT INTO t SELECT n, 0 FROM generate_series(1, 3000) AS n`)
	s := withDeletes(t, db, t.TempDir(), "t", "id")
	_, at := changesOf(t, s, "", 1000)
	db.MustExec(`DELETE FROM t WHERE id = 7`)
	db.MustExec(`VACUUM t`) // otherwise the read prunes the page, and waits until that is on disk
	lock := lab.Begin(t, db, `LOCK TABLE t IN ACCESS EXCLUSIVE MODE`)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lab.WaitFor(t, func() bool { // longer than one Fetch reads keys
			var slow bool
			return db.Get(&slow, `SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '2100 ms' AND datname = current_database()`) == nil && slow
		})
		assert.NoError(t, lock.Commit())
	}()
	got, _ := changesOf(t, s, at, 1000)
	<-done
	require.Equal(t, []string{"delete 7"}, got)
}
