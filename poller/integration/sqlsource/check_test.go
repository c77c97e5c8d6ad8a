package sqlsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// checked is a Check with its text.
type checked struct {
	*sqlsource.Check
	t    *testing.T
	text string
}

type checkable interface {
	Check(context.Context, source.Cursor) (*sqlsource.Check, error)
}

func check(t *testing.T, of checkable, at source.Cursor) checked {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lab.WaitLimit)
	defer cancel()
	c, err := of.Check(ctx, at)
	require.NoError(t, err)
	return checked{c, t, c.String()}
}

// line requires a whole line of the text.
func (l checked) line(want string) {
	l.t.Helper()
	require.Contains(l.t, "\n"+l.text, "\n"+want+"\n")
}

// verdict requires the table, the level and the ceiling in the first line of the text.
func (l checked) verdict(level, strategy string) {
	l.t.Helper()
	require.Regexp(l.t, `^orders: `+level+`\b.*\b`+strategy+`\b`, l.text)
}

// finds requires a finding whose text matches.
func (l checked) finds(level ceiling.Level, pattern string) {
	l.t.Helper()
	for _, f := range append(l.Report.Findings, l.Findings...) {
		if f.Level == level && regexp.MustCompile(pattern).MatchString(f.Text) {
			require.Contains(l.t, lab.OneLine(l.text), string(level)+" "+lab.OneLine(f.Text))
			return
		}
	}
	require.Fail(l.t, "no such finding", "%s %s in:\n%s", level, pattern, l.text)
}

func TestCheckPostgres(t *testing.T) {
	const list = `CASE WHEN octet_length(t."v")::bigint > 8388608 THEN COALESCE(octet_length(t."v")::bigint, 0) END, t."id", CASE WHEN octet_length(t."v")::bigint <= 8388608 THEN t."v" END`
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.SetMaxOpenConns(2) // one for the writer, one for Check
		lab.OrdersOf(db, 20)
		db.MustExec(`update orders set v = 'hunter2'`)
		r := follow(t, db, "id")
		c := check(t, r.table, "")
		require.True(t, c.Safe(), c.text)
		c.verdict("SAFE", "lock-fence")
		c.finds(ceiling.OK, `^"id" is drawn by the sequence public\.orders_id_seq: CACHE 1`)
		c.finds(ceiling.OK, `by an index, in its order`)
		c.line("cursor   orders before the first row")
		c.line("newest   id = 20")
		c.line("pending  20 rows")
		c.line(`  SELECT ` + list + ` FROM "orders" AS t WHERE t."id" <= $1::bigint ORDER BY t."id" LIMIT 1025`)
		c.line("  -- argument 1: 20")
		c.line("    ->  Index Scan using orders_pkey on orders t")
		require.NotContains(t, c.text, "held")
		require.NotContains(t, c.text, "hunter2")

		require.Len(t, r.next(), 20)
		c = check(t, r.table, r.at)
		require.True(t, c.Safe(), c.text)
		c.finds(ceiling.OK, `^the cursor belongs to this database's history \(cluster \d+, timeline 1, database \d+, table \d+\)`)
		c.line("pending  0 rows")
		require.WithinDuration(t, time.Now(), c.AsOf, time.Hour)
		c.line(`  SELECT ` + list + ` FROM "orders" AS t WHERE t."id" > $1 AND t."id" <= $2::bigint ORDER BY t."id" LIMIT 1025`)

		at, err := r.table.At(7)
		require.NoError(t, err)
		c = check(t, r.table, at)
		require.True(t, c.Safe())
		c.finds(ceiling.Note, "database's history")
		c.line("cursor   orders after id = 7")
		c.line("pending  13 rows")

		tx := lab.Begin(t, db, `set local application_name = 'night shift'`, `insert into orders (v) values ('v')`)
		db.MustExec(`insert into orders (v) select 'v' from generate_series(1, 10500)`)
		c = check(t, r.table, r.at)
		require.True(t, c.Safe(), "rows held back are not unsafe")
		require.Regexp(t, `\nheld     rows are held back by pid \d+ \(night shift\), open for \S+s; seen since`, c.text)
		require.NotNil(t, c.Held)
		c.line("pending  more than 10000 rows")
		require.NoError(t, tx.Rollback())

		db.MustExec(`alter sequence orders_id_seq cache 50`)
		c = check(t, r.table, r.at)
		require.False(t, c.Safe())
		c.verdict("UNSAFE", "lock-fence")
		c.finds(ceiling.Unsafe, "has CACHE 50")
		c.line("             ALTER SEQUENCE public.orders_id_seq CACHE 1;")
		c.line(`  SELECT ` + list + ` FROM "orders" AS t WHERE t."id" > $1 ORDER BY t."id" LIMIT 1025`)

		r.table = &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}}
		c = check(t, r.table, r.at)
		require.False(t, c.Safe())
		c.verdict("LOSSY", "none")
	})
}

