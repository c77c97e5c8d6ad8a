package lab

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Patience is the limit for what must happen: far more than it takes.
const Patience = 30 * time.Second

// Silent returns a source that logs nothing.
func Silent(db *sqlx.DB, name string, key ...string) *sqlsource.Table {
	return &sqlsource.Table{DB: db, Name: name, Key: key, Logger: slog.New(slog.DiscardHandler)}
}

// Fetch calls src.Fetch again while rows are held back.
func Fetch[T any](tb testing.TB, src source.Source[T], after source.Cursor, limit int) (source.Batch[T], error) {
	tb.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for late := time.After(Patience); ; {
		b, err := src.Fetch(context.Background(), after, limit)
		if err != nil || b.Held == nil || len(b.Records) > 0 {
			return b, err
		}
		select {
		case <-again.C:
		case <-late:
			tb.Fatalf("rows are held back for good, by %q", b.Held.By)
		}
	}
}

// ReadAll reads to the end, in batches of at most limit records. It returns the text
// of every record, and the last cursor.
func ReadAll[T any](tb testing.TB, src source.Source[T], after source.Cursor, limit int, text func(T) string) ([]string, source.Cursor) {
	tb.Helper()
	var all []string
	for {
		b, err := Fetch(tb, src, after, limit)
		if err = errors.Join(err, b.To.Validate()); err != nil {
			tb.Fatal(err)
		}
		if len(b.Records) > limit {
			tb.Fatalf("a batch has %d records, more than %d", len(b.Records), limit)
		}
		for _, r := range b.Records {
			all = append(all, text(r))
		}
		after = b.To
		if !b.More && b.Held == nil {
			return all, after
		}
	}
}

// PollOnce reads until nothing more is available, and adds the first column of
// every row to got. Rows that wait for a transaction are not waited for.
func PollOnce(tb testing.TB, table *sqlsource.Table, after source.Cursor, got *[]string) (source.Cursor, *source.Held) {
	tb.Helper()
	for {
		b, err := table.Fetch(tb.Context(), after, 1000)
		if err != nil {
			tb.Fatal(err)
		}
		for _, r := range b.Records {
			*got = append(*got, r.Text(0))
		}
		after = b.To
		if !b.More && !Unflushed(b.Held) {
			return after, b.Held
		}
	}
}

// Unflushed reports whether rows wait for the log of a Postgres server, which
// writes for other tests too and flushes five times a second.
func Unflushed(held *source.Held) bool {
	return held != nil && len(held.By) > 0 && strings.Contains(held.By[0], "write-ahead log")
}

// RowJSON returns a row as JSON, or the text of the error.
func RowJSON(r row.Row) string {
	b, err := r.AppendJSON(nil)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// RequirePermanent requires an error that no retry removes and that contains the parts.
func RequirePermanent(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, want one with %q", parts)
	}
	if class := retry.Classify(err); class != retry.Fatal || errors.Is(err, source.ErrEnd) {
		tb.Fatalf("the error is classified as %v and must be permanent: %v", class, err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			tb.Fatalf("the error does not contain %q: %v", p, err)
		}
	}
}
