package ceilings

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

func eachSQLiteDriver(t *testing.T, f func(t *testing.T, db *sqlx.DB, file string)) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			d := dbtest.SQLite(t)
			f(t, d.Open(t, driver), d.Name())
		})
	}
}

// unsafeIn returns the unsafe findings of a Fetch.
func unsafeIn(t *testing.T, table *sqlsource.Table) []ceiling.Finding {
	t.Helper()
	_, err := table.Fetch(t.Context(), "", 10)
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(t, err, &unsafe)
	lab.RequirePermanent(t, err)
	return slices.DeleteFunc(unsafe.Report.Findings, func(f ceiling.Finding) bool { return f.Level != ceiling.Unsafe })
}

func TestSQLiteProbes(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		db.SetMaxOpenConns(1) // attached databases and temporary tables belong to the connection
		db.MustExec(`attach ':memory:' as "other db"`)
		for _, c := range []struct {
			create, table, key string
			unsafe             string // "" if the table is safe
			fill               bool   // its rows show whether it has AUTOINCREMENT
		}{
			{`create table a (id integer primary key autoincrement, v)`, "a", "id", "", false},
			{`create table A2 (v, "Id" INTEGER /* no */ PRIMARY KEY ASC ON CONFLICT ABORT AUTOINCREMENT)`, "a2", "id", "", false},
			{`create table b (v text default 'x', id integer primary key autoincrement)`, "b", "id,v", "", false},
			{`create table "q ""?' t" ("k ""?" integer primary key autoincrement, v)`, `"q ""?' t"`, `k "?`, "", false},
			{`create table "other db".c (id integer primary key autoincrement, v)`, `"other db".c`, "id", "", false},
			{`create table "other db".c2 (id integer primary key autoincrement, v)`, `c2`, "id", "", false},
			{`create table d (id integer primary key, v)`, "d", "id", "without AUTOINCREMENT", true},
			{`create table d2 (id integer primary key, v text default 'autoincrement' /* autoincrement */, "autoincrement" int) -- autoincrement`, "d2", "id", "without AUTOINCREMENT", true},
			{`create table "d ""3" (v, id integer primary key on conflict fail, g as (v || 'x'), w int check (w > 0)); create index i3 on "d ""3" (v)`, `"d ""3"`, "id", "without AUTOINCREMENT", true},
			{`create table d4 (id integer, v, primary key (id))`, "d4", "id", "without AUTOINCREMENT", true},
			{`create table d5 (id integer primary key, v, version int default 7, _version int default 7)`, "d5", "id", "without AUTOINCREMENT", true},
			{`create table "other db".d6 (id integer primary key, v)`, `"other db".d6`, "id", "without AUTOINCREMENT", true},
			{`create table e (id integer primary key desc, v)`, "e", "id", "does not draw", true},
			{`create table f (id int primary key, v)`, "f", "id", "does not draw", true},
			{`create table g (id integer primary key, v) without rowid`, "g", "id", "does not draw", true},
			{`create table h (a text not null, "b c" int, v, primary key (a, "b c")) without rowid`, "h", "a,b c", "does not draw", true},
			{`create table k (id integer primary key autoincrement, at text not null unique, v)`, "k", "at,id", `begins with "at"`, true},
			{`create table l (id integer primary key autoincrement, v); create view lv as select distinct id from l`, "lv", "id", "is a view", false},
			{`create virtual table m using rtree (id, low, high)`, "m", "id", "virtual table", false},
			{`create temp table n (id integer primary key autoincrement, v)`, "n", "id", "temporary", false},
			{`create table o (id integer primary key autoincrement); create temp table o (id integer primary key)`, "o", "id", "temporary", false},
		} {
			if strings.Contains(c.create, "using rtree") && db.DriverName() != "sqlite" {
				continue // ncruces is built without this module
			}
			db.MustExec(c.create)
			key := strings.Split(c.key, ",")
			if c.unsafe == "" {
				b, err := lab.Silent(db, c.table, key...).Fetch(t.Context(), "", 10)
				require.NoError(t, err, c.create)
				require.False(t, b.AsOf.IsZero())
				continue
			}
			insert := func(values ...int) {
				for _, v := range values {
					key := strings.Repeat(fmt.Sprint(", ", v), len(key))[2:]
					db.MustExec("insert into " + c.table + ` ("` + strings.ReplaceAll(c.key, ",", `", "`) + `") values (` + key + ")")
				}
			}
			if c.fill {
				insert(1, 2)
			}
			found := unsafeIn(t, lab.Silent(db, c.table, key...))
			require.Contains(t, fmt.Sprint(found), c.unsafe, c.create)
			require.NotEmpty(t, found[0].Remedies, c.create)
			if !c.fill {
				continue
			}
			remedy := found[0].Remedies[len(found[0].Remedies)-1]
			require.Contains(t, remedy.Words, "diffsource", c.create)
			for _, r := range found[0].Remedies {
				require.Empty(t, r.Statements, "an INSERT without columns would fail after a column was added")
			}
		}
	})
}

