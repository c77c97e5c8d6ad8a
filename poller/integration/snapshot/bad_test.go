package snapshot

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/snapshot"
)

// A row that the server cannot return is a bad record. Its error aborts a transaction of Postgres. The other rows
// are from one snapshot.
func TestARowThatTheServerRefuses(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table t (id int primary key)`)
		db.MustExec(`insert into t select generate_series(1, 9)`)
		db.MustExec(`create view v as select id, 10 / (id - 4) as q from t`)
		r := rowsOf(t, db, snapshot.Table{Name: "v", Key: []string{"id"}})
		var got []string
		var after source.Cursor
		for i, more := 0, true; more; i++ {
			b, err := lab.Fetch(t, r, after, 2)
			var bad *source.BadRecord
			if errors.As(err, &bad) {
				got, after = append(got, "!"+bad.Key), bad.To
				continue
			}
			require.NoError(t, err)
			require.NotContains(t, b.Guarantee.Text, "interrupted")
			for _, r := range b.Records {
				got = append(got, r.Text(0))
			}
			after, more = b.To, b.More
			db.MustExec(fmt.Sprintf(`insert into t values (%d)`, 100+i))
		}
		require.Equal(t, []string{"1", "2", "3", "!id 4", "5", "6", "7", "8", "9"}, got)

		// By one statement, the error ends it. The same transaction still serves others.
		_, err := lab.Fetch(t, changesOf(t, db, "v"), "", 10)
		require.Equal(t, retry.Data, retry.Classify(err), "%v", err)
	})
}

// A table that does not exist, or that the role may not read, is named.
func TestWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table open_one (id int primary key)`)
		for _, c := range []struct {
			table snapshot.Table
			text  string
		}{
			{snapshot.Table{Name: "absent"}, "absent"},
			{snapshot.Table{Name: "a.b.c"}, "a.b.c"},
			{snapshot.Table{Name: "open_one", Columns: []string{"nosuch"}}, "nosuch"},
			{snapshot.Table{Name: "open_one", Key: []string{"nosuch"}}, "nosuch"},
			{snapshot.Table{Name: "open_one", Where: "nosuch = 1"}, "nosuch"},
			{snapshot.Table{Name: "x", Select: "select nosuch from open_one"}, "nosuch"},
		} {
			_, err := lab.Fetch(t, rowsOf(t, db, c.table), "", 1)
			require.ErrorContains(t, err, c.text)
		}
		for _, c := range []*snapshot.Changes{changesOf(t, nil, "a"), changesOf(t, db), changesOf(t, db, "open_one", "open_one")} {
			_, err := lab.Fetch(t, c, "", 1)
			lab.RequirePermanent(t, err, "snapshot: ")
		}
	})
}

// SELECT on some columns is enough for those. Without any, the error names the table and the remedy.
func TestGrants(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.MySQL} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			d := lab.DatabaseFor(t, driver)
			db := d.Open(t, driver)
			db.MustExec(`create table readable (id int primary key, v int)`)
			db.MustExec(`create table secret (id int primary key, v int)`)
			db.MustExec(`create table partly (id int primary key, v int)`)
			db.MustExec(`insert into partly values (1, 2)`)
			user := "reader_" + d.Name()
			grants := []string{"create role " + user + " login password 'p'", "grant select on readable to " + user, "grant select (id) on partly to " + user}
			drop := "drop owned by " + user + "; drop role " + user
			if lab.IsMariaDB(driver) {
				grants[0], drop = "create user "+user+" identified by 'p'", "drop user "+user
			}
			for _, grant := range grants {
				db.MustExec(grant)
			}
			t.Cleanup(func() { db.MustExec(drop) })
			as := d.WithUser(user, "p").Open(t, driver)
			_, err := lab.Fetch(t, changesOf(t, as, "readable", "secret"), "", 1)
			require.ErrorContains(t, err, "secret")
			lab.RequirePermanent(t, err)
			r := rowsOf(t, as, snapshot.Table{Name: "partly", Columns: []string{"id"}})
			b, err := lab.Fetch(t, r, "", 1)
			require.NoError(t, err)
			require.Equal(t, `{"id":1}`, lab.RowJSON(b.Records[0]))
			require.NoError(t, r.Close())
		})
	}
}
