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
