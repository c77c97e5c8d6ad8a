package changelog

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func eachSQLite(t *testing.T, f func(t *testing.T, db *sqlx.DB)) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		t.Run(string(driver), func(t *testing.T) {
			db := dbtest.SQLite(t).Open(t, driver)
			db.SetMaxOpenConns(1)
			f(t, db)
		})
	}
}

// The results that a connection reads about its own statements do not change.
func TestSQLiteApplication(t *testing.T) {
	eachSQLite(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table "or""ders" (id integer primary key, "old_v" text, g int as (id + 1), h text default 'h' unique)`)
		db.MustExec(`create table "OR""ders_CHANGES" (mine int)`)
		table := silent(db, `"or""ders"`)
		for range 5 {
			reinstall(t, table)
		}
		db.MustExec(`insert into "or""ders" values (7, 'a', 'H')`)
		var id, changed int
		require.NoError(t, db.QueryRow(`insert into "or""ders" (old_v) values ('b') returning id`).Scan(&id))
		require.Equal(t, 8, id)
		result := db.MustExec(`update "or""ders" set old_v = 'c'`)
		count, err := result.RowsAffected()
		require.NoError(t, err)
		require.EqualValues(t, 2, count)
		require.NoError(t, db.QueryRow(`select changes()`).Scan(&changed))
		require.Equal(t, 2, changed)
		last, err := db.MustExec(`insert into "or""ders" (old_v, h) values ('d', 'i')`).LastInsertId()
		require.NoError(t, err)
		require.EqualValues(t, 9, last)
		db.MustExec(`alter table "or""ders" rename column old_v to w`) // SQLite changes the triggers
		require.ErrorContains(t, table.Check(t.Context()), `"w" was added or renamed`)
	})
}

// A table without rowid, with a key of several columns and one that is not the primary key.
func TestSQLiteKeys(t *testing.T) {
	eachSQLite(t, func(t *testing.T, db *sqlx.DB) {
		for name, ddl := range map[string]string{"w": `(a text, b blob, v, primary key (b, a)) without rowid`, "u": `(v, a text not null, b text not null, unique (a, b))`, "t": `(a text primary key, b text unique collate nocase, v)`} {
			db.MustExec(`create table ` + name + ddl)
			table, key := silent(db, name), []string{"b", "a"}
			switch name {
			case "u":
				table.Key = key
			case "t":
				key = []string{"a"}
			}
			install(t, table)
			copied := replica{}
			at := copied.follow(t, table, "")
			for _, s := range []string{`insert into %s (a, b, v) values ('x', 'y', 1), ('p', 'q', 2)`, `insert or replace into %s (a, b, v) values ('x', 'y', 3)`, `insert or replace into %s (a, b, v) values ('k', 'Q', 3)`,
				`update or replace %s set b = 'Y', a = 'k' where a = 'p'`, `update %s set a = b`, `delete from %s where a = 'Q'`} {
				db.MustExec(fmt.Sprintf(s, name))
				at = copied.follow(t, table, at)
				copied.requireSame(t, db, name, key...)
			}
		}
		_, err := silent(db, "u").Script(t.Context())
		lab.RequirePermanent(t, err, "primary key")
		db.MustExec(`create table x (id integer primary key, v text); create unique index lower on x (lower(v))`)
		x := silent(db, "x")
		install(t, x)
		db.MustExec(`insert into x (v) values ('a')`)
		b, err := lab.Fetch(t, x, "", 10)
		require.NoError(t, err)
		require.Contains(t, b.Guarantee.Text, "the index lower")
	})
}