// The first row shows whether a table has AUTOINCREMENT. Until then no row can be missed; a
// table without it is refused afterwards.
func TestSQLiteEmptyTable(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		db.MustExec(`create table unrelated (id integer primary key)`)
		require.Contains(t, fmt.Sprint(unsafeIn(t, lab.Silent(db, "unrelated", "id"))), "without AUTOINCREMENT", "other tables do not have it either")
		db.MustExec(`create table good (id integer primary key autoincrement, v)`)
		db.MustExec(`create table bad (id integer primary key, v)`)
		good, bad := lab.Silent(db, "good", "id"), lab.Silent(db, "bad", "id")
		for _, table := range []*sqlsource.Table{good, bad} {
			got, _ := lab.ReadAll(t, table, "", 10, lab.RowJSON)
			require.Empty(t, got)
			db.MustExec(`insert into ` + table.Name + ` (v) values (1)`)
		}
		got, _ := lab.ReadAll(t, good, "", 10, lab.RowJSON)
		require.Len(t, got, 1)
		require.Contains(t, fmt.Sprint(unsafeIn(t, bad)), "without AUTOINCREMENT")
	})
}

// A connection that can read uncommitted rows is refused, whichever of the pool it is and whenever
// that is set. The data source name sets it for all of them.
func TestSQLiteReadUncommitted(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, file string) {
		db.MustExec(`create table t (id integer primary key autoincrement, v); insert into t (v) values (1), (2)`)
		open := func(setting string) *sqlx.DB {
			again, err := sqlx.Open(db.DriverName(), "file:"+filepath.ToSlash(file)+"?_pragma=read_uncommitted("+setting+")")
			require.NoError(t, err)
			t.Cleanup(func() { again.Close() })
			return again
		}
		found := unsafeIn(t, lab.Silent(open("1"), "t", "id"))
		require.Contains(t, found[0].Text, "not committed")
		require.Contains(t, found[0].Remedies[0].Words, "_pragma=read_uncommitted(0)")
		require.Empty(t, found[0].Remedies[0].Statements, "they would reach one connection")
		require.Contains(t, unsafeIn(t, chosen(open("1"), "t", "id"))[0].Text, "not committed")

		query := &sqlsource.Query[string]{DB: open("1"), Select: "select v from t", Key: []string{"v"}, Ceiling: sqlite.SingleWriter{}}
		_, err := query.Fetch(t.Context(), "", 1)
		lab.RequirePermanent(t, err, "_pragma=read_uncommitted(0)")

		good := open("0")
		for _, table := range []*sqlsource.Table{lab.Silent(good, "t", "id"), chosen(good, "t", "v")} {
			b, err := table.Fetch(t.Context(), "", 1)
			require.NoError(t, err)
			conn, err := good.Connx(t.Context()) // the next Fetch takes the same connection
			require.NoError(t, err)
			_, err = conn.ExecContext(t.Context(), `pragma read_uncommitted = 1`)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			_, err = table.Fetch(t.Context(), b.To, 10)
			lab.RequirePermanent(t, err, "not committed")
			good.SetMaxIdleConns(0) // a new connection has the setting of the data source name
			_, err = table.Fetch(t.Context(), b.To, 10)
			require.NoError(t, err)
			good.SetMaxIdleConns(2)
		}
	})
}

// A trigger that is added while the table is read is named, whether or not a row is above the cursor.
func TestSQLiteNewTrigger(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		db.MustExec(`create table t (id integer primary key autoincrement, v); insert into t (v) values (1)`)
		var out strings.Builder
		table := lab.Silent(db, "t", "id")
		table.Logger = slog.New(slog.NewTextHandler(&out, nil))
		_, at := lab.ReadAll(t, table, "", 10, lab.RowJSON)
		db.MustExec(`create trigger low after insert on t begin update t set id = -id where id = new.id; end; insert into t (v) values (2)`)
		got, _ := lab.ReadAll(t, table, at, 10, lab.RowJSON)
		require.Empty(t, got)
		require.Contains(t, out.String(), `as long as the trigger low leaves`)
	})
}

