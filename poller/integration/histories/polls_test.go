package histories

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// maxIdle is how many statements a poll with nothing new takes at most.
const maxIdle = 3

// idlePolls polls with nothing new, and then with a row, with each of the ceilings.
func idlePolls(t *testing.T, tables []*sqlsource.Table, count func() int64, insert func(int)) {
	t.Helper()
	all := 0
	add := func(n int) { insert(n); all += n }
	for _, table := range tables {
		t.Run(fmt.Sprintf("%v by %s of %s%s", table.Ceiling, strings.Join(table.Key, ","), table.Name, table.Select), func(t *testing.T) {
			add(300)
			at, rows := source.Cursor(""), 0
			idle, one := int64(math.MaxInt64), int64(0) // once in five seconds a poll also compares the tables
			fetch := func() (source.Batch[row.Row], int64) {
				before := count()
				b, err := table.Fetch(t.Context(), at, 100)
				require.NoError(t, err)
				at, rows = b.To, rows+len(b.Records)
				return b, count() - before
			}
			for range 3 {
				lab.WaitFor(t, func() bool { // until a poll finds nothing new, and nothing is held
					b, n := fetch()
					if len(b.Records) == 1 {
						one = n
					}
					return rows == all && len(b.Records) == 0 && b.Held == nil
				})
				b, n := fetch()
				require.Empty(t, b.Records)
				idle = min(idle, n)
				add(1)
			}
			t.Logf("%d statements with nothing new, %d with a row", idle, one)
			require.Positive(t, idle, "they are counted")
			require.LessOrEqual(t, idle, int64(maxIdle))
		})
	}
}

// lossy are tables with each of the ceilings for all databases that take the key. They wait so shortly that nobody notices.
func lossy(db *sqlx.DB) []*sqlsource.Table {
	return []*sqlsource.Table{
		orders(db, nil, "id"), orders(db, ceiling.None{}, "id"), orders(db, ceiling.Grace{For: time.Millisecond}, "id"),
	}
}

func orders(db *sqlx.DB, c ceiling.Ceiling, key ...string) *sqlsource.Table {
	table := lab.Silent(db, "orders", key...)
	table.Ceiling = c
	return table
}

// indirect adds, to each of the tables, a view of it, which it creates, and a Select.
func indirect(t *testing.T, db *sqlx.DB, tables ...*sqlsource.Table) (all []*sqlsource.Table) {
	run(t, db, `create view above as select * from orders`)
	for _, table := range tables {
		view, joined := orders(table.DB, table.Ceiling, table.Key...), orders(table.DB, table.Ceiling, table.Key...)
		view.Name, joined.Select = "above", "select o.* from orders o join orders p on p.id = o.id"
		view.Dialect, joined.Dialect = table.Dialect, table.Dialect
		all = append(all, table, view, joined)
	}
	return all
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
	run(t, db, createPostgres, `alter table orders add _tx xid8 not null default pg_current_xact_id()`, `create index on orders (_tx, id)`, `create index on orders (at, id)`)
	config, err := pgx.ParseConfig(d.DSN(dbtest.PGX))
	require.NoError(t, err)
	c := &counter{}
	config.Tracer = c
	counted := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
	defer counted.Close()
	idlePolls(t, indirect(t, db, append(lossy(counted), orders(counted, postgres.TransactionID{}, "_tx", "id"), orders(counted, postgres.Stamp{}, "at", "id"),
		orders(counted, ceiling.Stamp{Margin: time.Microsecond}, "at", "id"))...), c.n.Load, insertPostgres(t, db))
}

func TestMariaDBIdlePoll(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	db, counted := d.Open(t, dbtest.MySQL), d.Open(t, dbtest.MySQL)
	run(t, db, createMariaDB, `create index by_at on orders (at, id)`)
	counted.SetMaxOpenConns(1)
	own := int64(0)
	count := func() int64 {
		var name string
		var n int64
		require.NoError(t, counted.QueryRow("show session status like 'Questions'").Scan(&name, &n))
		own++ // counting is a statement, too
		return n - own
	}
	idlePolls(t, indirect(t, db, append(lossy(counted), orders(counted, ceiling.Stamp{Margin: time.Microsecond, Zone: "UTC"}, "at", "id"))...), count, insertMariaDB(t, db))
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
	tables := lossy(counted)
	for _, table := range tables {
		table.Dialect = sqlite.Dialect{}
	}
	idlePolls(t, indirect(t, db, tables...), c.n.Load, func(n int) { run(t, db, fillSQLite("new", n)) })
}

// A backlog of a table takes one statement for each batch, whatever the types of its columns, and a poll with one row takes four.
func TestPostgresBacklog(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	run(t, db, `create domain code as varchar(7)`, `create type mood as enum ('ok', 'bad')`,
		`create table orders (id bigint generated always as identity primary key, at timestamptz not null default now(), a varchar(10) default 'a', b char(4) default 'b',
			c numeric(8,3) default 1.5, d bit(5) default '10101', e varbit(9) default '1', f timestamp(3) default now(), g interval day to second default '1s', h code default 'h',
			i mood default 'ok', j json default '{}', k point default '(1,2)', l int[] default '{1}', m varchar(3)[] default '{x}', n "char" default 'n', o name default 'o',
			p time(0) default '12:00', q text collate "C" default 'q', r real default 0.1, s uuid default gen_random_uuid(), t xid8 default '7', u oidvector default '1 2')`,
		`insert into orders (at) select now() from generate_series(1, 500)`)
	config, err := pgx.ParseConfig(d.DSN(dbtest.PGX))
	require.NoError(t, err)
	c := &counter{}
	config.Tracer = c
	counted := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
	defer counted.Close()
	table, at := orders(counted, nil, "id"), source.Cursor("")
	fetch := func(limit int) (rows int, more bool, statements int64) {
		before := c.n.Load()
		b, err := table.Fetch(t.Context(), at, limit)
		require.NoError(t, err)
		at = b.To
		return len(b.Records), b.More, c.n.Load() - before
	}
	lab.WaitFor(t, func() bool { // until all commits below the ceiling are on disk; somebody else may commit at any time
		rows, more, n := fetch(50)
		if !more {
			at = ""
		}
		return rows == 50 && n == 1
	})
	for more := true; more; _, more, _ = fetch(50) {
	}
	lab.WaitFor(t, func() bool {
		run(t, db, `insert into orders default values`)
		rows, _, n := fetch(50)
		return rows == 1 && n <= 4
	})
}
