package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A standby does not show locks, but it knows which transactions are in progress.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off")) // the reader would wait for its transactions
	database := primary.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigint generated always as identity primary key, _tx xid8 not null default pg_current_xact_id()); create index on orders (_tx, id)`)
	server := dbtest.StartStandby(t, primary)
	standby := server.Database(database.Name()).Open(t, dbtest.PGX)

	var unsafe *ceiling.UnsafeError
	err := follow(t, standby, "id").fails()
	require.ErrorAs(t, err, &unsafe)
	require.ErrorContains(t, err, "this server is a standby")

	r := follow(t, standby, "_tx", "id")
	require.Empty(t, r.next())
	late := lab.Begin(t, db, `insert into orders default values`)
	db.MustExec(`insert into orders default values`)
	caughtUp(t, db, standby)
	require.Empty(t, r.next())
	require.NotNil(t, r.last.Held)
	require.Contains(t, strings.Join(r.last.Held.By, ", "), "of the primary")
	require.NoError(t, late.Commit())
	caughtUp(t, db, standby)
	require.Equal(t, []string{"1", "2"}, r.next())
	require.Nil(t, r.last.Held)
	require.False(t, r.last.AsOf.IsZero(), "what was replayed is known")

	// A cursor is valid on both standby and primary. If the standby has not reached the
	// cursor, the error is transient.
	both := follow(t, db, "_tx", "id")
	both.at = r.at
	standby.MustExec(`select pg_wal_replay_pause()`)
	db.MustExec(`insert into orders default values`)
	require.Equal(t, []string{"3"}, both.next())
	r.at = both.at
	require.ErrorContains(t, r.fails(), "the standby has not yet replayed")
	require.NotErrorIs(t, r.fails(), sqlsource.ErrHistory)
	standby.MustExec(`select pg_wal_replay_resume()`)
	caughtUp(t, db, standby)
	require.Empty(t, r.next())

	// The promoted standby may lack the last commits of the primary.
	require.NoError(t, primary.Kill())
	standby.MustExec(`select pg_promote()`)
	require.ErrorIs(t, r.fails(), sqlsource.ErrHistory)
	require.ErrorContains(t, r.fails(), "a standby was promoted")
	r.at, err = r.table.Adopt(r.at)
	require.NoError(t, err)
	standby.MustExec(`insert into orders default values`)
	require.Len(t, r.next(), 1)
}

func caughtUp(t *testing.T, primary, standby *sqlx.DB) {
	t.Helper()
	var lsn string
	require.NoError(t, primary.Get(&lsn, `select pg_current_wal_insert_lsn()::text`))
	primary.MustExec(`select pg_switch_wal()`) // so that the log is sent
	lab.WaitFor(t, func() bool {
		var there bool
		require.NoError(t, standby.Get(&there, `select pg_last_wal_replay_lsn() >= $1::pg_lsn`, lsn))
		return there
	})
}

// With synchronous_commit = off, a crash loses rows that were visible to everybody, and the
// server draws their keys again. Rows are delivered only when they are on disk.
func TestAsynchronousCommit(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "fsync=on", "-c", "wal_writer_delay=10s", "-c", "bgwriter_delay=10s", "-c", "autovacuum=off"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial primary key, _tx xid8 not null default pg_current_xact_id(), v text); create index on orders (_tx, id); checkpoint`)
	guarded := []*reading{follow(t, db, "id"), follow(t, db, "_tx", "id")}
	var delivered [2]int
	read := func(i int) int {
		r := guarded[i]
		b, err := r.table.Fetch(t.Context(), r.at, 1000)
		require.NoError(t, err)
		r.at, r.last = b.To, b
		delivered[i] += len(b.Records)
		return len(b.Records)
	}
	db.MustExec(`insert into orders (v) values ('kept')`)
	for i := range guarded {
		lab.WaitFor(t, func() bool { return read(i) == 1 })
	}

	taken := 0 // rows lost by crashes
	for range 10 {
		require.NoError(t, lab.Begin(t, db, `set local synchronous_commit = off`, `insert into orders (v) values ('async')`).Commit())
		var seen, kept int
		require.NoError(t, db.Get(&seen, `select count(*) from orders`))
		for i := range guarded {
			for range 3 {
				read(i)
			}
		}
		require.NoError(t, server.Kill())
		require.NoError(t, server.Start())
		lab.WaitFor(t, func() bool { return db.Get(&kept, `select count(*) from orders`) == nil })
		taken += seen - kept
		db.MustExec(`insert into orders (v) values ('sync')`)
		kept++
		for i := range guarded {
			lab.WaitFor(t, func() bool { read(i); return delivered[i] >= kept })
			require.Equal(t, kept, delivered[i], "every delivered row exists, and none is missed")
		}
	}
	require.Positive(t, taken, "no crash lost a row: the test shows nothing")
	t.Logf("10 crashes lost %d rows", taken)
}

