//go:build linux

package faults

import (
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
)

// sqliteFaults are faults of a database that is a file. The writers pause meanwhile, because
// they would fail as well.
func sqliteFaults() []fault {
	list := []fault{
		{name: "table locked", how: "BEGIN EXCLUSIVE by another process in a database without a write-ahead log, for 2 s", times: 2, quiet: 2 * time.Second, begin: func(w *world) func() {
			w.gate.Lock()
			release := w.hold(`BEGIN EXCLUSIVE`, `COMMIT`)
			return func() { release(); w.gate.Unlock() }
		}},
		{name: "file moved", how: "the file is renamed, and the copy is killed; each start fails; then it is renamed back", dies: true, begin: func(w *world) func() {
			return replaceFile(w, func(string) {})
		}},
		{name: "file replaced", how: "the file is renamed, another database with the same table and 5,000 rows gets its name, and the copy is killed; each start refuses; then it is renamed back", dies: true, begin: func(w *world) func() {
			return replaceFile(w, func(path string) {
				other := openFile(w, path)
				defer other.Close()
				other.MustExec(w.engine.create)
				other.MustExec(`INSERT INTO items (note) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT 'of another database' FROM n`)
			})
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
	w.t.Cleanup(func() { w.db.Close() })
}

func openFile(w *world, path string) *sqlx.DB {
	u := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(delete)"}
	db, err := sqlx.Open(w.engine.driver.SQLName(), u.String())
	require.NoError(w.t, err)
	require.NoError(w.t, db.Ping())
	return db
}

// replaceFile moves the file away and lets create create another one in its place. The copy
// ends, or says that it fails.
func replaceFile(w *world, create func(path string)) (end func()) {
	path := w.database.Name()
	away := path + "-away"
	w.gate.Lock()
	require.NoError(w.t, os.Rename(path, away))
	create(path)
	w.copy.kill()
	killed := time.Now()
	w.eventually("the new process fails", func() bool { return w.copy.failing(killed) })
	return func() {
		w.copy.signal(syscall.SIGKILL) // it may have opened the other file
		require.NoError(w.t, os.RemoveAll(path))
		require.NoError(w.t, os.Rename(away, path))
		w.gate.Unlock()
		w.copy.signal(syscall.SIGKILL)
	}
}
