package pglog_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
)

// tracer calls functions before and after each statement of pgx. The second one gets the number of its rows.
type tracer struct {
	before func(query string)
	after  func(query string, rows int64)
}

// traced opens a database with a tracer.
func traced(t *testing.T, d dbtest.Database, tr tracer) *sqlx.DB {
	t.Helper()
	config, err := pgx.ParseConfig(d.DSN(dbtest.PGX))
	require.NoError(t, err)
	config.Tracer = tr
	db := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
	t.Cleanup(func() { db.Close() })
	return db
}

type tracedQuery struct{} // the key of a statement in its context

func (tr tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if tr.before != nil {
		tr.before(q.SQL)
	}
	return context.WithValue(ctx, tracedQuery{}, q.SQL)
}

func (tr tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryEndData) {
	if query, ok := ctx.Value(tracedQuery{}).(string); ok && tr.after != nil {
		tr.after(query, q.CommandTag.RowsAffected())
	}
}

// stall opens a database, through a pooler if d says so. The first statement that reads the log waits for a lock that
// writer takes then. ended says that such a statement has ended.
func stall(t *testing.T, d dbtest.Database, writer *sql.Tx) (db *sqlx.DB, ended *atomic.Bool) {
	t.Helper()
	var once sync.Once
	ended = &atomic.Bool{}
	return traced(t, d, tracer{
		before: func(query string) {
			if strings.Contains(query, "peek") {
				once.Do(func() {
					_, err := writer.Exec(`lock table pg_publication in access exclusive mode`)
					assert.NoError(t, err)
				})
			}
		},
		after: func(query string, _ int64) {
			if strings.Contains(query, "peek") {
				ended.Store(true)
			}
		},
	}), ended
}

// decoder finds the session that reads the log of a database, by a condition.
func decoder(db *sqlx.DB, d dbtest.Database, condition string) (pid int) {
	_ = db.Get(&pid, `select pid from pg_stat_activity where datname = $1 and pid <> pg_backend_pid() and query like '%peek%' and `+condition, d.Name())
	return pid
}

// A pipeline survives a session that ends. The next Fetch goes on, and nothing is missing or comes twice.
func TestSessionIsTerminated(t *testing.T) {
	t.Parallel()
	server := start(t)
	t.Run("before the first row", func(t *testing.T) {
		t.Parallel()
		d := server.NewDatabase(t)
		direct := d.Open(t, dbtest.PGX)
		direct.MustExec(`create table t (id int primary key); create publication p for table t`)
		writer := lab.Begin(t, direct)
		db, _ := stall(t, d, writer)
		s := open(t, db)
		s.SkipCopy = true
		direct.MustExec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, s.Slot)
		direct.MustExec(`insert into t values (1), (2)`)
		done := make(chan error, 1)
		go func() { done <- fetch(s, "") }()
		var pid int
		lab.WaitFor(t, func() bool { pid = decoder(direct, d, `wait_event_type = 'Lock'`); return pid != 0 })
		direct.MustExec(`select pg_terminate_backend($1)`, pid)
		err := <-done
		require.ErrorContains(t, err, "57P01")
		assert.NotEqual(t, retry.Fatal, retry.Classify(err))
		require.NoError(t, writer.Rollback())
		got, _ := read(t, s, "", 10)
		assert.Equal(t, []string{"insert public.t {1} {1} -", "insert public.t {2} {2} -"}, texts(t, got))
	})
	t.Run("while rows are read", func(t *testing.T) {
		t.Parallel()
		d := server.NewDatabase(t)
		db := d.Open(t, dbtest.PGX)
		db.MustExec(`create table t (id int primary key, v text); alter table t alter v set storage external; create publication p for table t`)
		s := open(t, db)
		_, at := read(t, s, "", 10)
		db.MustExec(`insert into t select i, repeat('x', 200000) from generate_series(1, 100) i`)
		b, err := lab.Fetch(t, s, at, 1)
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
		var pid int
		lab.WaitFor(t, func() bool { pid = decoder(db, d, `wait_event = 'ClientWrite'`); return pid != 0 }) // the sockets are full
		db.MustExec(`select pg_terminate_backend($1)`, pid)
		failed := 0
		for n := 2; n <= 100; {
			next, err := lab.Fetch(t, s, b.To, 1)
			if err != nil {
				failed++
				require.Equal(t, 1, failed, "%v", err)
				assert.NotEqual(t, retry.Fatal, retry.Classify(err))
				continue
			}
			require.Len(t, next.Records, 1)
			require.Equal(t, fmt.Sprint(n), next.Records[0].Key.Text(0))
			n, b = n+1, next
		}
		assert.Equal(t, 1, failed)
	})
}

// struck is a connector whose statements that contain a text fail, as if a limit of the server ended them.
type struck struct {
	driver.Connector
	text *atomic.Value // string; "": none
}

func (s struck) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := s.Connector.Connect(ctx)
	return struckConn{conn, s.text}, err
}

type struckConn struct {
	driver.Conn
	text *atomic.Value
}

func (c struckConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if text := c.text.Load().(string); text != "" && strings.Contains(query, text) {
		query, args = `do $$ begin raise 'canceling statement due to statement timeout' using errcode = '57014'; end $$`, nil
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

// A limit can strike any statement of a transaction, and the ROLLBACK itself. The pool gets no connection back whose
// transaction is aborted: lib/pq would use it again.
func TestLimitStrikes(t *testing.T) {
	t.Parallel()
	d := start(t).NewDatabase(t)
	direct := d.Open(t, dbtest.PGX)
	direct.MustExec(`create table t (id int primary key); create publication p for table t`)
	connector, err := pq.NewConnector(d.DSN(dbtest.PQ))
	require.NoError(t, err)
	var text atomic.Value
	text.Store("")
	db := sqlx.NewDb(sql.OpenDB(struck{connector, &text}), "postgres")
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(2)
	n := 0
	insert := func() { n++; direct.MustExec(`insert into t values ($1)`, n) }
	for _, part := range []string{"ROLLBACK", "SELECT set_config(name", "SELECT set_config('jit'", "peek", "pg_replication_slot_advance"} {
		s := open(t, db)
		s.SkipCopy = true
		_, at := read(t, s, "", 10)
		insert()
		got, err := lab.Fetch(t, s, at, 10)
		require.NoError(t, err)
		s.Saved(got.To) // so that the next Fetch advances the slot
		all, at := got.Records, got.To
		insert()
		text.Store(part)
		for range 3 {
			b, err := s.Fetch(t.Context(), at, 10)
			if err != nil {
				assert.NotEqual(t, retry.Fatal, retry.Classify(err), "%s: %v", part, err)
				continue
			}
			all, at = append(all, b.Records...), b.To
		}
		text.Store("")
		rest, _ := read(t, s, at, 10)
		all = append(all, rest...)
		assert.Equal(t, []string{fmt.Sprintf("insert public.t {%d} {%[1]d} -", n-1), fmt.Sprintf("insert public.t {%d} {%[1]d} -", n)}, texts(t, all), part)
		require.NoError(t, s.Close())
	}
}
