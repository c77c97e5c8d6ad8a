// Package xminsource_test tests package xminsource against real servers.
package xminsource_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

func TestMain(m *testing.M) {
	if !runReader() {
		lab.Main(m)
	}
}

// transient reports whether an error passes, such as that of a server which is down.
func transient(err error) bool { return retry.Classify(err) == retry.Transient }

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

// await polls until n rows have come: transactions of other tests hold rows back on a shared server.
func await(tb testing.TB, s *xminsource.Source, after source.Cursor, n int) (rows []string, to source.Cursor) {
	tb.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for late := time.After(lab.WaitLimit); ; {
		more, to, _ := poll(tb, s, after)
		after = to
		if rows = append(rows, more...); len(rows) >= n {
			return rows, to
		}
		select {
		case <-again.C:
		case <-late:
			tb.Fatalf("%d of %d rows have come", len(rows), n)
		}
	}
}
