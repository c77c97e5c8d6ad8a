package sqlsource

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Names are quoted, whatever characters they contain.
func TestSQLSourceInjection(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, note int)`)
		db.MustExec(`insert into orders (note) values (2)`)
		for _, name := range []string{
			"orders; drop table orders", "orders -- ", "orders/*", `orders" as t; drop table orders; --`, "orders` as t; drop table orders; -- ",
			"orders'", "(select 1)", "orders as x", "ORDERS ", `"orders;"`, `"or""ders"`, "$1", "?", ":id",
		} {
			_, err := lab.Fetch(t, &sqlsource.Table{DB: db, Name: name, Key: []string{"id"}}, "", 10)
			require.Error(t, err, name)
			_, err = lab.Fetch(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{name}}, "", 10)
			require.Error(t, err, name)
			_, err = lab.Fetch(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Columns: []string{name}}, "", 10)
			require.Error(t, err, name)
		}
		table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}}
		got, _ := lab.ReadAll(t, table, "", 10, lab.RowJSON)
		require.Equal(t, []string{`{"id":1,"note":2}`}, got)

		// Unusual names work.
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		if lab.IsMariaDB(driver) {
			quote = func(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }
		}
		for _, odd := range []string{"a.b", `q"q`, "b`t", "select", "x y", "Ümlaut", "a;b--c", "?", "$1"} {
			db.MustExec("create table " + quote(odd) + " (" + quote(odd) + " " + lab.IDColumn(driver) + ", t int)")
			db.MustExec("insert into " + quote(odd) + " (t) values (2), (3)")
			got, _ := lab.ReadAll(t, &sqlsource.Table{DB: db, Name: `"` + strings.ReplaceAll(odd, `"`, `""`) + `"`, Key: []string{odd}}, "", 1,
				func(r row.Row) string { return r.Text(0) + r.Text(1) })
			require.Equal(t, []string{"12", "23"}, got, odd)
		}
	})
}

// Rows at or below the cursor are never read again, whatever the condition does to the statement.
func TestSQLSourceKeysRise(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, note int)`)
		db.MustExec(`insert into orders (note) values (1), (2), (3), (4)`)
		escaping := func(where string) *sqlsource.Table {
			return &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Where: where, Ceiling: ceiling.None{}}
		}
		_, err := lab.Fetch(t, escaping("1 = 1) or (1 = 1"), "", 2)
		require.ErrorContains(t, err, "Where has a parenthesis without its other one")
		require.Equal(t, retry.Fatal, retry.Classify(err))

		table := escaping("1 = 1) or ('$' = '$'") // no check of its text finds that
		b, err := lab.Fetch(t, table, "", 2)
		require.NoError(t, err)
		require.Len(t, b.Records, 2)
		_, err = lab.Fetch(t, table, b.To, 2)
		require.ErrorContains(t, err, "the row with the key id = 1 was returned after id = 2")
		require.Equal(t, retry.Fatal, retry.Classify(err))
	})
}

func TestSQLSourceNullKeys(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (a bigint, b bigint, v int)`)
		sources := func(key ...string) []func(source.Cursor) (source.Cursor, error) {
			table := &sqlsource.Table{DB: db, Name: "t", Key: key, Ceiling: ceiling.None{}}
			query := &sqlsource.Query[struct{ A, B, V *int64 }]{DB: db, Select: "select * from t", Key: key, Ceiling: ceiling.None{}}
			named := &sqlsource.Query[struct{ A, B, V *int64 }]{DB: db, Select: "select * from t", Key: key, Table: "t", Ceiling: ceiling.None{}}
			return []func(source.Cursor) (source.Cursor, error){
				func(c source.Cursor) (source.Cursor, error) {
					b, err := lab.Fetch(t, table, c, 2)
					return b.To, err
				},
				func(c source.Cursor) (source.Cursor, error) {
					b, err := lab.Fetch(t, query, c, 2)
					return b.To, err
				},
				func(c source.Cursor) (source.Cursor, error) {
					b, err := lab.Fetch(t, named, c, 2)
					return b.To, err
				},
			}
		}
		for _, test := range []struct {
			name, before, later string
			key                 []string
			column              string
		}{
			{"at once", "(1, 1, 1), (null, 2, 2)", "", []string{"a"}, "a"},
			{"later", "(1, 1, 1)", "(null, 2, 2)", []string{"a"}, "a"},
			{"first of two", "(1, 1, 1)", "(null, 2, 2)", []string{"a", "b"}, "a"},
			{"second of two", "(1, 1, 1)", "(2, null, 2)", []string{"a", "b"}, "b"},
			{"second of two, next to the cursor", "(1, 1, 1)", "(1, null, 2)", []string{"a", "b"}, "b"},
			{"second of two, between batches", "(1, 1, 1), (1, 2, 1), (1, null, 1), (2, 1, 1)", "", []string{"a", "b"}, "b"},
		} {
			for i, fetch := range sources(test.key...) {
				t.Run(fmt.Sprintf("%s %d", test.name, i), func(t *testing.T) {
					db.MustExec(`delete from t`)
					db.MustExec(`insert into t values ` + test.before)
					to, err := fetch("")
					if test.later != "" {
						require.NoError(t, err)
						db.MustExec(`insert into t values ` + test.later)
					}
					for range 2 {
						if err == nil {
							to, err = fetch(to)
						}
					}
					lab.RequirePermanent(t, err, fmt.Sprintf("%q is NULL", test.column))
				})
			}
		}
	})
}

