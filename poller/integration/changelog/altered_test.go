package changelog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A reader that reads present rows goes on after its columns were renamed or got another type.
func TestLiveReaderOfAlteredTable(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		things(db)
		db.MustExec(`insert into things values (2, 'b', 2), (3, 'c', 3)`)
		keys, loading := silent(db, "things"), silent(db, "things")
		keys.KeysOnly, keys.Changes, loading.Load = true, "things_keys", true
		install(t, keys)
		install(t, loading)
		_, at := read(t, keys, "")
		b, err := lab.Fetch(t, loading, "", 1)
		require.NoError(t, err)
		db.MustExec(`alter table things rename column n to m`)
		db.MustExec(`insert into things values (4, 'd', 4)`)
		_, err = lab.Fetch(t, loading, b.To, 1)
		var wrong *changelog.InstallError
		require.ErrorAs(t, err, &wrong)
		got, at := read(t, keys, at)
		require.Equal(t, []string{`upsert {"id":4} row{"id":4,"v":"d","m":4}`}, got)
		install(t, silent(db, "things")) // in another process
		got, _ = read(t, loading, b.To)
		require.Contains(t, got[0], `row{"id":2,"v":"b","m":2}`)

		if lab.IsPostgres(driver) {
			db.MustExec(`alter table things alter m type text`)
			db.MustExec(`insert into things values (5, 'e', 'five')`)
			b, err := lab.Fetch(t, keys, at, 1)
			require.NoError(t, err)
			require.Equal(t, row.String, b.Records[0].Row.Columns().Type(2).Class)
		}
	})
}

// A column that gets another case stays the same column.
func TestColumnCase(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		if lab.IsPostgres(driver) { // where it is another column
			return
		}
		db.MustExec(`create table users (id int primary key, userName int)`)
		install(t, silent(db, "users"))
		db.MustExec(`insert into users values (1, 1)`)
		_, at := read(t, silent(db, "users"), "")
		db.MustExec(`alter table users rename column userName to username`)
		db.MustExec(`insert into users values (2, 2)`)
		reinstall(t, silent(db, "users"))
		got, _ := read(t, silent(db, "users"), at)
		require.Len(t, got, 1)
		require.Contains(t, got[0], `row{"id":2,"username":2}`)
	})
}

// A table that takes the name of another takes over its change table.
func TestSwappedTableMariaDB(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL)
	things(db)
	table := silent(db, "things")
	install(t, table)
	db.MustExec(`insert into things values (2, 'b', 2)`)
	_, at := read(t, table, "")
	db.MustExec(`create table copies (id int primary key, v varchar(10), n int)`)
	db.MustExec(`rename table things to things_old, copies to things`)
	db.MustExec(`insert into things values (1, 'a', 1)`)
	table = silent(db, "things")
	reinstall(t, table)
	_, err := lab.Fetch(t, table, at, 10)
	require.ErrorIs(t, err, changelog.ErrGap)
	db.MustExec(`insert into things_old values (9, 'old', 9)`)
	at, err = table.Adopt(t.Context(), at)
	require.NoError(t, err)
	db.MustExec(`insert into things values (2, 'b', 2)`)
	got, _ := read(t, table, at)
	require.Equal(t, []string{`insert {"id":2} row{"id":2,"v":"b","n":2}`}, got)
}

// A table that is remade again and again does not make the change table wider.
func TestRemadeTableSQLite(t *testing.T) {
	eachSQLite(t, func(t *testing.T, db *sqlx.DB) {
		columns := "id integer primary key"
		for i := range 60 {
			columns += fmt.Sprintf(", c%d int", i)
		}
		db.MustExec(`create table wide (` + columns + `)`)
		install(t, silent(db, "wide"))
		count := func() (n int) {
			require.NoError(t, db.Get(&n, `select count(*) from pragma_table_info('wide_changes')`))
			return n
		}
		before := count()
		for range 3 {
			for _, s := range strings.Split(`create table remade (`+columns+`); insert into remade select * from wide; drop table wide; alter table remade rename to wide`, "; ") {
				db.MustExec(s)
			}
			install(t, silent(db, "wide"))
		}
		require.Equal(t, before, count())
	})
}
