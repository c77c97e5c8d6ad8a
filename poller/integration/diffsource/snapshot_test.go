package diffsource

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/snapshot"
)

// The moment of a pass is after its locks: a table that is emptied and filled again while the pass waits for it
// has its rows.
func TestSnapshotOfATableThatIsRewritten(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table t (id int primary key, n int)`)
		db.MustExec(`insert into t select i, i from generate_series(1, 5) i`)
		db.MustExec(`create view v as select * from t`)
		for _, from := range []string{"t", "v", "select"} {
			s := open(t, db, t.TempDir(), from, "id")
			if s.Snapshot = time.Hour; from == "select" {
				s.Table.Name, s.Table.Select = "t", "select * from t where n > 0; "
			}
			got, at := changes(t, s, "", 10)
			require.Len(t, got, 5)
			tx := db.MustBegin()
			tx.MustExec(`truncate t`)
			tx.MustExec(`insert into t select i, i from generate_series(1, 5) i`)
			var b source.Batch[row.Change]
			var err error
			var done sync.WaitGroup
			done.Go(func() { b, err = s.Fetch(t.Context(), at, 10) })
			require.Eventually(t, func() bool {
				var waiting bool
				err := tx.Get(&waiting, `select exists (select from pg_locks where not granted and relation = 't'::regclass)`)
				return err == nil && waiting
			}, 10*time.Second, 5*time.Millisecond)
			require.NoError(t, tx.Commit())
			done.Wait()
			require.NoError(t, err)
			require.Empty(t, b.Records, from)
			require.False(t, b.More)
			require.NoError(t, s.Close())
		}
	})
}

// A row that the server cannot return is a bad record in a snapshot as well, and the pass goes on.
func TestSnapshotOfARowThatTheServerRefuses(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table t (id int primary key)`)
		db.MustExec(`insert into t select generate_series(1, 9)`)
		db.MustExec(`create view v as select id, 10 / (id - 4) as q from t`)
		s := open(t, db, t.TempDir(), "v", "id")
		s.Snapshot = time.Hour
		var got []string
		for at, more := source.Cursor(""), true; more; {
			b, err := lab.Fetch(t, s, at, 2)
			var bad *source.BadRecord
			if errors.As(err, &bad) {
				got, at = append(got, "!"+bad.Key), bad.To
				continue
			}
			require.NoError(t, err)
			for _, c := range b.Records {
				got = append(got, c.Key.Text(0))
			}
			at, more = b.To, b.More
		}
		require.Equal(t, []string{"1", "2", "3", "!id 4", "5", "6", "7", "8", "9"}, got)
	})
}

// standbyOf returns the databases of a server and of its standby, which replays at once what is in the way of its own transactions.
func standbyOf(t *testing.T, driver dbtest.Driver) (primary, standby *sqlx.DB) {
	server := dbtest.StartPostgres(t)
	database := server.NewDatabase(t)
	return database.Open(t, driver), dbtest.StartStandby(t, server, dbtest.Args("-c", "max_standby_streaming_delay=0")).Database(database.Name()).Open(t, driver)
}

// On a standby neither a row that the server cannot return nor a snapshot that the primary's changes end stops a pass.
func TestSnapshotOfAStandby(t *testing.T) {
	t.Parallel()
	primary, standby := standbyOf(t, dbtest.PGX)
	primary.MustExec(`create table t (id int primary key, n int)`)
	primary.MustExec(`insert into t select i, i from generate_series(1, 5000) i`)
	primary.MustExec(`create view v as select id, 10 / (id - 4) as q from t`)
	lab.WaitFor(t, func() bool { return standby.Get(new(int), `select count(*) from v`) == nil })
	s := open(t, standby, t.TempDir(), "v", "id")
	s.Snapshot = time.Hour
	n, bad := 0, 0
	for at, more := source.Cursor(""), true; more; {
		b, err := s.Fetch(t.Context(), at, 1000)
		if r := (*source.BadRecord)(nil); errors.As(err, &r) {
			require.Equal(t, "id 4", r.Key)
			bad, at = bad+1, r.To
			continue
		}
		require.NoError(t, err)
		if n += len(b.Records); n == 1003 {
			primary.MustExec(`update t set n = -n`)
			primary.MustExec(`vacuum t`)
			primary.MustExec(`comment on table t is 'flushed'`) // flushes earlier writes as well
			var end string
			require.NoError(t, primary.Get(&end, `select pg_current_wal_flush_lsn()::text`))
			lab.WaitFor(t, func() bool {
				var done bool
				return standby.Get(&done, `select pg_last_wal_replay_lsn() >= $1::pg_lsn`, end) == nil && done
			})
		}
		at, more = b.To, b.More
	}
	require.Equal(t, 4999, n)
	require.Equal(t, 1, bad)
	lab.WaitFor(t, func() bool {
		var conflicts int
		return standby.Get(&conflicts, `select confl_snapshot from pg_stat_database_conflicts where datname = current_database()`) == nil && conflicts > 0
	})
}

// A standby lags by an unknown time, so that neither a pass over it nor a snapshot of it says as of when it is.
func TestStandbyHasNoAsOf(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	database := server.NewDatabase(t)
	primary := database.Open(t, dbtest.PGX)
	primary.MustExec(`create table t (id int primary key)`)
	primary.MustExec(`insert into t select generate_series(1, 3)`)
	standby := dbtest.StartStandby(t, server).Database(database.Name()).Open(t, dbtest.PGX)
	lab.WaitFor(t, func() bool {
		var n int
		return standby.Get(&n, `select count(*) from t`) == nil && n == 3
	})
	for _, db := range []*sqlx.DB{primary, standby} {
		for _, long := range []time.Duration{0, time.Hour} {
			s := open(t, db, t.TempDir(), "t", "id")
			s.Snapshot = long
			b, err := lab.Fetch(t, s, begun(t, s), 10)
			require.NoError(t, err)
			require.Len(t, b.Records, 3)
			require.Equal(t, db == standby, b.AsOf.IsZero())
			require.NoError(t, s.Close())
		}
		rows := &snapshot.Rows{Options: snapshot.Options{DB: db, Logger: slog.New(slog.DiscardHandler)}, Table: snapshot.Table{Name: "t"}}
		b, err := lab.Fetch(t, rows, "", 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 3)
		require.Equal(t, db == standby, b.AsOf.IsZero())
		require.NoError(t, rows.Close())
	}
}