// A role that may only read, in a read-only session, is sufficient.
func TestCheckWritesNothing(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	lab.OrdersOf(db, 3)
	db.MustExec(`create role check_reader login password 'x'; grant select on orders to check_reader; alter role check_reader set default_transaction_read_only = on`)
	t.Cleanup(func() { db.MustExec(`drop owned by check_reader; drop role check_reader`) })
	reader := database.WithUser("check_reader", "x").Open(t, dbtest.PGX)
	reader.SetMaxOpenConns(1)
	c := check(t, follow(t, reader, "id").table, "")
	require.True(t, c.Safe(), c.text)
	c.finds(ceiling.Warning, "may not read the sequence")
	c.line(`             GRANT SELECT ON SEQUENCE public.orders_id_seq TO check_reader;`)
	var settings []string
	require.NoError(t, reader.Select(&settings, `select current_setting(s) from unnest('{enable_seqscan,enable_sort}'::text[]) s`))
	require.Equal(t, []string{"on", "on"}, settings, "settings of the connection that Check used")
}

// A plan is reported if its cost grows with the table, even while the table is small.
func TestCheckPlanPostgres(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		lab.OrdersOf(db, 3)
		db.MustExec(`create table lines (at timestamptz not null default clock_timestamp(), id bigint not null, customer bigint not null)`)
		db.MustExec(`create table customers (id bigint primary key, email text)`)
		db.MustExec(`insert into lines (id, customer) values (1, 1), (2, 1); insert into customers values (1, 'ada')`)
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		type row struct {
			ID int64
			N  *int64
		}
		run := func(q *sqlsource.Query[row], slow bool) checked {
			t.Helper()
			log.Reset()
			q.DB, q.Ceiling, q.Logger = db, ceiling.None{}, logger
			lab.WaitFor(t, func() bool { // the log of the shared server may not be on disk
				b, err := q.Fetch(t.Context(), "", 1)
				require.NoError(t, err)
				return len(b.Records) > 0
			})
			require.Equal(t, slow, strings.Contains(log.String(), `msg="inefficient query plan"`), "%s", &log)
			require.Contains(t, log.String(), "ceiling=none")
			_, err := q.Fetch(t.Context(), "", 1)
			require.NoError(t, err)
			require.LessOrEqual(t, strings.Count(log.String(), `msg="inefficient query plan"`), 1)
			at, err := q.At(make([]any, 0)...)
			require.NoError(t, err)
			if len(q.Key) == 1 {
				at, err = q.At(0)
				require.NoError(t, err)
			}
			c := check(t, q, at)
			if slow {
				c.finds(ceiling.Warning, "table grows")
				require.Equal(t, -1, c.Pending)
				require.Empty(t, c.Newest)
				c.line("pending  not counted")
			} else {
				c.finds(ceiling.OK, "by an index, in its order")
				require.NotEmpty(t, c.Newest)
			}
			return c
		}
		run(&sqlsource.Query[row]{Select: `select id from orders`, Key: []string{"id"}, Table: "orders"}, false)
		run(&sqlsource.Query[row]{Select: `select o.id from orders o join customers c on c.id = o.id`, Key: []string{"id"}, Table: "orders"}, false)
		c := run(&sqlsource.Query[row]{Select: `select (id::text)::bigint as id from orders`, Key: []string{"id"}, Table: "orders"}, true)
		c.finds(ceiling.Warning, `\(Sort`)
		run(&sqlsource.Query[row]{Select: `select id from lines`, Key: []string{"id"}, Table: "lines"}, true)
		db.MustExec(`create table kinds (id bigint, kind text); insert into kinds values (1, 'a'), (2, 'b')`)
		c = run(&sqlsource.Query[row]{Select: `select o.id from orders o join kinds k on k.id = o.id`, Key: []string{"id"}, Table: "orders"}, true)
		c.finds(ceiling.Warning, `reads the whole of a table \(Seq Scan on kinds k\)`)
		// In the right order, but scanned from the first row.
		c = run(&sqlsource.Query[row]{Select: `select id, count(*) over (order by id) - 1 as n from orders`, Key: []string{"id"}, Table: "orders"}, true)
		c.finds(ceiling.Warning, "from the first one on")

		table := &sqlsource.Table{DB: db, Name: "lines", Key: []string{"at", "id"}, Ceiling: ceiling.None{}}
		check(t, table, "").finds(ceiling.Warning, `\(Sort, Seq Scan on lines t\)`)
		db.MustExec(`create index on lines (at)`)
		check(t, table, "").finds(ceiling.Warning, `\(Incremental Sort\)`)
		db.MustExec(`create index on lines (at, id)`)
		check(t, table, "").finds(ceiling.OK, "by an index")
		db.MustExec(`create table parts (id bigint generated always as identity primary key) partition by range (id)`)
		for i := range 3 {
			db.MustExec(fmt.Sprintf(`create table parts%d partition of parts for values from (%d) to (%d)`, i, i*100, i*100+100))
		}
		check(t, &sqlsource.Table{DB: db, Name: "parts", Key: []string{"id"}}, "").finds(ceiling.OK, "by an index")
	})
}

