package changelog

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/changelog"
)

// interrupted changes the triggers so that changes are missed, and runs the script for them, twice.
// Each reader that had begun gets an ErrGap, once.
func interrupted(t *testing.T, db *sqlx.DB, table *changelog.Table, after source.Cursor, statements ...string) source.Cursor {
	t.Helper()
	for _, s := range statements {
		db.MustExec(s)
	}
	var wrong *changelog.InstallError
	require.ErrorAs(t, table.Check(t.Context()), &wrong)
	for range 2 {
		require.NoError(t, wrong.Script.Run(t.Context(), db), "%s", wrong.Script)
	}
	install(t, table)
	for {
		b, err := lab.Fetch(t, table, after, 100)
		if err != nil {
			require.ErrorIs(t, err, changelog.ErrGap)
			break
		}
		require.NotEqual(t, after, b.To, "no gap after %s", statements)
		after = b.To
	}
	after, err := table.Adopt(t.Context(), after)
	require.NoError(t, err)
	_, after = read(t, table, after)
	return after
}

// An interruption is a gap also if the triggers are there again.
func TestMissedPostgres(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	table := orders(t, dbtest.PGX, db)
	db.MustExec(`insert into orders (v) values ('d')`)
	_, at := read(t, table, "")
	at = interrupted(t, db, table, at, `alter table orders disable trigger all`, `insert into orders (v) values ('lost')`, `alter table orders enable trigger all`)
	at = interrupted(t, db, table, at, `alter table orders enable replica trigger orders_changes_update`, `update orders set v = 'lost'`)
	interrupted(t, db, table, at, `create or replace function orders_changes_record() returns trigger language plpgsql as 'begin return null; end'`, `update orders set v = 'lost'`)

	db.MustExec(`create table parts (id int primary key, v int) partition by range (id); create table parts_1 partition of parts for values from (0) to (100)`)
	parts := silent(db, "parts")
	install(t, parts)
	db.MustExec(`insert into parts values (1, 1), (2, 2)`)
	_, at = read(t, parts, "")
	interrupted(t, db, parts, at, `alter table parts_1 disable trigger all`, `delete from parts where id = 1`, `alter table parts_1 enable trigger all`)
}

func TestMissedMariaDB(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL)
	db.MustExec(`create table parents (id int primary key)`)
	db.MustExec(`create table items (id int primary key, parent int, foreign key (parent) references parents (id) on delete cascade)`)
	table := silent(db, "items")
	install(t, table)
	db.MustExec(`insert into parents values (1), (2)`)
	db.MustExec(`insert into items values (1, 1), (2, 2)`)
	_, at := read(t, table, "")
	at = interrupted(t, db, table, at, `drop trigger items_changes_parent1_delete`, `delete from parents where id = 2`)
	interrupted(t, db, table, at, `drop trigger items_changes_delete`, `create trigger items_changes_delete after delete on items for each row set @x = 1`, `delete from items`)
}

func TestMissedSQLite(t *testing.T) {
	eachSQLite(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table u (id integer primary key, code text)`)
		table := silent(db, "u")
		install(t, table)
		db.MustExec(`insert into u values (1, 'a')`)
		_, at := read(t, table, "")
		interrupted(t, db, table, at, `create unique index uc on u (code)`, `insert or replace into u values (2, 'a')`)
	})
}

// A load that goes on while changes are missed ends with an ErrGap.
func TestMissedLoad(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		table := orders(t, driver, db)
		table.Load = true
		b, err := lab.Fetch(t, table, "", 2)
		require.NoError(t, err)
		db.MustExec(dropTrigger(driver))
		_, err = lab.Fetch(t, table, b.To, 2)
		lab.RequirePermanent(t, err, "orders_changes_insert")
		interrupted(t, db, table, b.To, `insert into orders (v) values ('lost')`)
	})
}
