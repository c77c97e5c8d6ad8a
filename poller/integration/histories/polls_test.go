package histories

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// maxIdle is how many statements a poll with nothing new takes at most.
const maxIdle = 3

// idlePolls polls with nothing new, and then with a row.
func idlePolls(t *testing.T, p *pipeline, count func() int64, insert func(int)) {
	t.Helper()
	insert(300)
	for range 3 {
		require.NoError(t, p.poll())
		b, err := p.table.Fetch(t.Context(), p.cursor, 100) // after an asynchronous commit there is one more
		require.NoError(t, err)
		require.Nil(t, b.Held)
		before := count()
		_, err = p.table.Fetch(t.Context(), p.cursor, 100)
		require.NoError(t, err)
		require.LessOrEqual(t, count()-before, int64(maxIdle))
		require.NotEqual(t, before, count(), "they are counted")
		insert(1)
	}
}

type counter struct{ n atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestPostgresIdlePoll(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	run(t, db, createPostgres)
	config, err := pgx.ParseConfig(d.DSN(dbtest.PGX))
	require.NoError(t, err)
	c := &counter{}
	config.Tracer = c
	counted := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
	defer counted.Close()
	idlePolls(t, newPipeline(t, counted), c.n.Load, insertPostgres(t, db))
}

func TestMariaDBIdlePoll(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	db, counted := d.Open(t, dbtest.MySQL), d.Open(t, dbtest.MySQL)
	run(t, db, createMariaDB)
	counted.SetMaxOpenConns(1)
	own := int64(0)
	count := func() int64 {
		var name string
		var n int64
		require.NoError(t, counted.QueryRow("show session status like 'Questions'").Scan(&name, &n))
		own++ // counting is a statement, too
		return n - own
	}
	idlePolls(t, newPipeline(t, counted), count, insertMariaDB(t, db))
}

// countedConn counts the statements of an SQLite connection.
type countedConn struct {
	driver.Conn
	n *atomic.Int64
}

func (c countedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.n.Add(1)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c countedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.n.Add(1)
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

type countedConnector struct {
	driver driver.Driver
	dsn    string
	n      atomic.Int64
}

func (c *countedConnector) Driver() driver.Driver { return c.driver }
func (c *countedConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	return countedConn{conn, &c.n}, err
}

func TestSQLiteIdlePoll(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	db := d.Open(t, dbtest.Modernc)
	run(t, db, createSQLite)
	c := &countedConnector{driver: db.Driver(), dsn: d.DSN(dbtest.Modernc)}
	counted := sqlx.NewDb(sql.OpenDB(c), "sqlite")
	defer counted.Close()
	p := newPipeline(t, counted)
	p.table = lab.Silent(counted, "orders", "id")
	p.table.Dialect = sqlite.Dialect{}
	idlePolls(t, p, c.n.Load, func(n int) { run(t, db, fillSQLite("new", n)) })
}
