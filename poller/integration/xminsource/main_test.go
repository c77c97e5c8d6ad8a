// Package xminsource_test tests package xminsource against real servers.
package xminsource_test

import (
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

func TestMain(m *testing.M) { lab.Main(m) }

// sourceOf returns a source of a table that logs nothing.
func sourceOf(db *sqlx.DB, name string, key ...string) *xminsource.Source {
	return &xminsource.Source{DB: db, Name: name, Key: key, Logger: slog.New(slog.DiscardHandler)}
}

// text is a change as JSON.
func text(c row.Change) string {
	b, err := c.AppendJSON(nil)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// poll reads until nothing more is available, and returns the rows of the changes. It does not wait for rows
// that are held back by a transaction.
func poll(tb testing.TB, s *xminsource.Source, after source.Cursor) (rows []string, to source.Cursor, held *source.Held) {
	tb.Helper()
	for {
		b, err := s.Fetch(tb.Context(), after, 1000)
		if err != nil {
			tb.Fatal(err)
		}
		for _, c := range b.Records {
			rows = append(rows, lab.RowJSON(c.Row))
		}
		if after = b.To; !b.More && !lab.Unflushed(b.Held) {
			return rows, after, b.Held
		}
	}
}