func TestCheckErrors(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	lab.OrdersOf(db, 3)
	_, err := (&sqlsource.Table{DB: db, Name: "nosuchtable", Key: []string{"id"}}).Check(t.Context(), "")
	require.ErrorContains(t, err, "nosuchtable")
	require.Equal(t, retry.Setup, retry.Classify(err))
	_, err = (&sqlsource.Query[struct{ ID int64 }]{DB: db, Select: `select id, v from orders`, Key: []string{"id"}, Table: "orders"}).Check(t.Context(), "")
	lab.RequirePermanent(t, err, `no field for the column "v"`)
	_, err = (&sqlsource.Table{DB: db, Name: "orders"}).Check(t.Context(), "")
	lab.RequirePermanent(t, err, "Key is empty")

	c := check(t, &sqlsource.Query[struct{ ID int64 }]{DB: db, Select: `select id from orders`, Key: []string{"id"}}, "")
	require.False(t, c.Safe())
	c.finds(ceiling.Unsafe, "no table is named")

	db.MustExec(`create view recent as select distinct id, v from orders; create table loose (id bigint generated by default as identity, v text); insert into loose values (1, 'x')`)
	c = check(t, &sqlsource.Table{DB: db, Name: "recent", Key: []string{"id"}}, "")
	require.False(t, c.Safe())
	c.finds(ceiling.Unsafe, "is a view")
	c = check(t, &sqlsource.Table{DB: db, Name: "loose", Key: []string{"id"}}, "")
	c.finds(ceiling.Note, "no unique index")
	c.finds(ceiling.Warning, "no index begins with the key")

	// Counts that would take long are omitted, and Check reserves half of its time for
	// them. A busy machine may need more time for the rest.
	slow := follow(t, db, "id").table
	slow.Where = "pg_sleep(60) is not null"
	var left *sqlsource.Check
	for limit := 2 * time.Second; left == nil; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		left, err = slow.Check(ctx, "")
		cancel()
		if limit > lab.WaitLimit || !errors.Is(err, context.DeadlineExceeded) {
			require.NoError(t, err)
		}
	}
	require.True(t, left.Safe())
	require.Contains(t, left.String(), "pending  not counted")
	require.Contains(t, lab.OneLine(left.String()), "not counted")

	late := follow(t, db, "id").table
	late.Start = sqlsource.Latest
	c = check(t, late, "")
	c.line("pending  not counted")
	c.line("newest   id = 3")

	lab.Begin(t, db, `lock table orders in access exclusive mode`)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = follow(t, db, "id").table.Check(ctx, "")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A key that does not fit its column is reported as an error of the cursor.
