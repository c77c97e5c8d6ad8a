package snapshot

import (
	"errors"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/snapshot"
)

// standbyOf returns the databases of a server and of its standby, which replays at once what is in the way of its own
// transactions.
func standbyOf(t *testing.T, driver dbtest.Driver) (primary, standby *sqlx.DB) {
	server := dbtest.StartPostgres(t)
	database := server.NewDatabase(t)
	primary = database.Open(t, driver)
	primary.MustExec(`create table t (id int primary key, n int)`)
	primary.MustExec(`insert into t select i, i from generate_series(1, 5000) i`)
	primary.MustExec(`create table nokey as select *, repeat('x', 4000) as note from t`)
	primary.MustExec(`create view v as select id, 10 / (id - 4) as q from t`)
	return primary, dbtest.StartStandby(t, server, dbtest.Args("-c", "max_standby_streaming_delay=0")).Database(database.Name()).Open(t, driver)
}

// replayed waits until a standby has replayed, or only received, what its primary has written.
func replayed(t *testing.T, primary, standby *sqlx.DB, how string) {
	t.Helper()
	primary.MustExec(`comment on table t is 'flushed'`) // flushes earlier writes as well
	var end string
	require.NoError(t, primary.Get(&end, `select pg_current_wal_flush_lsn()::text`))
	lab.WaitFor(t, func() bool {
		var done bool
		return standby.Get(&done, `select pg_last_wal_`+how+`_lsn() >= $1::pg_lsn`, end) == nil && done
	})
}

// A snapshot of a standby that the primary's changes end goes on in another transaction, and says so. With Strict it is
// ErrInterrupted. A row that the server cannot return does not stop it.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary, standby := standbyOf(t, dbtest.PGX)
	replayed(t, primary, standby, "replay")
	for _, name := range []string{"t", "nokey"} {
		for _, strict := range []bool{false, true} {
			conflict(t, primary, standby, name, strict)
		}
	}
	r := rowsOf(t, standby, snapshot.Table{Name: "v", Key: []string{"id"}})
	n, bad := 0, 0
	for at, more := source.Cursor(""), true; more; {
		b, err := r.Fetch(t.Context(), at, 1000)
		if r := (*source.BadRecord)(nil); errors.As(err, &r) {
			require.Equal(t, "id 4", r.Key)
			bad, at = bad+1, r.To
			continue
		}
		require.NoError(t, err)
		n, at, more = n+len(b.Records), b.To, b.More
		if !more {
			require.Contains(t, b.Guarantee.Text, "the snapshot was interrupted")
		}
	}
	require.Equal(t, []int{4999, 1}, []int{n, bad})
	require.NoError(t, r.Close())
	r = rowsOf(t, standby, snapshot.Table{Name: "v", Key: []string{"id"}})
	r.Strict = true
	b, err := lab.Fetch(t, r, "", 1000)
	require.NoError(t, err)
	require.Len(t, b.Records, 3)
	_, err = r.Fetch(t.Context(), b.To, 1000)
	require.ErrorIs(t, err, snapshot.ErrInterrupted)
}

// conflict reads a table while its primary rewrites it.
func conflict(t *testing.T, primary, standby *sqlx.DB, name string, strict bool) {
	t.Helper()
	r := rowsOf(t, standby, snapshot.Table{Name: name})
	r.Strict = strict
	n, failed, ended := 0, 0, false
	for at, more := source.Cursor(""), true; more; {
		b, err := r.Fetch(t.Context(), at, 1000)
		if strict && failed > 0 {
			require.ErrorIs(t, err, snapshot.ErrInterrupted)
			break
		}
		if err != nil {
			require.Equal(t, retry.Transient, retry.Classify(err), "%v", err)
			failed++
			continue
		}
		n, at, more = n+len(b.Records), b.To, b.More
		if n == 1000 && !ended {
			ended = true
			primary.MustExec(`update ` + name + ` set n = n + 1`)
			primary.MustExec(`vacuum ` + name)
			if name == "nokey" { // the server does not notice the conflict while it waits for its client
				replayed(t, primary, standby, "receive")
			} else {
				replayed(t, primary, standby, "replay")
			}
		}
		if !more {
			require.Equal(t, failed > 0, strings.Contains(b.Guarantee.Text, "the snapshot was interrupted"))
		}
	}
	if name == "t" {
		require.Equal(t, 1, failed)
	}
	if !strict || failed == 0 {
		require.GreaterOrEqual(t, n, 5000, name) // one without a key is read again
	}
	require.NoError(t, r.Close())
}
