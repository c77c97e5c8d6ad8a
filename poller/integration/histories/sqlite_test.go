package histories

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

const createSQLite = `create table orders (id integer primary key autoincrement, token text not null default (hex(randomblob(8))), state text not null default 'new', total int not null default (abs(random()) % 1000), at text not null default (strftime('%f', 'now')))`

// fillSQLite inserts rows in one statement.
func fillSQLite(state string, n int) string {
	return fmt.Sprintf(`insert into orders (token, state, total) with recursive s(n) as (select 1 union all select n + 1 from s where n < %d) select hex(randomblob(8)), '%s', abs(random()) %% 1000 from s`, n, state)
}

func TestSQLiteActs(t *testing.T) {
	t.Parallel()
	fill := ` | ` + fillSQLite("other", 2000)
	for n, act := range []struct {
		name, do string
		want     outcome
		lossy    outcome // with a lossy ceiling; "": the same
	}{
		{"drop and create, filled", `drop table orders | ` + createSQLite + fill, refused, ""},
		{"sequence set back, filled", `delete from orders | delete from sqlite_sequence` + fill, told, ""},
		{"sequence set back", `delete from orders | update sqlite_sequence set seq = 1`, refused, later},
		{"rename swap with other rows", createSQLite2("fresh") + ` | ` + strings.Replace(fillSQLite("other", 2000), "orders", "fresh", 1) + ` | drop table orders | alter table fresh rename to orders`, refused, ""},
		{"rebuilt as advised", createSQLite2("fresh") + ` | insert into fresh select * from orders | drop table orders | alter table fresh rename to orders`, continues, ""},
		{"all rows updated, vacuumed", `update orders set state = 'done', total = total + 1 | vacuum`, continues, ""},
		{"pruned, vacuumed", `delete from orders where id <= 300 | vacuum`, continues, ""},
		{"columns", `alter table orders add note text default 'x' | alter table orders drop total | alter table orders add total int not null default 1`, continues, ""},
	} {
		for _, restarted := range restarts(n) {
			for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
				t.Run(fmt.Sprint(act.name, restarted, driver), func(t *testing.T) {
					t.Parallel()
					db := dbtest.SQLite(t).Open(t, driver)
					run(t, db, createSQLite)
					insert := func(n int) { run(t, db, fillSQLite("new", n)) }
					all := newPipelines(t, db)
					insert(300)
					all.poll()
					run(t, db, strings.Split(act.do, " | ")...)
					if restarted {
						all.restart(db)
					}
					all.check(act.want, act.lossy, insert)
				})
			}
		}
	}
}

// A refusal stays when what has shown the other history is gone.
func TestRefusalStays(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	run(t, db, createSQLite, fillSQLite("new", 300))
	p := newPipeline(t, db)
	require.NoError(t, p.poll())
	run(t, db, `drop table orders`, createSQLite, fillSQLite("other", 2000))
	require.ErrorIs(t, p.poll(), sqlsource.ErrHistory)
	run(t, db, `delete from orders where id <= 300`)
	for range 2 {
		p.restart()
		require.ErrorIs(t, p.poll(), sqlsource.ErrHistory)
	}
	require.Len(t, p.tokens, 300)
}

func createSQLite2(name string) string { return strings.Replace(createSQLite, "orders", name, 1) }

// Another file takes the place of the database's file, under a running pipeline and while it is down.
func TestSQLiteFileReplaced(t *testing.T) {
	t.Parallel()
	for n, act := range []struct {
		name   string
		backed int // rows in the backup
		grow   int // rows that are inserted into the new file before the next poll
		want   outcome
		lossy  outcome // with a lossy ceiling; "": the same
	}{
		{"by a copy of itself", 300, 0, continues, ""},
		{"by a copy of itself, grown", 300, 200, continues, ""},
		{"by an older copy", 200, 0, refused, later},
		{"by an older copy, grown past the cursor", 200, 2000, refused, ""},
		{"by another database", 0, 2000, refused, ""},
	} {
		for _, restarted := range restarts(n) {
			for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
				t.Run(fmt.Sprint(act.name, restarted, driver), func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					file, backup := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
					open := func() *sqlx.DB { return sqlx.MustOpen(driver.SQLName(), "file:"+file) }
					write := func(statements ...string) { // as another program does
						db := open()
						defer db.Close()
						run(t, db, statements...)
					}
					write(createSQLite)
					if act.backed > 0 {
						write(fillSQLite("new", act.backed))
					}
					write("vacuum into '" + backup + "'")
					if more := 300 - act.backed; more > 0 {
						write(fillSQLite("new", more))
					}
					db := open()
					defer func() { db.Close() }()
					idle(t, db)
					all := newPipelines(t, db)
					all.poll()
					require.Len(t, all[0].tokens, 300)
					require.NoError(t, os.Rename(backup, file))
					if act.grow > 0 {
						write(fillSQLite("other", act.grow))
					}
					if restarted {
						db.Close()
						db = open()
						all.restart(db)
					}
					all.check(act.want, act.lossy, func(n int) { write(fillSQLite("new", n)) })
				})
			}
		}
	}
}

// idle gives a pool two connections that have opened the file.
func idle(t *testing.T, db *sqlx.DB) {
	t.Helper()
	var n int
	a, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer a.Close()
	b, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer b.Close()
	for _, c := range []*sql.Conn{a, b} {
		require.NoError(t, c.QueryRowContext(t.Context(), "select count(*) from orders").Scan(&n))
	}
}

// The file is moved away. That is an outage, and not the end of the rows.
func TestSQLiteFileGone(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		dir := t.TempDir()
		file := filepath.Join(dir, "a.db")
		db := sqlx.MustOpen(driver.SQLName(), "file:"+file)
		defer db.Close()
		run(t, db, createSQLite, fillSQLite("new", 300))
		p := newPipeline(t, db)
		require.NoError(t, p.poll())
		require.NoError(t, os.Rename(file, file+".moved"))
		_, err := p.table.Fetch(t.Context(), p.cursor, 10)
		require.ErrorContains(t, err, "the database's file is not at its path any more")
		require.NoError(t, os.Rename(file+".moved", file))
		run(t, db, fillSQLite("new", 10))
		require.NoError(t, p.poll())
		require.Len(t, p.tokens, 310)
	}
}
