package postgres

import (
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// remedied requires that the table is refused with words, and runs the statements that the error
// contains, twice, as somebody may.
func (r *reading) remedied(words ...string) {
	r.t.Helper()
	c, err := r.table.Check(r.t.Context(), r.at)
	require.NoError(r.t, err)
	require.False(r.t, c.Safe(), c)
	err = r.fails()
	lab.RequirePermanent(r.t, err, words...)
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(r.t, err, &unsafe)
	for range 2 {
		for _, f := range unsafe.Report.Findings {
			if f.Level != ceiling.Unsafe {
				continue
			}
			for _, m := range f.Remedies {
				for _, s := range m.Statements {
					_, err := r.table.DB.Exec(s)
					require.NoError(r.t, err, s)
				}
			}
		}
	}
}

// Rows come with the transaction ids of another cluster, whose counter was ahead of this one's. On a
// private server, because every transaction of the cluster holds rows back.
func TestTransactionIDsOfAnotherCluster(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off"))
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		db := server.NewDatabase(t).Open(t, driver)
		db.MustExec(`create table orders (id bigint primary key, _tx xid8 not null default pg_current_xact_id()); create index on orders (_tx, id)`)
		db.MustExec(`insert into orders values (1, '4'), (2, '99999999999'), (3, '99999999998')`)
		r := follow(t, db, "_tx", "id")
		r.remedied("up to 99999999999", "came from another cluster")
		require.ElementsMatch(t, []string{"1", "2", "3"}, r.next())
		require.False(t, r.last.AsOf.IsZero())

		// They can also come while the pipeline runs.
		db.MustExec(`insert into orders values (4, '99999999999')`)
		db.MustExec(`insert into orders values (5)`)
		r.remedied("up to 99999999999")
		require.ElementsMatch(t, []string{"4", "5"}, r.next())
	}
}

// Rows are loaded with their ids, and the sequence is not advanced.
func TestKeysAboveTheSequence(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table orders (id bigserial primary key, v text); insert into orders select n, 'v' from generate_series(1, 50) n`)
		r := follow(t, db, "id")
		r.remedied("keys up to 50", "setval")
		require.Len(t, r.next(), 50)
		db.MustExec(`insert into orders (v) values ('next')`)
		require.Equal(t, []string{"51"}, r.next())

		// A single key does not stop the source.
		db.MustExec(`insert into orders values (60, 'by hand'); insert into orders (v) values ('next')`)
		require.Equal(t, []string{"52"}, r.next())
		require.Contains(t, r.last.Held.By[0], "SELECT setval(")
	})
}

// A stamp ahead of the clock is one hold, however often it is looked at. One that is far ahead is an error
// at the start.
func TestStampsAheadOfTheClock(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table orders (id bigint primary key, at timestamptz not null default clock_timestamp()); create index on orders (at, id)`)
		db.MustExec(`insert into orders values (1, clock_timestamp() + interval '30 minutes')`)
		r := follow(t, db, "at", "id")
		r.table.Ceiling = postgres.Stamp{}
		require.Empty(t, r.next())
		first := r.last.Held
		require.NotNil(t, first)
		require.Empty(t, r.next())
		require.Equal(t, first.Since, r.last.Held.Since)
		require.Contains(t, first.By[0], "a stamp ahead of the server's clock by 30m")

		db.MustExec(`insert into orders values (2, '2999-12-31 00:00:00+00')`)
		far := follow(t, db, "at", "id")
		far.table.Ceiling = postgres.Stamp{}
		lab.RequirePermanent(t, far.fails(), "up to 2999-12-31T00:00:00Z", "ahead of the server's clock")
		db.MustExec(`update orders set at = clock_timestamp()`)
		require.ElementsMatch(t, []string{"1", "2"}, far.next())
	})
}

// A standby whose replay has stopped is not up to date, however little is known of its primary.
func TestStandbyThatDoesNotReplay(t *testing.T) {
	t.Parallel()
	primary := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off"))
	database := primary.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigint generated always as identity primary key, _tx xid8 not null default pg_current_xact_id()); create index on orders (_tx, id)`)
	db.MustExec(`insert into orders default values`)
	standby := dbtest.StartStandby(t, primary).Database(database.Name()).Open(t, dbtest.PGX)
	r := follow(t, standby, "_tx", "id")
	caughtUp(t, db, standby)
	require.Equal(t, []string{"1"}, r.next())

	lab.PauseReplay(t, standby)
	paused := time.Now()
	db.MustExec(`insert into orders default values`)
	for range 2 {
		require.Empty(t, r.next())
		require.NotNil(t, r.last.Held)
		require.Equal(t, []string{"the standby, whose replay is paused"}, r.last.Held.By)
		require.True(t, r.last.AsOf.Before(paused), "nothing that was committed later is claimed")
	}
	require.NoError(t, primary.Kill())
	require.Empty(t, r.next())
	require.NotNil(t, r.last.Held)
	require.True(t, r.last.AsOf.Before(paused))
	standby.MustExec(`select pg_wal_replay_resume()`)
	lab.WaitFor(t, func() bool { return len(r.next()) == 1 })
	require.True(t, r.last.AsOf.Before(time.Now()))
}
