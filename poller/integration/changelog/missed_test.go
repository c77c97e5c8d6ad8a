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
	after = untilGap(t, table, after, statements)
	after, err := table.Adopt(t.Context(), after)
	require.NoError(t, err)
	_, after = read(t, table, after)
	return after
}

// untilGap reads the changes up to the ErrGap, and returns the cursor there.
func untilGap(t *testing.T, table *changelog.Table, after source.Cursor, statements []string) source.Cursor {
	t.Helper()
	for {
		b, err := lab.Fetch(t, table, after, 100)
		if err != nil {
			require.ErrorIs(t, err, changelog.ErrGap)
			return after
		}
		require.NotEqual(t, after, b.To, "no gap after %s", statements)
		after = b.To
	}
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

// savedScript breaks the triggers, which loses a change, and runs a script that was written before that.
func savedScript(t *testing.T, db *sqlx.DB, table *changelog.Table, saved changelog.Script, statements ...string) {
	t.Helper()
	_, after := read(t, table, "")
	for _, s := range statements {
		db.MustExec(s)
	}
	require.NoError(t, saved.Run(t.Context(), db))
	require.NoError(t, saved.Run(t.Context(), db))
	require.NoError(t, table.Check(t.Context()))
	untilGap(t, table, after, statements)
	s, err := table.Remove(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Run(t.Context(), db))
	require.NoError(t, saved.Run(t.Context(), db))
}

// A script that was written before an interruption marks it as well.
func TestSavedScript(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		table := silent(db, "items")
		prepare := func(statements ...string) changelog.Script {
			for _, s := range statements {
				db.MustExec(s)
			}
			s, err := table.Script(t.Context())
			require.NoError(t, err)
			install(t, table)
			return s
		}
		switch {
		case lab.IsPostgres(driver):
			saved := prepare(`create table items (id int primary key, v int)`)
			savedScript(t, db, table, saved, `insert into items values (1, 1)`, `drop trigger items_changes_truncate on items`, `truncate items`)
			savedScript(t, db, table, saved, `insert into items values (1, 1)`, `create or replace function items_changes_record() returns trigger language plpgsql security definer as 'begin return null; end'`, `delete from items`)
			savedScript(t, db, table, saved, `drop trigger items_changes_insert on items; create trigger items_changes_insert after insert on items referencing new table as new_rows for each statement when (false) execute function items_changes_record(); alter table items enable always trigger items_changes_insert`, `insert into items values (2, 2)`)
			db.MustExec(`drop table items, items_changes; create table items (id int primary key, v int) partition by range (id); create table items_1 partition of items for values from (0) to (100)`)
			saved = prepare()
			savedScript(t, db, table, saved, `alter table items_1 disable trigger all`, `insert into items values (1, 1)`)
			savedScript(t, db, table, saved, `drop trigger items_changes_truncate on items_1`, `truncate items_1`)
		case lab.IsMariaDB(driver):
			saved := prepare(`create table parents (id int primary key)`, `create table items (id int primary key, parent int, foreign key (parent) references parents (id) on delete cascade)`)
			savedScript(t, db, table, saved, `insert into parents values (1)`, `insert into items values (1, 1)`, `drop trigger items_changes_parent1_delete`, `delete from parents`)
			savedScript(t, db, table, saved, `drop trigger items_changes_insert`, `create trigger items_changes_insert after insert on items for each row set @x = 1`, `insert into items values (2, null)`)
		default:
			saved := prepare(`create table items (id integer primary key, code int unique)`)
			savedScript(t, db, table, saved, `insert into items values (1, 1)`, `drop trigger items_changes_replace_insert1`, `insert or replace into items values (3, 1)`)
			savedScript(t, db, table, saved, `drop trigger items_changes_insert`, `create trigger items_changes_insert after insert on items begin select 1; end`, `insert into items values (4, 4)`)
		}
	})
}
