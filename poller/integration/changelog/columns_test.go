package changelog

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// things creates a table with one row.
func things(db *sqlx.DB) {
	db.MustExec(`create table things (id int primary key, v varchar(10), n int)`)
	db.MustExec(`insert into things values (1, 'a', 1)`)
}

// The rows of changes that were recorded without a column are looked up.
func TestColumnNotRecorded(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		things(db)
		table := silent(db, "things")
		install(t, table)
		_, at := read(t, table, "")
		db.MustExec(`alter table things add m int`)
		db.MustExec(`update things set m = 4`)
		install(t, table)
		got, at := read(t, table, at)
		require.Equal(t, []string{`upsert {"id":1} row{"id":1,"v":"a","n":1,"m":4}`}, got)

		keys := silent(db, "things")
		keys.KeysOnly = true
		install(t, keys)
		db.MustExec(`update things set v = 'b'`)
		table = silent(db, "things")
		install(t, table)
		got, _ = read(t, table, at)
		require.Equal(t, []string{`upsert {"id":1} row{"id":1,"v":"b","n":1,"m":4}`}, got)
	})
}

// A column that is recorded again has no value in the changes in between.
func TestColumnComesBack(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		things(db)
		table := silent(db, "things")
		install(t, table)
		_, at := read(t, table, "")
		for range 2 {
			without := silent(db, "things")
			without.Omit = []string{"n"}
			install(t, without)
			db.MustExec(`update things set v = 'b'`)
			table = silent(db, "things")
			install(t, table)
			db.MustExec(`update things set v = 'c'`)
			var got []string
			got, at = read(t, table, at)
			require.Len(t, got, 2)
			require.Equal(t, `upsert {"id":1} row{"id":1,"v":"c","n":1}`, got[0])
			require.Contains(t, got[1], `old{"id":1,"v":"b","n":1}`)
		}
		copied := replica{}
		fresh := silent(db, "things")
		fresh.Load = true
		copied.follow(t, fresh, "")
		copied.requireSame(t, db, "things", "id")
	})
}

// Values that were recorded while their column was too narrow are looked up.
func TestRetypeMariaDB(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL)
	db.MustExec(`create table things (id int primary key, s enum('a', 'b'), v varchar(10))`)
	table := silent(db, "things")
	install(t, table)
	db.MustExec(`insert into things values (1, 'a', 'a')`)
	_, at := read(t, table, "")
	db.MustExec(`alter table things modify s enum('a', 'b', 'c'), modify v varchar(30)`)
	db.MustExec(`insert into things values (2, 'c', 'abcdefghijklmnop')`)
	require.ErrorContains(t, table.Check(t.Context()), "the type of the column")
	install(t, table)
	got, _ := read(t, table, at)
	require.Equal(t, []string{`upsert {"id":2} row{"id":2,"s":"c","v":"abcdefghijklmnop"}`}, got)
}

// The script does not convert the values that are recorded: it may be unable to.
func TestRetypePostgres(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	db.MustExec(`create table things (id int primary key, s text)`)
	table := silent(db, "things")
	install(t, table)
	db.MustExec(`insert into things values (1, 'open')`)
	db.MustExec(`alter table things alter s type int using case s when 'open' then 1 end`)
	install(t, table)
	db.MustExec(`insert into things values (2, 2)`)
	got, _ := read(t, table, "")
	require.Equal(t, []string{`upsert {"id":1} row{"id":1,"s":1}`, `insert {"id":2} row{"id":2,"s":2}`}, got)
}