func TestSQLSourceDuplicateKeys(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (a bigint not null, b varchar(10) not null)`)
		db.MustExec(`insert into t values (1, 'x'), (2, 'x'), (3, 'x'), (3, 'x'), (4, 'x')`)
		for max := 1; max < 7; max++ {
			for _, key := range [][]string{{"a"}, {"a", "b"}, {"b", "a"}} {
				table := &sqlsource.Table{DB: db, Name: "t", Key: key, Ceiling: ceiling.None{}}
				query := &sqlsource.Query[struct{ B string }]{DB: db, Select: "select a, b from t", Key: key, Ceiling: ceiling.None{}}
				var err error
				for after, n := source.Cursor(""), 0; err == nil && n < 10; n++ {
					var b source.Batch[row.Row]
					b, err = lab.Fetch(t, table, after, max)
					after = b.To
				}
				lab.RequirePermanent(t, err, "a = 3")
				_, err = lab.Fetch(t, query, "", max)
				lab.RequirePermanent(t, err, `no field for the column "a"`)
			}
		}
	})
}

func TestSQLSourceForeignCursors(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, d date)`)
		db.MustExec(`insert into t (d) values ('2026-01-31')`)
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}}
		good, err := table.At(0)
		require.NoError(t, err)
		for _, other := range []*sqlsource.Table{
			{DB: db, Name: "u", Key: []string{"id"}}, {DB: db, Name: "t", Key: []string{"d"}}, {DB: db, Name: "t", Key: []string{"id"}, Where: "id > 0"},
		} {
			c, err := other.At(0)
			require.NoError(t, err)
			_, err = lab.Fetch(t, table, c, 1)
			lab.RequirePermanent(t, err, "another query", "rewind")
		}
		for i := range good {
			damaged := []byte(good)
			damaged[i] ^= 1
			_, err := lab.Fetch(t, table, source.Cursor(damaged), 1)
			lab.RequirePermanent(t, err)
		}
		// Values entered by hand that do not fit the column.
		bad := []any{"abc", "99999999999999999999", "1.5", time.Now()}
		if lab.IsPostgres(driver) || lab.IsMariaDB(driver) {
			bad = append(bad, []byte{1}) // columns of SQLite accept any type
		}
		for _, bad := range bad {
			c, err := table.At(bad)
			require.NoError(t, err)
			_, err = lab.Fetch(t, table, c, 1)
			lab.RequirePermanent(t, err)
		}
		for _, fits := range []any{"0", 0, int8(0), uint64(0)} {
			c, err := table.At(fits)
			require.NoError(t, err)
			got, _ := lab.ReadAll(t, table, c, 1, lab.RowJSON)
			require.Len(t, got, 1, "%v %T", fits, fits)
		}
	})
}

// In a time zone other than UTC, two times may have the same text. A Table sets UTC, a Query leaves
// the session's time zone to its Select and its driver.
func TestSQLSourceTimestampKeyWantsUTC(t *testing.T) {
	t.Parallel()
	db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
	db.SetMaxOpenConns(1) // the time zone is a setting of the connection
	db.MustExec(`create table t (at timestamp not null primary key)`)
	db.MustExec(`set time_zone = '+02:00'`)
	_, err := lab.Fetch(t, &sqlsource.Table{DB: db, Name: "t", Key: []string{"at"}, Ceiling: ceiling.None{}}, "", 1)
	require.NoError(t, err)
	type stamp struct{ At time.Time }
	stamps := &sqlsource.Query[stamp]{DB: db, Select: "select at from t", Key: []string{"at"}, Ceiling: ceiling.None{}}
	_, err = lab.Fetch(t, stamps, "", 1)
	lab.RequirePermanent(t, err, `"+02:00"`, "time_zone=%27%2B00:00%27")
	db.MustExec(`set time_zone = '+00:00'`)
	_, err = lab.Fetch(t, stamps, "", 1)
	require.NoError(t, err)
}

// SQLite returns at most 2,000 columns. A table with as many is refused with the way to read it.
func TestAsManyColumnsAsSQLiteReturns(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		db := dbtest.SQLite(t).Open(t, driver)
		columns := []string{"id"}
		for i := range 1999 {
			columns = append(columns, fmt.Sprint("c", i))
		}
		db.MustExec(`create table t (` + strings.Join(columns, ", ") + `, primary key (id))`)
		db.MustExec(`insert into t (id, c1998) values (1, 'x')`)
		table := func(columns []string) error {
			_, err := (&sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: columns, Ceiling: ceiling.None{}}).Fetch(t.Context(), "", 10)
			return err
		}
		selected := func(columns []string) error {
			_, err := (&sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Ceiling: ceiling.None{},
				Select: "select " + strings.Join(columns, ", ") + " from t"}).Fetch(t.Context(), "", 10)
			return err
		}
		for _, read := range []func([]string) error{table, selected} {
			err := read(columns)
			require.ErrorContains(t, err, "more columns than the database returns")
			require.ErrorContains(t, err, "name fewer in Columns or Select")
			require.Equal(t, retry.Fatal, retry.Classify(err))
			require.NoError(t, read(columns[:1998]))
		}
		require.ErrorContains(t, table(nil), "more columns than the database returns")
	}
}
