package sqlsource

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A connection of the pool may have prepared the first statement for a Table that existed
// before the change.
func TestSQLSourceNewTableAfterColumnsChanged(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, v varchar(10) not null)`)
		db.MustExec(`insert into t (v) values ('a'), ('b')`)
		for i := range 3 {
			want := []string{"1", "2"}
			for range 2 { // the second Table finds statements that the first prepared
				table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}}
				got, _ := lab.ReadAll(t, table, "", 1, func(r row.Row) string {
					require.Equal(t, 2+i, r.Len())
					return r.Text(0)
				})
				require.Equal(t, want, got)
			}
			db.MustExec(fmt.Sprintf(`alter table t add c%d int`, i))
		}
	})
}

// Postgres interprets t.f as f(t) if the table has no column f.
func TestSQLSourceColumnsAreNoFunctions(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id bigint primary key, secret varchar(10))`)
		db.MustExec(`insert into orders values (1, 'hunter2')`)
		db.MustExec(`create view v as select * from orders`)
		for _, table := range []string{"orders", "v"} {
			for _, f := range []string{"row_to_json", "to_jsonb", "pg_typeof", "t", "text"} {
				_, err := lab.Fetch(t, &sqlsource.Table{DB: db, Name: table, Key: []string{"id"}, Columns: []string{"id", f}, Ceiling: ceiling.None{}}, "", 10)
				require.ErrorContains(t, err, f)
				_, err = lab.Fetch(t, &sqlsource.Table{DB: db, Name: table, Key: []string{f}, Ceiling: ceiling.None{}}, "", 10)
				require.ErrorContains(t, err, f)
			}
		}
		if lab.IsPostgres(driver) {
			b, err := lab.Fetch(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"ctid"}, Columns: []string{"ctid", "tableoid"}, Ceiling: ceiling.None{}}, "", 10)
			require.NoError(t, err)
			require.Equal(t, "(0,1)", b.Records[0].Text(0))
		}
	})
}

// The type of a key may change although the key is not among the selected columns.
func TestSQLSourceKeyTypeChanges(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			return // SQLite cannot change a column's type
		}
		db.MustExec(`create table t (id int not null unique, v int not null)`)
		db.MustExec(`insert into t values (1, 1)`)
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"v"}, Ceiling: ceiling.None{}}
		text := func(r row.Row) string { return r.Text(0) }
		_, after := lab.ReadAll(t, table, "", 10, text)
		if lab.IsPostgres(driver) {
			db.MustExec(`alter table t alter id type text collate "C"`)
		} else {
			db.MustExec(`alter table t modify id varchar(10) not null`)
		}
		db.MustExec(`insert into t values ('10', 2), ('9', 3), ('abc', 4)`)
		got, _ := lab.ReadAll(t, table, after, 1, text)
		require.Equal(t, []string{"2", "3", "4"}, got)
	})
}

// At refuses a value with which no row can be compared. It would match no row, or all rows.
func TestSQLSourceAtInvalidValue(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		bad := map[string][]any{"real": {math.NaN()}, "": {"1", "1e3"}, "integer": {"1.5", "a"}}
		switch {
		case lab.IsPostgres(driver):
			bad = map[string][]any{"text": {"a\x00b", "\xff"}, "bigint": {"a\x00", math.NaN()}, "date": {"2026-02-30", "\x00"}, "timestamptz": {"2026-01-01 00:00:00+99"}}
		case lab.IsMariaDB(driver):
			moments := []any{"2026-02-30", "2026-13-01 10:00:00", "2026-01-01T24:00:00", "10:00:00", "", "0000-00-00"}
			bad = map[string][]any{"date": moments, "datetime(6)": moments, "timestamp(6)": moments, "time(6)": {"10:60:00", "2026-01-01", "10:00"}, "decimal(9,2)": {math.NaN()}}
		}
		n := 0
		for typ, values := range bad {
			n++
			name := fmt.Sprint("t", n)
			db.MustExec(fmt.Sprintf(`create table %s (k %s not null unique)`, name, typ))
			table := &sqlsource.Table{DB: db, Name: name, Key: []string{"k"}, Ceiling: ceiling.None{}}
			for _, v := range values {
				c, err := table.At(v)
				require.NoError(t, err)
				_, err = lab.Fetch(t, table, c, 1)
				lab.RequirePermanent(t, err, "rewind")
			}
		}
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			db.MustExec(`create table bytes (k blob not null unique)`)
			db.MustExec(`insert into bytes values (x'61'), (x'62')`)
			db.MustExec(`create view numbers as select 1 + 1 as k`)
			for name, v := range map[string]any{"bytes": "a", "numbers": 1} {
				table := &sqlsource.Table{DB: db, Name: name, Key: []string{"k"}, Ceiling: ceiling.None{}}
				c, err := table.At(v)
				require.NoError(t, err)
				got, _ := lab.ReadAll(t, table, c, 10, lab.RowJSON)
				require.Len(t, got, 1, name)
			}
		}
		if lab.IsMariaDB(driver) {
			db.MustExec(`create table clock (k time(6) not null unique)`)
			db.MustExec(`insert into clock values ('10:00:00.5'), ('10:00:00.500001')`)
			table := &sqlsource.Table{DB: db, Name: "clock", Key: []string{"k"}, Ceiling: ceiling.None{}}
			for _, v := range []any{"10:00:00.5", time.Date(2026, 1, 1, 10, 0, 0, 500_000_000, time.UTC)} {
				c, err := table.At(v)
				require.NoError(t, err)
				got, _ := lab.ReadAll(t, table, c, 10, lab.RowJSON)
				require.Len(t, got, 1)
			}
		}
	})
}

