package ceilings

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// lastRemedy returns the last remedy for what makes a table unsafe, which is the recipe.
func lastRemedy(t *testing.T, table *sqlsource.Table) ceiling.Remedy {
	t.Helper()
	found := unsafeIn(t, table)
	return found[0].Remedies[len(found[0].Remedies)-1]
}

func report(t *testing.T, table *sqlsource.Table) ceiling.Report {
	t.Helper()
	c, err := table.Check(t.Context(), "")
	require.NoError(t, err)
	return c.Report
}

func chosen(db *sqlx.DB, name, key string) *sqlsource.Table {
	table := lab.Silent(db, name, key)
	table.Ceiling = sqlite.SingleWriter{}
	return table
}

// The recipe keeps and numbers rows with any id, in tables with columns of the names that it uses.
func TestSQLiteRecipe(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		for name, c := range map[string]struct{ create, key string }{
			"rowid":   {`create table rowid (id integer primary key, n int, v)`, "id"},
			"o":       {`create table o (id integer primary key, n int, n2 int, o int, v)`, "id"},
			"others":  {`create table others (id int, rowid int default 7, n int, v)`, "id"},
			"hidden":  {`create table hidden (id int, _RowID_ int default 7, rowid int default 7, v)`, "id"},
			"without": {`create table without (n int primary key, o int, v) without rowid`, "n"},
		} {
			db.MustExec(c.create)
			add := func(id int) { db.MustExec(fmt.Sprintf("insert or replace into %s (%s) values (?)", name, c.key), id) }
			for _, id := range []int{0, -3, 1, 5} {
				add(id)
			}
			remedy := lastRemedy(t, lab.Silent(db, name, c.key))
			for _, s := range remedy.Statements {
				_, err := db.Exec(s)
				require.NoError(t, err, "%s: %s", name, s)
			}
			add(6)
			add(7)
			var ids, versions []int
			require.NoError(t, db.Select(&ids, fmt.Sprintf("select %s from %s order by 1", c.key, name)))
			require.Equal(t, []int{-3, 0, 1, 5, 6, 7}, ids, name)
			require.NoError(t, db.Select(&versions, fmt.Sprintf("select _version from %s order by 1", name)))
			require.Equal(t, []int{1, 2, 3, 4, 5, 6}, versions, name)
			again := lastRemedy(t, lab.Silent(db, name, c.key))
			require.Empty(t, again.Statements, "the table has the recipe's version")
			require.Contains(t, again.Words, "set Key to _version and Ceiling to single-writer")
		}
	})
}

// No statements are printed for a table whose rows the recipe cannot tell apart.
func TestSQLiteRecipeWithoutRowid(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		db.MustExec(`create table t (id int, rowid int, oid int, _rowid_ int)`)
		remedy := lastRemedy(t, lab.Silent(db, "t", "id"))
		require.Empty(t, remedy.Statements)
		require.Contains(t, remedy.Words, "hide the number by which the recipe tells rows apart")
	})
}

// The recipe's UPDATE would run the triggers of a table.
func TestSQLiteRecipeTriggers(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		db.MustExec(`create table log (id integer primary key, v)`)
		db.MustExec(`create trigger forbid before update on log begin select raise(abort, 'append only'); end`)
		db.MustExec(`insert into log (v) values (1)`)
		remedy := lastRemedy(t, lab.Silent(db, "log", "id"))
		require.Empty(t, remedy.Statements)
		require.Contains(t, remedy.Words, "(forbid)")
		require.Contains(t, remedy.Words, "DESIGN-ceilings.md")
		db.MustExec(`drop trigger forbid`)
		require.NotEmpty(t, lastRemedy(t, lab.Silent(db, "log", "id")).Statements)
	})
}

// Each key has its own index.
func TestSQLiteIndexes(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		db.MustExec(`create table t (a int not null, b int not null)`)
		for _, key := range []string{"a", "b"} {
			var created int
			for _, f := range report(t, chosen(db, "t", key)).Findings {
				if f.Level == ceiling.Warning {
					db.MustExec(f.Remedies[0].Statements[0])
					created++
				}
			}
			require.Equal(t, 1, created)
			for _, f := range report(t, chosen(db, "t", key)).Findings {
				require.NotEqual(t, ceiling.Warning, f.Level, f.Text)
			}
		}
	})
}

// AUTOINCREMENT is told by sqlite_sequence, which somebody else can write to.
func TestSQLiteSequenceWritten(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		db.MustExec(`create table real (id integer primary key autoincrement, v)`)
		db.MustExec(`insert into real (v) values (1), (2)`)
		for change, want := range map[string]string{
			`delete from sqlite_sequence`:             "that row was deleted, and comes back with the next INSERT",
			`update real set id = id + 9 where v = 2`: "start again after the next INSERT",
		} {
			db.MustExec(change)
			_, err := lab.Silent(db, "real", "id").Fetch(t.Context(), "", 10)
			lab.RequirePermanent(t, err, want)
			db.MustExec(`insert into real (v) values (3)`)
			_, err = lab.Silent(db, "real", "id").Fetch(t.Context(), "", 10)
			require.NoError(t, err, change)
		}
		db.MustExec(`create table other (id integer primary key, v)`)
		db.MustExec(`insert into other values (1, 1)`)
		db.MustExec(`insert into sqlite_sequence values ('other', 1)`)
		other := lab.Silent(db, "other", "id")
		got, at := lab.ReadAll(t, other, "", 10, lab.RowJSON)
		require.Len(t, got, 1, "nothing shows yet that it has no AUTOINCREMENT")
		require.Contains(t, report(t, other).Guarantee, "only AUTOINCREMENT should write it")
		db.MustExec(`insert into other (v) values (2)`)
		_, err := other.Fetch(t.Context(), at, 10)
		lab.RequirePermanent(t, err, "the table has no AUTOINCREMENT")
	})
}

// With the first row of a table, a ceiling that was chosen takes the user's word.
func TestSQLiteChosenEmpty(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		db.MustExec(`create table real (id integer primary key autoincrement)`)
		db.MustExec(`create table t (id integer primary key, v)`)
		table := chosen(db, "t", "id")
		require.Contains(t, fmt.Sprint(report(t, table).Findings), "or read by your word")
		_, at := lab.ReadAll(t, table, "", 10, lab.RowJSON)
		db.MustExec(`insert into t (v) values (1)`)
		got, _ := lab.ReadAll(t, table, at, 10, lab.RowJSON)
		require.Len(t, got, 1)
	})
}
