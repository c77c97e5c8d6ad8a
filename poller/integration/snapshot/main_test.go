package snapshot

import (
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/snapshot"
)

func TestMain(m *testing.M) { lab.Main(m) }

// silent returns the options for a pool, with a logger that discards.
func silent(db *sqlx.DB) snapshot.Options {
	return snapshot.Options{DB: db, Logger: slog.New(slog.DiscardHandler)}
}

// rowsOf returns a snapshot of one table, which is closed with the test.
func rowsOf(t testing.TB, db *sqlx.DB, table snapshot.Table) *snapshot.Rows {
	r := &snapshot.Rows{Options: silent(db), Table: table}
	t.Cleanup(func() { r.Close() })
	return r
}

// changesOf returns a snapshot of tables, which is closed with the test.
func changesOf(t testing.TB, db *sqlx.DB, names ...string) *snapshot.Changes {
	c := &snapshot.Changes{Options: silent(db)}
	for _, name := range names {
		c.Tables = append(c.Tables, snapshot.Table{Name: name})
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// changeJSON returns a change as JSON, or the text of the error.
func changeJSON(c row.Change) string {
	b, err := c.AppendJSON(nil)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
