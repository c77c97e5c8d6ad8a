package histories

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A table is emptied and filled again while a backlog is read: between two batches below one ceiling.
func TestReplacedBelowAnOpenCeiling(t *testing.T) {
	t.Parallel()
	postgres := func(t *testing.T) *sqlx.DB { return dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ) }
	mariaDB := func(t *testing.T) *sqlx.DB { return dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL) }
	for name, c := range map[string]struct {
		open              func(t *testing.T) *sqlx.DB
		create, fill, cut string
	}{
		"postgres": {postgres, `create table orders (id serial primary key, name text, amount int)`,
			`insert into orders (name, amount) select md5(random()::text), floor(random() * 1000000) from generate_series(1, %d)`, `truncate orders restart identity`},
		"postgres, few values": {postgres, `create table orders (id serial primary key, state text, kind bool)`,
			`insert into orders (state, kind) select 's' || floor(random() * 3), random() < 0.5 from generate_series(1, %d)`, `truncate orders restart identity`},
		"mariadb": {mariaDB, `create table orders (id int auto_increment primary key, name varchar(40), amount int)`,
			`insert into orders (name, amount) select uuid(), floor(rand() * 1000000) from seq_1_to_%d`, `truncate orders`},
		"sqlite": {func(t *testing.T) *sqlx.DB { return dbtest.SQLite(t).Open(t, dbtest.Modernc) },
			`create table orders (id integer primary key autoincrement, name text, amount int)`,
			`insert into orders (name, amount) with recursive s(n) as (select 1 union all select n + 1 from s where n < %d) select hex(randomblob(8)), abs(random()) from s`,
			`drop table orders; create table orders (id integer primary key autoincrement, name text, amount int)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := c.open(t)
			run(t, db, c.create, fmt.Sprintf(c.fill, 2000))
			p := newPipeline(t, db)
			table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Logger: slog.New(slog.NewTextHandler(&p.log, nil))}
			cursor := p.cursor
			fetched := 0
			lab.WaitFor(t, func() bool { // the commit is asynchronous
				b, err := table.Fetch(t.Context(), cursor, 100)
				require.NoError(t, err)
				cursor = b.To
				fetched += len(b.Records)
				return fetched == 200
			})
			run(t, db, c.cut, fmt.Sprintf(c.fill, 3000))
			b, err := table.Fetch(t.Context(), cursor, 100)
			require.NoError(t, err)
			require.Empty(t, b.Records)
			_, err = table.Fetch(t.Context(), b.To, 100)
			require.ErrorIs(t, err, sqlsource.ErrHistory, p.log.String())
		})
	}
}

// few is a table in which no column tells rows apart.
const few = `create table orders (id integer primary key autoincrement, state text, kind int, flag int)`

func fillFew(n int) string {
	return fmt.Sprintf(`insert into orders (state, kind, flag) with recursive s(n) as (select 1 union all select n + 1 from s where n < %d)
		select 's' || abs(random()) %% 3, abs(random()) %% 2, abs(random()) %% 2 from s`, n)
}

// Rows are replaced under the same keys, and nothing of the table or the file changes. That is a warning.
func TestReplacedWithoutAMark(t *testing.T) {
	t.Parallel()
	wide := `create table orders (id integer primary key autoincrement, token text not null default (hex(randomblob(8))), state text, total int)`
	for name, c := range map[string]struct {
		create string
		fill   func(n int) string
	}{
		"few values": {few, fillFew},
		"tokens":     {wide, func(n int) string { return fillSQLite("new", n) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "a.db")
			open := func() *sqlx.DB {
				db := sqlx.MustOpen(dbtest.Modernc.SQLName(), "file:"+file)
				t.Cleanup(func() { db.Close() })
				return db
			}
			db := open()
			run(t, db, c.create, c.fill(3000))
			backup, err := os.ReadFile(file)
			require.NoError(t, err)
			run(t, db, c.fill(200))
			p := newPipeline(t, db)
			p.column = "id"
			require.NoError(t, p.poll())
			db.Close()
			require.NoError(t, os.WriteFile(file, backup, 0o600)) // as cp does: it is the same file
			db = open()
			run(t, db, c.fill(500))
			p.db = db
			p.restart()
			require.NoError(t, p.poll())
			require.Contains(t, p.log.String(), "delivered rows changed")
			require.Contains(t, p.log.String(), "rewind")
		})
	}
}

// Edits of single rows, whatever they change, neither stop a pipeline nor blind it.
func TestEditedAndThenReplaced(t *testing.T) {
	t.Parallel()
	const create = `create table orders (id int auto_increment primary key, token varchar(80), email varchar(80))`
	fill := func(n int) string {
		return fmt.Sprintf(`insert into orders (token, email) select uuid(), concat(uuid(), '@example.com') from seq_1_to_%d`, n)
	}
	db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
	run(t, db, create, fill(1000))
	p := newPipeline(t, db)
	require.NoError(t, p.poll())
	run(t, db, `update orders set token = 'anonymous', email = '' where id = 1000`, fill(1))
	require.NoError(t, p.poll())
	run(t, db, `update orders set token = 'nobody', email = 'x' where id = 1001`, `optimize table orders`, fill(1))
	p.restart()
	require.NoError(t, p.poll())
	run(t, db, `truncate orders`, fill(3000))
	require.ErrorIs(t, p.poll(), sqlsource.ErrHistory, p.log.String())
}

// Jobs are finished, and the table is rebuilt or its server restarted. That is ordinary life, also if the
// row changes in all columns that tell rows apart.
func TestJobs(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]string{
		"wide": `create table orders (id bigserial primary key, queue text default 'mail', payload uuid default gen_random_uuid(), priority int default 5, state text default 'pending', attempts int default 0,
			locked_by text, locked_at timestamptz, finished_at timestamptz, error text, result text, created_at timestamptz default clock_timestamp(), updated_at timestamptz default clock_timestamp())`,
		"narrow":  `create table orders (id bigserial primary key, state text default 'pending', finished_at timestamptz)`,
		"updated": `create table orders (id bigserial primary key, state text default 'pending', finished_at timestamptz, updated_at timestamptz default clock_timestamp())`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ)
			finish := `update orders set state = 'done', finished_at = clock_timestamp()` + strings.Repeat(`, updated_at = clock_timestamp()`, strings.Count(create, "updated_at")) + ` where state = 'pending'`
			run(t, db, create, `insert into orders (state) select 'pending' from generate_series(1, 499)`, finish)
			p := newPipeline(t, db)
			p.column = "id"
			for n := range 4 {
				run(t, db, fmt.Sprintf(`insert into orders (state) select 'pending' from generate_series(0, %d)`, n%2))
				require.NoError(t, p.poll())
				run(t, db, finish, `vacuum full orders`)
				if n%2 == 0 {
					p.restart()
				}
			}
			run(t, db, `insert into orders default values`)
			require.NoError(t, p.poll())
			p.requireComplete()
		})
	}
}

// An order number that is made of the key is drawn again with it, and proves nothing.
func TestRefilledWithOrderNumbers(t *testing.T) {
	t.Parallel()
	const columns = `, no varchar(20), email varchar(80), total int, score int)`
	const postgres, mariaDB, sqlite = `create table orders (id serial primary key` + columns, `create table orders (id int auto_increment primary key` + columns, `create table orders (id integer primary key autoincrement` + columns
	series := func(n int) string {
		return fmt.Sprintf(`insert into orders (no, email, total, score) select 'ORD-' || n, md5(random()::text), random() * 1e9, random() * 1e9 from generate_series(1, %d) n`, n)
	}
	seq := func(n int) string {
		return fmt.Sprintf(`insert into orders (no, email, total, score) select concat('ORD-', seq), uuid(), rand() * 1e9, rand() * 1e9 from seq_1_to_%d`, n)
	}
	recursive := func(n int) string {
		return fmt.Sprintf(`insert into orders (no, email, total, score) with recursive s(n) as (select 1 union all select n + 1 from s where n < %d) select 'ORD-' || n, hex(randomblob(8)), random(), random() from s`, n)
	}
	pq := func(t *testing.T) *sqlx.DB { return dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ) }
	for name, c := range map[string]struct {
		open   func(t *testing.T) *sqlx.DB
		create string
		fill   func(int) string
		act    string
		want   outcome
	}{
		"postgres, recreated":       {pq, postgres, series, `drop table orders | ` + postgres + ` | ` + series(2000), refused},
		"postgres, an older backup": {pq, postgres, series, `create table keep as table orders | drop table orders | ` + postgres + ` | ` + series(2000) + ` | delete from orders where id < 294 | insert into orders select * from keep where id < 294`, refused},
		"postgres, rewritten":       {pq, postgres, series, `truncate orders | select setval('orders_id_seq', 1, false) | ` + series(2000), told},
		"mariadb":                   {func(t *testing.T) *sqlx.DB { return dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL) }, mariaDB, seq, `truncate orders | ` + seq(2000), told},
		"sqlite":                    {func(t *testing.T) *sqlx.DB { return dbtest.SQLite(t).Open(t, dbtest.Modernc) }, sqlite, recursive, `drop table orders | ` + sqlite + ` | ` + recursive(2000), told},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := c.open(t)
			run(t, db, c.create, c.fill(300))
			p := newPipeline(t, db)
			p.column = "email"
			require.NoError(t, p.poll())
			run(t, db, strings.Split(c.act, " | ")...)
			p.met = p.poll()
			p.check(c.want, func(n int) { run(t, db, c.fill(n)) })
		})
	}
}

// The columns that tell rows apart get other types, or hold large values, and the table is filled again: nothing
// can be compared then. A migration alone continues, also one that writes old values in another way.
func TestRefilledWithNothingToCompare(t *testing.T) {
	t.Parallel()
	const mariaDB, postgres = `create table orders (id int auto_increment primary key, state int, `, `create table orders (id serial primary key, state int, `
	const seq, series = ` from seq_1_to_%d`, ` from generate_series(1, %d) n`
	for name, c := range map[string]struct{ create, fill, act, migrate string }{
		"mariadb, types":     {`create table orders (id int auto_increment primary key, token varchar(40))`, `insert into orders (token) select uuid()` + seq, `truncate orders | alter table orders modify token text`, ""},
		"postgres, types":    {`create table orders (id serial primary key, token text)`, `insert into orders (token) select gen_random_uuid()` + series, `truncate orders restart identity | alter table orders alter token type varchar(99)`, ""},
		"mariadb, large":     {mariaDB + `body longtext)`, `insert into orders (state, body) select 1, repeat(uuid(), 2000)` + seq, `truncate orders`, ""},
		"postgres, large":    {postgres + `body text)`, `insert into orders (state, body) select 1, repeat(md5(random()::text), 2500)` + series, `truncate orders restart identity`, ""},
		"postgres, edited":   {`create table orders (id serial primary key, token text)`, `insert into orders (token) select gen_random_uuid()` + series, `truncate orders restart identity`, ""},
		"postgres, key":      {`create table orders (id numeric(10,2) primary key, token text)`, `insert into orders select n, gen_random_uuid()` + series, `alter table orders alter id type numeric(12,4) | truncate orders`, ""},
		"postgres, long key": {`create table orders (id text primary key, token text)`, `insert into orders select repeat('x', 130) || 1000 + n, gen_random_uuid()` + series, `truncate orders`, ""},
		"mariadb, key":       {`create table orders (id decimal(10,2) primary key, token varchar(40))`, `insert into orders select seq, uuid()` + seq, `alter table orders modify id decimal(12,4) | truncate orders`, ""},
		"mariadb, time":      {`create table orders (id datetime(6) primary key, token varchar(40))`, `insert into orders select timestampadd(second, seq, '2026-01-01'), uuid()` + seq, `alter table orders modify id datetime(3) | truncate orders`, ""},
		"mariadb, decimal":   {mariaDB + `price decimal(10,2))`, `insert into orders (state, price) select 1, rand() * 1e6` + seq, "", `alter table orders modify price decimal(12,4)`},
		"postgres, numeric":  {postgres + `price numeric(10,2))`, `insert into orders (state, price) select 1, random() * 1e6` + series, "", `alter table orders alter price type numeric(12,4)`},
		"postgres, char":     {postgres + `price char(10))`, `insert into orders (state, price) select 1, n` + series, "", `alter table orders alter price type char(12)`},
		"postgres, time":     {postgres + `price timestamptz)`, `insert into orders (state, price) select 1, now() - n * interval '1.2345 s'` + series, "", `alter table orders alter price type timestamptz(0)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ)
			if strings.HasPrefix(name, "mariadb") {
				db = dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
			}
			run(t, db, c.create, fmt.Sprintf(c.fill, 30))
			p := newPipeline(t, db)
			p.column, p.ceiling = "id", ceiling.None{}
			require.NoError(t, p.poll())
			p.restart() // it reads the types again
			if c.act == "" {
				run(t, db, c.migrate, fmt.Sprintf(c.fill, 1))
				require.NoError(t, p.poll())
				p.requireComplete()
				return
			}
			run(t, db, strings.Split(c.act, " | ")...)
			run(t, db, fmt.Sprintf(c.fill, 60))
			if strings.HasSuffix(name, "edited") {
				p.where = "t.id > 0"
			}
			check, err := p.source().Check(t.Context(), p.cursor)
			require.NoError(t, err)
			require.Contains(t, check.String(), "delivered rows changed")
			require.NoError(t, p.poll())
			require.Contains(t, p.log.String(), "delivered rows changed")
		})
	}
}

