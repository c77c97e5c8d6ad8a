// Package orders provides a table of orders for each database, and runs the example program
// dbtofile on it.
package orders

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// Table is a table whose rows have about 254 bytes of JSON each. Some notes need escapes,
// and some are NULL.
type Table struct {
	Name   string // name of the database
	DSN    string // data source name for dbtofile; set by Filled
	Driver dbtest.Driver
	Fill   string // statement that inserts rows; ROWS is replaced by their number
	create string
	lines  string // query for the JSON line of each row, as the database writes it
}

// Tables are the tables of Postgres, MariaDB and SQLite. Their payload is generated as
// text, so that all databases keep it unchanged.
var Tables = []Table{
	{
		Name: "Postgres", Driver: dbtest.PGX,
		create: `create table orders (id bigint generated always as identity primary key, created_at timestamptz not null,
			customer bigint not null, note text, amount numeric(12,2) not null, payload jsonb not null)`,
		Fill: `insert into orders (created_at, customer, note, amount, payload)
			select timestamptz '2024-01-01 00:00:00+00' + i * interval '1.234567 s', i * 7919 % 100003,
				case i % 50 when 0 then null when 1 then E'a "quoted" note\nof <two> lines, für ' || i else 'note ' || md5(i::text) end,
				(i % 1000000) / 100.0,
				jsonb_build_object('sku', md5((i + 1)::text), 'qty', i % 9, 'tags', jsonb_build_array('new', 'fragile'), 'gift', i % 2 = 0, 'weight', i % 997 / 8.0)
			from generate_series(1::bigint, ROWS) i`,
		lines: `select concat('{"id":', id, ',"created_at":"', rtrim(rtrim(to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.'),
			'Z","customer":', customer, ',"note":', coalesce(to_json(note)::text, 'null'), ',"amount":', amount, ',"payload":', payload, '}') from orders order by id`,
	},
	{
		Name: "MariaDB", Driver: dbtest.MySQL,
		create: `create table orders (id bigint auto_increment primary key, created_at datetime(6) not null,
			customer bigint not null, note text, amount decimal(12,2) not null, payload json not null)`,
		Fill: `insert into orders (created_at, customer, note, amount, payload)
			select timestamp'2024-01-01 00:00:00' + interval seq * 1234567 microsecond, seq * 7919 % 100003,
				case seq % 50 when 0 then null when 1 then concat('a "quoted" note\nof <two> lines, für ', seq) else concat('note ', md5(seq)) end,
				seq % 1000000 / 100.0,
				json_object('sku', md5(seq + 1), 'qty', seq % 9, 'tags', json_array('new', 'fragile'), 'gift', seq % 2 = 0, 'weight', seq % 997 / 8.0)
			from seq_1_to_ROWS`,
		// The type of payload is longtext with a constraint, so the driver does not know that
		// it is JSON.
		lines: `select concat('{"id":', id, ',"created_at":"', trim(trailing '.' from trim(trailing '0' from date_format(created_at, '%Y-%m-%dT%H:%i:%s.%f'))),
			'","customer":', customer, ',"note":', coalesce(json_quote(note), 'null'), ',"amount":', amount, ',"payload":', json_quote(payload), '}') from orders order by id`,
	},
	{
		Name: "SQLite", Driver: dbtest.Modernc,
		create: `create table orders (id integer primary key autoincrement, created_at text not null,
			customer integer not null, note text, amount integer not null, payload text not null)`,
		Fill: `with recursive seq(i) as (select 1 union all select i + 1 from seq where i < ROWS)
			insert into orders (created_at, customer, note, amount, payload)
			select strftime('%Y-%m-%dT%H:%M:%fZ', '2024-01-01', i || ' seconds'), i * 7919 % 100003,
				case i % 50 when 0 then null when 1 then 'a "quoted" note' || char(10) || 'of <two> lines, für ' || i else printf('note %032d', i * 7919) end,
				i % 1000000,
				json_object('sku', printf('%032x', i * 7919), 'qty', i % 9, 'tags', json_array('new', 'fragile'), 'gift', i % 2 = 0, 'weight', i % 997 / 8.0)
			from seq`,
		lines: `select '{"id":' || id || ',"created_at":' || json_quote(created_at) || ',"customer":' || customer || ',"note":' || json_quote(note) ||
			',"amount":' || amount || ',"payload":' || json_quote(payload) || '}' from orders order by id`,
	},
}

// Filled creates the table with the given number of rows in a new database.
func (o Table) Filled(tb testing.TB, rows int) (Table, *sqlx.DB) {
	tb.Helper()
	database := lab.DatabaseFor(tb, o.Driver)
	o.DSN = database.DSN(o.Driver)
	switch o.Driver {
	case dbtest.MySQL:
		o.DSN = "mysql://" + o.DSN
	case dbtest.Modernc:
		o.DSN = "sqlite:" + database.Name()
	}
	db := database.Open(tb, o.Driver)
	db.MustExec(o.create)
	_, err := db.Exec(strings.ReplaceAll(o.Fill, "ROWS", strconv.Itoa(rows)))
	if err != nil {
		tb.Fatal(err)
	}
	return o, db
}

// Compare requires that the segments in dir, in the order of their names, equal the table
// byte for byte: every row once, in the order of its key. The database writes the expected
// lines. Package verify must find them equal, too.
func (o Table) Compare(tb testing.TB, db *sqlx.DB, dir string, rows int) {
	tb.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		tb.Fatal(err)
	}
	var files []io.Reader
	for _, segment := range segments {
		f, err := os.Open(segment)
		if err != nil {
			tb.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	lines := bufio.NewReaderSize(io.MultiReader(files...), 1<<20)

	all, err := db.Queryx(o.lines)
	if err != nil {
		tb.Fatal(err)
	}
	defer all.Close()
	n := 0
	for ; all.Next(); n++ {
		var want string
		if err := all.Scan(&want); err != nil {
			tb.Fatal(err)
		}
		got, err := lines.ReadSlice('\n')
		if err != nil || string(got) != want+"\n" {
			tb.Fatalf("line %d (%v)\ngot  %s\nwant %s", n+1, err, got, want)
		}
	}
	if err := all.Err(); err != nil || n != rows {
		tb.Fatalf("the table has %d rows, want %d: %v", n, rows, err)
	}
	if _, err := lines.ReadByte(); err != io.EOF {
		tb.Fatalf("there are more lines than rows: %v", err)
	}
	if r := lab.Verify(tb, lab.Silent(db, "orders", "id"), dir); !r.Equal() {
		tb.Fatal(r)
	}
	tb.Logf("%d rows in %d segments, each once, in order", n, len(segments))
}

// Build builds dbtofile and returns its path.
func Build(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "dbtofile.exe")
	build := exec.CommandContext(tb.Context(), "go", "build", "-o", path, "./dbtofile")
	build.Dir = filepath.Join(lab.RepositoryRoot(tb), "examples")
	out, err := build.CombinedOutput()
	if err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return path
}

// Service returns a command that runs dbtofile on the table.
func (o Table) Service(tb testing.TB, binary, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(tb.Context(), binary, append([]string{"-table", "orders", "-key", "id", "-out", dir}, args...)...)
	cmd.Env = append(os.Environ(), "DBTOFILE_DSN="+o.DSN)
	return cmd
}