func TestCheckInvalidKey(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id bigint primary key, v varchar(10))`)
		db.MustExec(`insert into orders values (1, 'x')`)
		table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}}
		at, err := table.At("seven")
		require.NoError(t, err)
		c := check(t, table, at)
		require.False(t, c.Safe())
		c.finds(ceiling.Unsafe, `id`)
		require.Contains(t, lab.OneLine(c.text), "rewind")
		c.line("cursor   orders after id = \"seven\"")
		c.line("pending  not counted")
		require.Contains(t, c.Statement, "ORDER BY")
	})
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	lab.OrdersOf(db, 1)
	table := lab.Silent(db, "orders", "id")
	at, err := table.At("seven")
	require.NoError(t, err)
	c := check(t, table, at)
	require.False(t, c.Safe())
	c.finds(ceiling.Unsafe, `is not an integer`)
	c.finds(ceiling.OK, `is drawn by the sequence`)
}

func TestCheckSQLite(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			db := dbtest.SQLite(t).Open(t, driver)
			db.SetMaxOpenConns(1)
			db.MustExec(`create table orders (id integer primary key autoincrement, at text not null, v text)`)
			db.MustExec(`insert into orders (at, v) values ('a', 'hunter2'), ('b', 'hunter2'), ('c', 'hunter2')`)
			r := follow(t, db, "id")
			require.Len(t, r.next(), 3)
			db.MustExec(`insert into orders (at) values ('d')`)
			c := check(t, r.table, r.at)
			require.True(t, c.Safe(), c.text)
			c.verdict("SAFE", "single-writer")
			c.line("cursor   orders after id = 3")
			c.line("newest   id = 4")
			c.line("pending  1 row")
			c.line(`  SELECT CASE WHEN octet_length(t."at") > 8388608 OR octet_length(t."v") > 8388608 THEN COALESCE(octet_length(t."at"), 0) + COALESCE(octet_length(t."v"), 0) END, ` +
				`+t."id", CASE WHEN octet_length(t."at") <= 8388608 THEN +t."at" END, CASE WHEN octet_length(t."v") <= 8388608 THEN +t."v" END FROM "orders" AS t WHERE t."id" > ? ORDER BY t."id" LIMIT 1025`)
			c.line("  SEARCH t USING INTEGER PRIMARY KEY (rowid>?)")
			c.finds(ceiling.OK, "by an index")
			require.NotContains(t, c.text, "hunter2")

			table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"at", "id"}, Ceiling: ceiling.None{}}
			c = check(t, table, "")
			require.False(t, c.Safe())
			c.finds(ceiling.Warning, "USE TEMP B-TREE FOR ORDER BY")
			require.Equal(t, -1, c.Pending)
			db.MustExec(`create index orders_at on orders (at)`)
			c = check(t, table, "")
			c.finds(ceiling.OK, "by an index")
			c.line(`newest   at = "d", id = 4`)
			at, err := table.At("b", 2)
			require.NoError(t, err)
			c = check(t, table, at)
			c.finds(ceiling.OK, "by an index")
			c.line("pending  2 rows")
		})
	}
}

func TestCheckMariaDB(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.MySQL, dbtest.MySQLText} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			db := dbtest.MariaDB(t).NewDatabase(t).Open(t, driver)
			db.MustExec(`create table orders (id bigint auto_increment primary key, at datetime(6) not null, v text)`)
			db.MustExec(`insert into orders (at, v) select '2026-01-31 12:00:00', 'hunter2' from seq_1_to_5`)
			table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}}
			at, err := table.At(2)
			require.NoError(t, err)
			c := check(t, table, at)
			require.False(t, c.Safe())
			c.line("cursor   orders after id = 2")
			c.line("newest   id = 5")
			c.line("pending  3 rows")
			c.finds(ceiling.OK, "by an index")
			require.Regexp(t, `(?m)^  .* table=t type=range .*key=PRIMARY`, c.text)
			require.NotContains(t, c.text, "hunter2")

			table = &sqlsource.Table{DB: db, Name: "orders", Key: []string{"at", "id"}, Ceiling: ceiling.None{}}
			c = check(t, table, "")
			c.finds(ceiling.Note, "so few that no index is used")
			if driver == dbtest.MySQLText {
				return // the rest needs many rows and depends on the server
			}
			db.MustExec(`insert into orders (at, v) select '2026-02-01' + interval seq second, 'hunter2' from seq_1_to_200000`)
			db.MustExec(`analyze table orders`)
			c = check(t, table, "")
			c.finds(ceiling.Warning, "Using filesort")
			require.Equal(t, -1, c.Pending)
			db.MustExec(`create index orders_at on orders (at, id)`)
			at, err = table.At("2026-02-02", 3)
			require.NoError(t, err)
			c = check(t, table, at)
			c.finds(ceiling.OK, "by an index")
			c.line("pending  more than 10000 rows")
		})
	}
}

// A connection that prepared the same statement before the columns changed.
func TestCheckAfterColumnsChanged(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.SetMaxOpenConns(1)
	db.MustExec(lab.Identity)
	r := follow(t, db, "id")
	_, err := r.table.Check(t.Context(), "")
	require.NoError(t, err)
	db.MustExec(`alter table orders add column w int`)
	_, err = r.table.Check(t.Context(), "")
	require.NoError(t, err)
}
