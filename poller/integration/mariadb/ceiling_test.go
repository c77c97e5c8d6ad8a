package mariadb

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// eachMariaDB runs a test with both settings of the driver, in a database with a table t
// that the dirty probe accepts.
func eachMariaDB(t *testing.T, f func(t *testing.T, db *sqlx.DB)) {
	t.Helper()
	for _, driver := range []dbtest.Driver{dbtest.MySQL, dbtest.MySQLText} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			db := dbtest.MariaDB(t).NewDatabase(t).Open(t, driver)
			db.MustExec("create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique, wait double not null default 0)")
			f(t, db)
		})
	}
}

// reader polls the table t with the dirty probe, and concurrently with a naive reader that
// reads every row it sees.
type reader struct {
	t             *testing.T
	guarded       *sqlsource.Table
	naive         *sqlsource.Table
	after, last   source.Cursor
	got, naiveIDs []string
	held          *source.Held
}

func newReader(t *testing.T, db *sqlx.DB) *reader {
	quiet := slog.New(slog.DiscardHandler)
	return &reader{t: t,
		guarded: &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Logger: quiet},
		naive:   &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Logger: quiet, Ceiling: ceiling.None{}},
	}
}

// poll reads everything available with both readers.
func (r *reader) poll() {
	r.t.Helper()
	r.after, r.held = lab.PollOnce(r.t, r.guarded, r.after, &r.got)
	r.last, _ = lab.PollOnce(r.t, r.naive, r.last, &r.naiveIDs)
}

// pollUntil polls until the probe's reader has read these ids, in this order.
func (r *reader) pollUntil(ids ...string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { r.poll(); return len(r.got) >= len(ids) && r.held == nil }, 30*time.Second, 5*time.Millisecond)
	require.Equal(r.t, ids, r.got)
}

// session is a connection that can run a statement in the background.
type session struct {
	t    *testing.T
	conn *sql.Conn
	id   int64
	done chan error
}

func newSession(t *testing.T, db *sqlx.DB) *session {
	t.Helper()
	conn, err := db.DB.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	s := &session{t: t, conn: conn}
	s.exec("set innodb_lock_wait_timeout = 5")
	require.NoError(t, conn.QueryRowContext(t.Context(), "select connection_id()").Scan(&s.id))
	return s
}

func (s *session) exec(statements ...string) {
	s.t.Helper()
	for _, q := range statements {
		_, err := s.conn.ExecContext(s.t.Context(), q)
		require.NoError(s.t, err, q)
	}
}

// start starts a statement, and returns when the server shows it in the given state.
func (s *session) start(db *sqlx.DB, statement, state string) {
	s.t.Helper()
	s.done = make(chan error, 1)
	go func() {
		_, err := s.conn.ExecContext(context.WithoutCancel(s.t.Context()), statement)
		s.done <- err
	}()
	require.Eventually(s.t, func() bool {
		var n int
		require.NoError(s.t, db.Get(&n, "select count(*) from information_schema.processlist where id = ? and state = ?", s.id, state))
		return n == 1
	}, 30*time.Second, 5*time.Millisecond, "%s is not in the state %q", statement, state)
}

// end waits for the statement that start started.
func (s *session) end() { s.t.Helper(); require.NoError(s.t, <-s.done) }

// A row that was inserted first and committed last: the naive reader misses it.
func TestCeilingMariaDBCommitOrder(t *testing.T) {
	t.Parallel()
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		r, a, b := newReader(t, db), newSession(t, db), newSession(t, db)
		r.poll()
		a.exec("begin", "insert into t (v) values ('a')")
		b.exec("insert into t (v) values ('b')")
		r.poll()
		require.Equal(t, []string{"2"}, r.naiveIDs)
		require.Empty(t, r.got)
		require.NotNil(t, r.held)
		a.exec("commit")
		r.pollUntil("1", "2")
		require.Equal(t, []string{"2"}, r.naiveIDs, "the naive reader must lose a row, or the test shows nothing")

		a.exec("begin", "insert into t (v) values ('c')") // id 3, which becomes a gap
		b.exec("insert into t (v) values ('d')")
		r.poll()
		require.Equal(t, []string{"1", "2"}, r.got)
		a.exec("rollback")
		r.pollUntil("1", "2", "4")
	})
}