// Two columns with the same name would be scanned into one field.
func TestSQLSourceQueryWithDuplicateColumn(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table a (id int not null primary key, v int)`)
		db.MustExec(`create table b (id int not null primary key, v int)`)
		query := &sqlsource.Query[struct{ ID, V int }]{DB: db, Select: "select a.id, a.v, b.v from a join b on a.id = b.id", Key: []string{"id"}, Ceiling: ceiling.None{}}
		_, err := lab.Fetch(t, query, "", 1)
		require.ErrorContains(t, err, "v")
		if lab.IsPostgres(driver) { // the other databases refuse or rename such columns
			lab.RequirePermanent(t, err, `two columns called "v"`, "AS")
		}
	})
}

// A batch that ends at its number of rows keeps its connection, whatever MaxBytes is. A
// batch that ends early because of large rows may close the only connection and open a new
// one.
func TestSQLSourceConnections(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.SetMaxOpenConns(1)
		id := `select 0`
		switch {
		case lab.IsPostgres(driver):
			id = `select pg_backend_pid()`
		case lab.IsMariaDB(driver):
			id = `select connection_id()`
		}
		connection := func() (n int64) {
			require.NoError(t, db.Get(&n, id))
			return n
		}
		db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, v text not null)`)
		tx := db.MustBegin()
		for i := range 400 {
			size := 1
			if i >= 200 {
				size = 20_000
			}
			tx.MustExec(fmt.Sprintf(`insert into t (v) values ('%s')`, strings.Repeat("x", size)))
		}
		require.NoError(t, tx.Commit())
		first := connection()
		whole := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, MaxBytes: math.MaxInt, MaxRowBytes: math.MaxInt}
		got, _ := lab.ReadAll(t, whole, "", 50, lab.RowJSON)
		require.Len(t, got, 400)
		require.Equal(t, first, connection())

		small := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, MaxBytes: 50_000}
		b, err := lab.Fetch(t, small, "", 5000)
		require.NoError(t, err)
		require.Less(t, len(b.Records), 205)
		rest, _ := lab.ReadAll(t, small, b.To, 5000, lab.RowJSON)
		require.Len(t, rest, 400-len(b.Records))
	})
}

// A row that cannot be read does not block the rows before it.
func TestSQLSourceRowThatDoesNotScan(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, v varchar(10) not null)`)
		db.MustExec(`insert into t (v) values ('1'), ('2'), ('hunter2'), ('4')`)
		query := &sqlsource.Query[struct{ ID, V int }]{DB: db, Select: "select * from t", Key: []string{"id"}, Table: "t"}
		for _, max := range []int{2, 3, 10} {
			b, err := lab.Fetch(t, query, "", max)
			require.NoError(t, err)
			require.Len(t, b.Records, 2)
			require.True(t, b.More)
			_, err = lab.Fetch(t, query, b.To, max)
			lab.RequirePermanent(t, err, `"v"`, "the record with id 3")
			require.NotContains(t, err.Error(), "hunter2")
		}
	})
}
