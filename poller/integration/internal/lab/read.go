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

// WaitLimit is how long a test waits for an expected event: far longer than it takes, even
// on a machine that is busy or stands still for seconds.
const WaitLimit = 2 * time.Minute

// Silent returns a table source that logs nothing.
func Silent(db *sqlx.DB, name string, key ...string) *sqlsource.Table {
	return &sqlsource.Table{DB: db, Name: name, Key: key, Logger: slog.New(slog.DiscardHandler)}
}

// Fetch calls src.Fetch, and repeats it while rows are held back.
func Fetch[T any](tb testing.TB, src source.Source[T], after source.Cursor, limit int) (source.Batch[T], error) {
	tb.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for late := time.After(WaitLimit); ; {
		b, err := src.Fetch(context.Background(), after, limit)
		if err != nil || b.Held == nil || len(b.Records) > 0 {
			return b, err
		}
		select {
		case <-again.C:
		case <-late:
			tb.Fatalf("rows are still held back, by %q", b.Held.By)
		}
	}
}

// Refused fetches after a cursor that does not continue, and returns the error. A refusal comes in
// an empty batch first, to be saved, and then as the error of each fetch from its cursor.
func Refused[T any](tb testing.TB, src source.Source[T], after source.Cursor) error {
	tb.Helper()
	b, err := src.Fetch(context.Background(), after, 10)
	if err == nil && len(b.Records) == 0 && b.To != after && b.More {
		_, err = src.Fetch(context.Background(), b.To, 10)
		if _, again := src.Fetch(context.Background(), b.To, 10); again == nil || err == nil || again.Error() != err.Error() {
			tb.Fatalf("the refusal is not kept: %v, then %v", err, again)
		}
	}
	if err == nil {
		tb.Fatalf("the cursor %s is not refused: %d rows", after, len(b.Records))
	}
	return err
}

// ReadAll reads to the end in batches of at most limit records. It returns the text of
// every record, and the last cursor.
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

// PollOnce reads until nothing more is available, and appends the first column of every row
// to got. It does not wait for rows that are held back.
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

// Unflushed reports whether rows are held back until a Postgres server flushes its log. The
// server is shared with other tests and flushes five times a second.
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

// RequirePermanent requires an error that is not worth a retry and whose text contains the
// parts.
func RequirePermanent(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, want one with %q", parts)
	}
	if class := retry.Classify(err); class != retry.Fatal || errors.Is(err, source.ErrEnd) {
		tb.Fatalf("the error is classified as %v, want a permanent one: %v", class, err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			tb.Fatalf("the error does not contain %q: %v", p, err)
		}
	}
}
