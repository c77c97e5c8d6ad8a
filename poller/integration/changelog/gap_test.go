package changelog

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/changelog"
)

// orders creates a table with some rows, and records its changes.
func orders(t *testing.T, driver dbtest.Driver, db *sqlx.DB) *changelog.Table {
	t.Helper()
	db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, v varchar(20))`)
	db.MustExec(`insert into orders (v) values ('a'), ('b'), ('c')`)
	table := silent(db, "orders")
	install(t, table)
	return table
}

// eachDatabase runs a test with one driver for each database, where the statements matter and not the driver.
func eachDatabase(t *testing.T, f func(t *testing.T, driver dbtest.Driver, db *sqlx.DB)) {
	t.Helper()
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.MySQL, dbtest.Modernc} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			f(t, driver, lab.DatabaseFor(t, driver).Open(t, driver))
		})
	}
}

// isSQLite reports whether the driver is for SQLite.
func isSQLite(driver dbtest.Driver) bool { return !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) }

// dropTrigger returns a statement that drops the trigger for INSERT.
func dropTrigger(driver dbtest.Driver) string {
	if lab.IsPostgres(driver) {
		return `drop trigger orders_changes_insert on orders`
	}
	return `drop trigger orders_changes_insert`
}

// The existing rows come first, and then the changes made while they were read.
func TestLoad(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		table := orders(t, driver, db)
		table.Load = true
		b, err := lab.Fetch(t, table, "", 2)
		require.NoError(t, err)
		require.Len(t, b.Records, 2)
		require.True(t, b.More)
		db.MustExec(`update orders set v = 'A' where id = 1`)
		db.MustExec(`delete from orders where id = 3`)
		copied := replica{}
		for _, c := range b.Records {
			copied.apply(c)
		}
		again := silent(db, "orders") // as after a restart of the process
		again.Load = true
		at := copied.follow(t, again, b.To)
		copied.requireSame(t, db, "orders", "id")
		db.MustExec(`insert into orders (v) values ('d')`)
		copied.follow(t, again, at)
		copied.requireSame(t, db, "orders", "id")
	})
}

// A trigger that was missing for a time is a gap for each reader that had begun before.
func TestMissingTrigger(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		table := orders(t, driver, db)
		db.MustExec(`insert into orders (v) values ('d')`)
		_, after := read(t, table, "")
		db.MustExec(dropTrigger(driver))
		db.MustExec(`insert into orders (v) values ('lost')`)
		db.MustExec(`delete from orders where v = 'a'`)

		_, err := lab.Fetch(t, table, after, 10)
		var wrong *changelog.InstallError
		require.ErrorAs(t, err, &wrong)
		lab.RequirePermanent(t, err, "orders_changes_insert", "missing", "Script")
		require.NoError(t, wrong.Script.Run(t.Context(), db))
		db.MustExec(`insert into orders (v) values ('e')`)

		got, before := func() ([]string, source.Cursor) {
			b, err := lab.Fetch(t, table, after, 10)
			require.NoError(t, err)
			var texts []string
			for _, c := range b.Records {
				texts = append(texts, text(c))
			}
			return texts, b.To
		}()
		require.Len(t, got, 1, "the delete was recorded before the gap")
		_, err = lab.Fetch(t, table, before, 10)
		require.ErrorIs(t, err, changelog.ErrGap)
		lab.RequirePermanent(t, err, "created again")
		adopted, err := table.Adopt(t.Context(), before)
		require.NoError(t, err)
		got, _ = read(t, table, adopted)
		require.Len(t, got, 1)
		require.Contains(t, got[0], `"v":"e"`)

		fresh := silent(db, "orders") // has not missed anything
		fresh.Load = true
		copied := replica{}
		copied.follow(t, fresh, "")
		copied.requireSame(t, db, "orders", "id")
	})
}

// Only saved changes are pruned, by a role that can do nothing else.
func TestPrune(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		table := orders(t, driver, db)
		for n := range 3 {
			db.MustExec(fmt.Sprintf(`update orders set v = '%d'`, n))
		}
		slow, err := lab.Fetch(t, table, "", 4)
		require.NoError(t, err)
		values := ""
		for n := range 999 {
			values += fmt.Sprintf(", ('%d')", n)
		}
		for range 3 {
			db.MustExec(`insert into orders (v) values ('x')` + values)
		}
		_, saved := read(t, table, "")
		for _, cursors := range [][]source.Cursor{nil, {""}, {saved, ""}, {saved, slow.To}} {
			n, err := table.Prune(t.Context(), nil, cursors...)
			require.NoError(t, err)
			require.Zero(t, n)
		}
		n, err := table.Prune(t.Context(), nil, saved)
		require.NoError(t, err)
		require.Greater(t, n, int64(2000))
		var left int
		require.NoError(t, db.Get(&left, `select count(*) from orders_changes`))
		require.Equal(t, 1000, left)

		_, err = lab.Fetch(t, table, slow.To, 10)
		require.ErrorIs(t, err, changelog.ErrGap)
		lab.RequirePermanent(t, err, "pruned")
		db.MustExec(`insert into orders (v) values ('last')`)
		got, _ := read(t, table, saved)
		require.Len(t, got, 1)
	})
}

// A cursor belongs to one table, and a running reader notices changes that are not recorded.
func TestColumnsChange(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		table := orders(t, driver, db)
		_, after := read(t, table, "")
		db.MustExec(`alter table orders add n int`)
		db.MustExec(`insert into orders (v, n) values ('d', 4)`)
		_, err := lab.Fetch(t, table, after, 10)
		lab.RequirePermanent(t, err, `"n" was added`)
		install(t, table)
		db.MustExec(`update orders set n = 5 where v = 'd'`)
		got, after := read(t, table, after)
		require.Len(t, got, 2)
		require.Contains(t, got[0], `upsert {"id":4} row{"id":4,"v":"d","n":5}`) // looked up: n was not recorded
		require.Contains(t, got[1], `row{"id":4,"v":"d","n":5} old{"id":4,"v":"d","n":4}`)

		if isSQLite(driver) {
			_, err := db.Exec(`alter table orders drop column n`)
			require.ErrorContains(t, err, "trigger")
			db.MustExec(`alter table orders rename column n to m`) // renames it in the triggers, too
		} else {
			db.MustExec(`alter table orders rename column n to m`)
		}
		if lab.IsPostgres(driver) { // writes go on
			db.MustExec(`insert into orders (v, m) values ('e', 6)`)
			db.MustExec(`update orders set m = 7 where v = 'e'`)
			db.MustExec(`delete from orders where v = 'e'`)
		}
		_, err = lab.Fetch(t, table, after, 10)
		if err == nil { // there is nothing new, and the last check was not long ago
			err = table.Check(t.Context())
		}
		lab.RequirePermanent(t, err, `"m" was added or renamed`)
		install(t, table)
		db.MustExec(`insert into orders (v, m) values ('f', 8)`)
		got, _ = read(t, table, after)
		require.Contains(t, got[len(got)-1], `"v":"f","m":8`)
	})
}