// Other databases allow several concurrent writers.
func TestSingleWriterIsForSQLite(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(lab.Identity)
	table := lab.Silent(db, "orders", "id")
	table.Ceiling = sqlite.SingleWriter{}
	require.Contains(t, fmt.Sprint(unsafeIn(t, table)), "SQLite only")
}

func TestSQLiteSequenceSetBack(t *testing.T) {
	const create = `create table orders (id integer primary key autoincrement, v)`
	const add = `insert into orders (v) values (1), (2), (3)`
	alarms := map[string][]string{
		"made anew":       {`drop table orders`, create},
		"and used":        {`drop table orders`, create, `insert into orders (v) values (1)`},
		"set back":        {`update sqlite_sequence set seq = 1 where name = 'orders'`},
		"forgotten":       {`delete from orders`, `delete from sqlite_sequence`},
		"another's place": {`alter table orders rename to old_orders`, create},
	}
	quiet := map[string][]string{
		"emptied":           {`delete from orders`},
		"emptied, vacuumed": {`delete from orders`, `vacuum`},
		"pruned":            {`delete from orders where id < 3`, `vacuum`},
		"rebuilt": {`create table fresh (id integer primary key autoincrement, v)`, `insert into fresh select * from orders`,
			`drop table orders`, `alter table fresh rename to orders`},
		"a new column": {`alter table orders add column w`},
	}
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, file string) {
		for alarm, steps := range map[bool]map[string][]string{true: alarms, false: quiet} {
			for name, statements := range steps {
				for _, restarted := range []bool{false, true} {
					db.MustExec(`drop table if exists orders`)
					db.MustExec(`drop table if exists old_orders`)
					db.MustExec(create)
					db.MustExec(add)
					table := lab.Silent(db, "orders", "id")
					got, at := lab.ReadAll(t, table, "", 10, func(r row.Row) string { return r.Text(0) })
					require.Equal(t, []string{"1", "2", "3"}, got)
					for _, s := range statements {
						db.MustExec(s)
					}
					if restarted {
						table = lab.Silent(db, "orders", "id")
					}
					if alarm {
						err := lab.Refused(t, table, at)
						require.ErrorIs(t, err, sqlsource.ErrHistory, name)
						lab.RequirePermanent(t, err, "sqlite_sequence is at", "rewind")
						continue
					}
					_, err := table.Fetch(t.Context(), at, 10)
					require.NoError(t, err, name)
					db.MustExec(`insert into orders (v) values (4)`)
					got, _ = lab.ReadAll(t, table, at, 10, func(r row.Row) string { return r.Text(0) })
					require.Equal(t, []string{"4"}, got, name)
				}
			}
		}
	})
}

// The file is replaced by an older copy of it.
func TestSQLiteOlderFile(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, file string) {
		db.MustExec(`create table orders (id integer primary key autoincrement, v)`)
		db.MustExec(`insert into orders (v) values (1), (2)`)
		backup := filepath.Join(t.TempDir(), "backup.db")
		db.MustExec(`vacuum into '` + strings.ReplaceAll(backup, `'`, `''`) + `'`)
		db.MustExec(`insert into orders (v) values (3)`)
		_, at := lab.ReadAll(t, lab.Silent(db, "orders", "id"), "", 10, lab.RowJSON)
		require.NoError(t, db.Close())
		text, err := os.ReadFile(backup)
		require.NoError(t, err)
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.WriteFile(file, text, 0o600))
		again, err := sqlx.Open(db.DriverName(), "file:"+filepath.ToSlash(file))
		require.NoError(t, err)
		defer again.Close()
		require.ErrorIs(t, lab.Refused(t, lab.Silent(again, "orders", "id"), at), sqlsource.ErrHistory)
	})
}

// A file replaces an open one. Connections to the old file are closed. The sequence in the older
// file has not reached the cursor, so the cursor is refused.
func TestCeilingSQLiteReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, backup := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	writer := sqlx.MustOpen("sqlite", file)
	defer func() { writer.Close() }()
	writer.MustExec("create table t (id integer primary key autoincrement, v int)")
	writer.MustExec("insert into t (v) values (1)")
	writer.MustExec("vacuum into '" + backup + "'")
	writer.MustExec("insert into t (v) values (2), (3), (4)")
	require.NoError(t, writer.Close())
	db := sqlx.MustOpen("sqlite", file)
	defer db.Close()
	table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}}
	var got []string
	after, _ := lab.PollOnce(t, table, "", &got)
	require.Len(t, got, 4)
	require.NoError(t, os.Rename(backup, file))
	writer = sqlx.MustOpen("sqlite", file)
	writer.MustExec("insert into t (v) values (2)")
	require.ErrorIs(t, lab.Refused(t, table, after), sqlsource.ErrHistory)
}
