package changelog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// silent returns a table that logs nothing.
func silent(db *sqlx.DB, name string) *changelog.Table {
	return &changelog.Table{DB: db, Name: name, Logger: slog.New(slog.DiscardHandler)}
}

// install runs the script of a table.
func install(t testing.TB, table *changelog.Table) {
	t.Helper()
	s, err := table.Script(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Run(t.Context(), table.DB), "%s", s)
	require.NoError(t, table.Check(t.Context()))
}

// reinstall runs the script of a table, that script again, and the one that then is returned.
func reinstall(t testing.TB, table *changelog.Table) {
	t.Helper()
	s, err := table.Script(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Run(t.Context(), table.DB), "%s", s)
	require.NoError(t, s.Run(t.Context(), table.DB), "%s", s)
	install(t, table)
}

// text is a change without what differs from run to run.
func text(c row.Change) string {
	show := func(name string, r row.Row) string {
		if r.Columns() == nil {
			return ""
		}
		return " " + name + lab.RowJSON(r)
	}
	return c.Op.String() + show("", c.Key) + show("row", c.Row) + show("old", c.Old)
}

// read reads all changes after a cursor.
func read(t testing.TB, table *changelog.Table, after source.Cursor) ([]string, source.Cursor) {
	t.Helper()
	return lab.ReadAll(t, table, after, 100, text)
}

func TestChanges(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, v varchar(20), n int)`)
		table := silent(db, "orders")
		reinstall(t, table)
		got, after := read(t, table, "")
		require.Empty(t, got)
		db.MustExec(`insert into orders (v, n) values ('a', 1), ('b', 2)`)
		db.MustExec(`update orders set v = 'A' where id = 1`)
		db.MustExec(`update orders set id = 7 where id = 2`)
		db.MustExec(`delete from orders where id = 1`)
		got, after = read(t, table, after)
		insert, update := "insert", "update"
		if lab.DatabaseFor(t, driver).DSN(driver)[:5] == "file:" {
			insert, update = "upsert", "upsert"
		}
		require.Equal(t, []string{
			insert + ` {"id":1} row{"id":1,"v":"a","n":1}`,
			insert + ` {"id":2} row{"id":2,"v":"b","n":2}`,
			update + ` {"id":1} row{"id":1,"v":"A","n":1} old{"id":1,"v":"a","n":1}`,
			update + ` {"id":7} row{"id":7,"v":"b","n":2} old{"id":2,"v":"b","n":2}`,
			`delete {"id":1} old{"id":1,"v":"A","n":1}`,
		}, got)
		got, _ = read(t, table, after)
		require.Empty(t, got)

		s, err := table.Remove(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Run(t.Context(), db))
		var wrong *changelog.InstallError
		require.ErrorAs(t, table.Check(t.Context()), &wrong)
	})
}

func TestSource(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		forms := []bool{false, true}
		if slices.Contains([]dbtest.Driver{dbtest.PQ, dbtest.MySQLText, dbtest.NCruces}, driver) { // TestTypes joins with each driver
			forms = forms[:1]
		}
		for _, keysOnly := range forms {
			name := fmt.Sprint("orders", keysOnly)
			db.MustExec(`create table ` + name + ` (id ` + lab.IDColumn(driver) + `, v varchar(20))`)
			table := silent(db, name)
			table.KeysOnly = keysOnly
			install(t, table)
			for i := range 5 {
				db.MustExec(fmt.Sprintf(`insert into %s (v) values ('v%d')`, name, i))
			}
			db.MustExec(`update ` + name + ` set v = 'u' where id > 3`)
			db.MustExec(`delete from ` + name + ` where id = 3`)
			require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Change]{
				Open: func(context.Context) (source.Source[row.Change], error) {
					again := silent(db, name)
					again.KeysOnly = keysOnly
					return again, nil
				},
				AtLeast: 8, Text: func(c row.Change) string { return c.Position + text(c) },
			}))
		}
	})
}