// A row with a NULL key, which no statement returns, is reported also while the log is not
// flushed.
func TestNullKeyBeforeTheFlush(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "fsync=on", "-c", "wal_writer_delay=10s", "-c", "bgwriter_delay=10s", "-c", "autovacuum=off"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (a bigint not null, b bigint); create index on orders (a, b); insert into orders values (1, 1)`)
	table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"a", "b"}, Ceiling: ceiling.None{}}
	var first source.Batch[row.Row]
	lab.WaitFor(t, func() bool {
		var err error
		first, err = table.Fetch(t.Context(), "", 10)
		require.NoError(t, err)
		return len(first.Records) == 1
	})

	require.NoError(t, lab.Begin(t, db, `set local synchronous_commit = off`, `insert into orders values (1, null)`).Commit())
	_, err := table.Fetch(t.Context(), first.To, 10)
	lab.RequirePermanent(t, err, `"b" is NULL`)
}

// switching connects to the current one of several servers, like a data source name with
// several hosts.
type switching struct {
	driver driver.Driver
	dsn    atomic.Value
}

func (s *switching) Connect(context.Context) (driver.Conn, error) {
	return s.driver.Open(s.dsn.Load().(string))
}

func (s *switching) Driver() driver.Driver { return s.driver }

// A ceiling that serves several batches is valid only on the server where it was
// determined. The pool may switch to another server between them without an error.
func TestCeilingIsNotUsedOnAnotherServer(t *testing.T) {
	t.Parallel()
	primary := dbtest.StartPostgres(t)
	database := primary.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	lab.OrdersOf(db, 1000)
	other := dbtest.StartStandby(t, primary).Database(database.Name())
	there := other.Open(t, dbtest.PGX)
	there.MustExec(`select pg_promote()`)
	db.MustExec(`insert into orders (v) select 'v' from generate_series(1, 1000)`)

	servers := &switching{driver: db.Driver()}
	servers.dsn.Store(database.DSN(dbtest.PGX))
	pool := sqlx.NewDb(sql.OpenDB(servers), "pgx")
	defer pool.Close()
	pool.SetMaxIdleConns(0) // every Fetch opens a new connection
	r := follow(t, pool, "id")
	for range 2 {
		b, err := lab.Fetch(t, r.table, r.at, 500) // the server's own log records may not be on disk
		require.NoError(t, err)
		require.True(t, b.More)
		r.at = b.To
	}
	lab.Begin(t, there, `insert into orders (v) values ('late')`)
	there.MustExec(`insert into orders (v) select 'early' from generate_series(1, 900)`)
	servers.dsn.Store(other.DSN(dbtest.PGX))
	err := r.fails() // below the ceiling from the primary
	require.ErrorIs(t, err, sqlsource.ErrHistory)
	require.ErrorContains(t, err, "a standby was promoted")
}

// An open transaction that has written something leaves the end of the log in memory until
// somebody commits. Rows whose commits are on disk do not wait for that.
func TestCommitBeforeAnOpenTransaction(t *testing.T) {
	t.Parallel()
	// With this wal_level, the background writer writes nothing to the log either.
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "autovacuum=off", "-c", "checkpoint_timeout=1h"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(lab.Identity + `; create table others (v text)`)
	r := follow(t, db, "id")
	require.Empty(t, r.next())
	db.MustExec(`insert into orders (v) values ('committed')`)
	lab.Begin(t, db, `insert into others values ('open')`)
	var behind bool
	require.NoError(t, db.Get(&behind, `select pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()`))
	require.True(t, behind, "the whole log is on disk: the test shows nothing")
	require.Equal(t, []string{"1"}, r.next())
	require.NoError(t, db.Get(&behind, `select pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()`))
	require.True(t, behind)
	require.Empty(t, r.next()) // its cursor does not go beyond the rows on disk
}
