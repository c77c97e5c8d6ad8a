package changelog

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/changelog"
)

// The application writes as before after each migration. SQLite itself refuses to drop a column that a trigger names, and
// says which one.
func TestMigrationsSQLite(t *testing.T) {
	eachSQLite(t, func(t *testing.T, db *sqlx.DB) {
		write := func() {
			t.Helper()
			for _, s := range []string{`insert into things (v) values ('b')`, `update things set v = 'c'`, `insert or replace into things (id, v) values (1, 'd')`, `delete from things where id > 1`} {
				db.MustExec(s)
			}
		}
		for _, keysOnly := range []bool{false, true} {
			db.MustExec(`create table things (id integer primary key, v, n int, m int)`)
			open := func() *changelog.Table {
				table := silent(db, "things")
				table.KeysOnly = keysOnly
				return table
			}
			install(t, open())
			write()
			_, err := db.Exec(`alter table things drop column n`)
			if !keysOnly {
				require.ErrorContains(t, err, "things_changes_")
				table := open()
				table.Omit = []string{"n"}
				install(t, table)
				db.MustExec(`alter table things drop column n`)
				require.NoError(t, table.Check(t.Context()))
				table = open()
				table.Omit = []string{"typo"}
				lab.RequirePermanent(t, table.Check(t.Context()), `no column "typo"`)
			}
			write()
			db.MustExec(`alter table things rename column m to o`)
			write()
			db.MustExec(`alter table things rename to others`)
			db.MustExec(`alter table others add column x`)
			db.MustExec(`insert into others (v) values ('b')`)
			db.MustExec(`delete from others`)
			db.MustExec(`alter table others rename to things`)
			install(t, open())
			_, at := read(t, open(), "")
			db.MustExec(`create table again (id integer primary key, v text); insert into again select id, v from things; drop table things; alter table again rename to things`)
			write()
			require.ErrorContains(t, open().Check(t.Context()), "is missing")
			install(t, open())
			_, err = lab.Fetch(t, open(), at, 10)
			require.ErrorIs(t, err, changelog.ErrGap)
			db.MustExec(`drop table things; drop table things_changes`)
		}
	})
}
