package ceilings

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// The path of a data source name leads to another file, because a symbolic link in it was replaced, or
// a directory. SQLite names the file that the link led to, which still exists.
func TestSQLiteLinkReplaced(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		open := func(name string) *sqlx.DB {
			db := sqlx.MustOpen(driver.SQLName(), name)
			t.Cleanup(func() { db.Close() })
			return db
		}
		for form, opened := range map[string]func(path string) *sqlx.DB{
			"path":        open,
			"path, query": func(path string) *sqlx.DB { return open(path + "?_pragma=busy_timeout(5000)") },
			"uri":         func(path string) *sqlx.DB { return open("file:" + path + "?mode=rw") },
			"whole uri":   func(path string) *sqlx.DB { return open("file://" + (&url.URL{Path: path}).EscapedPath()) },
		} {
			if form == "path, query" && driver == dbtest.NCruces { // for which it is a part of the name
				continue
			}
			for _, what := range []string{"link to the file", "link to the directory", "directory"} {
				t.Run(string(driver)+" "+form+" "+what, func(t *testing.T) {
					dir := t.TempDir()
					for _, name := range []string{"one", "two"} {
						require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
						db := open("file:" + filepath.Join(dir, name, "a b.db"))
						db.MustExec(`create table ords (id integer primary key autoincrement, v text default (hex(randomblob(8))), w text default (hex(randomblob(8))))`)
						for range map[string]int{"one": 5, "two": 9}[name] {
							db.MustExec(`insert into ords default values`)
						}
						require.NoError(t, db.Close())
					}
					path, link := filepath.Join(dir, "live", "a b.db"), filepath.Join(dir, "live")
					target := func(name string) string { return filepath.Join(dir, name) }
					if what == "link to the file" {
						path, link = filepath.Join(dir, "live.db"), filepath.Join(dir, "live.db")
						target = func(name string) string { return filepath.Join(dir, name, "a b.db") }
					}
					point := func(name string) {
						require.NoError(t, os.Symlink(target(name), link+".new"))
						require.NoError(t, os.Rename(link+".new", link))
					}
					if what == "directory" {
						point = func(name string) {
							if name == "two" {
								require.NoError(t, os.Rename(link, filepath.Join(dir, "old")))
							}
							require.NoError(t, os.Rename(target(name), link))
						}
					}
					point("one")
					db := opened(path)
					db.SetMaxOpenConns(1)
					table := lab.Silent(db, "ords", "id")
					got, at := lab.ReadAll(t, table, "", 10, lab.RowJSON)
					require.Len(t, got, 5)
					point("two")
					require.ErrorIs(t, lab.Refused(t, table, at), sqlsource.ErrHistory)
				})
			}
		}
	}
}
