package outages

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// SQLite has no server that can fail, but its file can be locked or moved.
func TestOutageOfAFile(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			t.Run("locked", func(t *testing.T) {
				t.Parallel()
				tb, p, _ := newFile(t, driver)
				// The reader waits for the writer, however slow the disk is. Only during
				// the outage, without a writer, does it give up soon.
				p.source.DB.SetMaxOpenConns(1)
				waits := func(ms int) {
					p.source.DB.MustExec(fmt.Sprintf("pragma busy_timeout = %d", ms))
				}
				var locked *sqlx.Conn
				exec := func(statement string) {
					_, err := locked.ExecContext(t.Context(), statement)
					require.NoError(t, err, statement)
				}
				runThroughFault(t, fault{
					begin: func() {
						tb.mu.Lock() // the writer would fail as well
						var err error
						locked, err = tb.db.Connx(t.Context())
						require.NoError(t, err)
						exec("pragma busy_timeout = 10000")
						waits(300)
						exec("begin exclusive")
					},
					end: func() {
						exec("commit")
						require.NoError(t, locked.Close())
						waits(10000)
						tb.mu.Unlock()
					},
				}, p)
			})
			t.Run("moved away", func(t *testing.T) {
				t.Parallel()
				tb, p, path := newFile(t, driver)
				// An open file can still be read after it was moved. Only a connection
				// opened for each poll notices.
				p.source.DB.SetMaxIdleConns(0)
				away := filepath.Join(t.TempDir(), "away.db")
				runThroughFault(t, fault{
					begin: func() {
						tb.mu.Lock()
						require.NoError(t, os.Rename(path, away))
					},
					end: func() {
						require.NoError(t, os.Rename(away, path))
						tb.mu.Unlock()
					},
				}, p)
			})
		})
	}
}

// newFile creates a table in a file in which readers and writers lock each other out, and a
// pipeline that waits for locks and does not create a missing file.
func newFile(t *testing.T, driver dbtest.Driver) (*table, *pipeline, string) {
	t.Helper()
	path := dbtest.SQLite(t).Name()
	open := func(query string) *sqlx.DB {
		u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: "_pragma=busy_timeout(10000)&" + query}
		db, err := sqlx.Open(driver.SQLName(), u.String())
		require.NoError(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	tb := newTable(t, open("_pragma=journal_mode(delete)&_pragma=synchronous(off)"), driver)
	return tb, newPipeline(t, tb, open("mode=rw")), path
}