// Delivered rows that are large together, or that cannot be read any more, neither stop a pipeline nor hide
// what happened to the others.
func TestRereadRows(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	fill := func(n int) string {
		return fmt.Sprintf(`insert into orders (token, body) with recursive s(n) as (select 1 union all select n + 1 from s where n < %d) select hex(randomblob(8)), randomblob(3000000) from s`, n)
	}
	run(t, db, `create table orders (id integer primary key autoincrement, token text, body blob)`, fill(12))
	p := newPipeline(t, db)
	require.NoError(t, p.poll())
	run(t, db, `delete from orders where id > 8`, `update sqlite_sequence set seq = 8`, fill(10), `vacuum`)
	require.ErrorIs(t, p.poll(), sqlsource.ErrHistory, p.log.String())
}

func TestRereadFails(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ)
	run(t, db, `create table orders (id serial primary key, token text default gen_random_uuid()::text, name text default gen_random_uuid()::text, n int default 1)`, `insert into orders select from generate_series(1, 100)`)
	p := newPipeline(t, db)
	p.table = &sqlsource.Table{DB: db, Select: `select id, token, name, 100 / n as share from orders`, Name: "orders", Key: []string{"id"}, Logger: slog.New(slog.NewTextHandler(&p.log, nil))}
	require.NoError(t, p.poll())
	run(t, db, `update orders set n = 0 where id = 100`, `insert into orders default values`)
	require.NoError(t, p.poll())
	require.Len(t, p.tokens, 101)
	run(t, db, `truncate orders restart identity`, `insert into orders select from generate_series(1, 300)`)
	require.ErrorIs(t, p.poll(), sqlsource.ErrHistory)
}

// A table in which no column tells rows apart is emptied and filled again. The changed mark makes it a warning.
func TestFewValuesTruncated(t *testing.T) {
	t.Parallel()
	db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
	fill := func(rows int) string {
		return fmt.Sprintf(`insert into orders (state, kind, flag) select concat('s', floor(rand() * 3)), rand() < 0.5, rand() < 0.5 from seq_1_to_%d`, rows)
	}
	run(t, db, `create table orders (id int auto_increment primary key, state varchar(9), kind bool, flag bool)`, fill(1000))
	p := newPipeline(t, db)
	p.column = "id"
	require.NoError(t, p.poll())
	run(t, db, `optimize table orders`, fill(1))
	require.NoError(t, p.poll())
	require.NotContains(t, p.log.String(), "delivered rows changed")
	run(t, db, `truncate orders`, fill(3000))
	require.NoError(t, p.poll())
	require.Contains(t, p.log.String(), "delivered rows changed")
	require.Contains(t, p.log.String(), "table ids: the table was emptied by TRUNCATE or rebuilt")
}
