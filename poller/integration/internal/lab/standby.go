package lab

import (
	"testing"

	"github.com/jmoiron/sqlx"
)

// PauseReplay returns when the standby applies nothing more. Postgres 13 does not say when that is so, but it
// applies no record that comes later.
func PauseReplay(t *testing.T, standby *sqlx.DB) {
	t.Helper()
	standby.MustExec(`SELECT pg_wal_replay_pause()`)
	paused := `SELECT pg_get_wal_replay_pause_state() = 'paused'`
	var number int
	if err := standby.Get(&number, `SELECT current_setting('server_version_num')::int`); err != nil {
		t.Fatal(err)
	}
	if number < 140000 {
		paused = `SELECT pg_is_wal_replay_paused()`
	}
	WaitFor(t, func() bool {
		var yes bool
		return standby.Get(&yes, paused) == nil && yes
	})
}
