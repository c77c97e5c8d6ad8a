//go:build linux

package faults

import (
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sqliteFaults are faults of a database that is a file. The writers pause during a fault, because
// they would fail as well.
func sqliteFaults() []fault {
	list := []fault{
		{name: "table locked", how: "BEGIN EXCLUSIVE by another process in a database without a write-ahead log, for 2 s", times: 2, quiet: 2 * time.Second, begin: func(w *world) func() {
			resume := w.pauseWriters()
			release := w.hold(`BEGIN EXCLUSIVE`, `COMMIT`)
			return func() { release(); resume() }
		}},
		{name: "file moved", how: "the file is renamed, and the copy is killed; each start fails; then it is renamed back", dies: true, begin: func(w *world) func() {
			path := w.database.Name()
			resume := w.pauseWriters()
			require.NoError(w.t, os.Rename(path, path+"-away"))
			w.copy.kill()
			killed := time.Now()
			w.eventually("the new process fails", func() bool { return w.copy.ends(killed) > 0 })
			return func() {
				assert.NoFileExists(w.t, path, "the copy created a database")
				require.NoError(w.t, os.Rename(path+"-away", path))
				resume()
			}
		}},
	}
	for i := range list {
		list[i].part, list[i].on, list[i].prepare = "databases", onlySQLite, withoutLog
	}
	return list
}

// withoutLog lets the database work without a write-ahead log, so that it is a single file and
// a writer can lock readers out.
func withoutLog(w *world) {
	w.db.MustExec(`PRAGMA journal_mode = delete`)
	require.NoError(w.t, w.db.Close())
	w.db = openFile(w, w.database.Name())
}

func openFile(w *world, path string) *sqlx.DB {
	u := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(delete)"}
	db, err := sqlx.Open(w.engine.driver.SQLName(), u.String())
	require.NoError(w.t, err)
	require.NoError(w.t, db.Ping())
	w.t.Cleanup(func() { db.Close() })
	return db
}

// The file is replaced by another database with the same table while the copy runs. The copy
// ends and says so, also when the table has grown past the copied rows.
func TestFileReplaced(t *testing.T) {
	t.Parallel()
	f := fault{part: "databases", name: "file replaced",
		how: "another database with the same table gets the file's name, and the copy is killed; it grows past the copied rows; each start refuses; then -rewind first"}
	r := results.row(t, f, sqlite.name)
	w := newWorld(t, f, sqlite)
	withoutLog(w)
	w.insert(600)
	w.copy.start()
	w.catchesUp()
	began := time.Now()
	require.NoError(t, w.db.Close())
	require.NoError(t, os.Rename(w.database.Name(), w.database.Name()+"-away"))
	w.db = openFile(w, w.database.Name())
	w.db.MustExec(sqlite.create)
	w.insert(50)
	w.copy.kill()
	w.refuses(r, began)
	w.rewind(r, 600, 600)
}
