// Package source defines the contract of a source: what a [Poller] reads.
//
//	type Source[T any] interface {
//		Fetch(ctx context.Context, after Cursor, limit int) (Batch[T], error)
//	}
//
// A source returns records in one fixed order, one [Batch] at a time. It does
// not remember a position. The caller passes a [Cursor] and receives the records
// after it, together with the cursor for the next call:
//
//	batch, err := src.Fetch(ctx, "", 1000)      // from the beginning
//	batch, err = src.Fetch(ctx, batch.To, 1000) // the next 1000 records
//
// Whoever stores the cursor can continue after a crash, read a range again, or
// start over.
//
// Package sqlsource reads SQL databases. Package sourcetest has an in-memory
// fake for tests, and [TestSource], the conformance suite for this contract.
//
// [Poller]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/poller#Poller
// [TestSource]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/source/sourcetest#TestSource
package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Source reads records in a fixed order.
//
// Fetch returns the records that come directly after the cursor, at most limit
// of them. Limit is at least 1. If it has no new records, Fetch does not wait for
// them: it returns an empty batch whose To equals From. Batch.From is
// always the cursor that was passed in.
//
// Fetch is repeatable. As long as no record is changed or deleted, a second call
// with the same cursor returns the same records in the same order. New records
// may follow them, and the batch may end at a different record. Following To
// from batch to batch returns every record once, in order, whatever the limits.
// A record that does not fit into T ends the batch before it, and is then the
// error of the next Fetch, a [*BadRecord].
//
// Fetch does not retry and does not log. It returns the error, and the caller
// decides what to do. After any error except [ErrEnd] the caller must ignore the
// batch, and a later call may succeed. When ctx ends, Fetch returns soon, with
// an error. A cursor that the source did not make is an error, not an empty
// batch.
//
// Calls for one pipeline are made one at a time, but not necessarily from the
// same goroutine.
type Source[T any] interface {
	Fetch(ctx context.Context, after Cursor, limit int) (Batch[T], error)
}

// ErrEnd is returned by Fetch, with an empty batch, when a finite source has no
// record after the cursor and never will. It is deliberately not io.EOF: a lost
// connection surfaces as io.EOF and must not be mistaken for the end.
var ErrEnd = errors.New("source: no more records")

// BadRecord is the error of a Fetch that cannot make the record directly after
// the cursor, and never will, for example because a NULL does not fit into a
// field of type T. Records before it come first, in batches without an error.
//
// The Poller passes a BadRecord to its DeadLetter sink and moves on to To.
type BadRecord struct {
	// Key names the record for people, such as "id 42", and no other record of the
	// source: dead letters with equal keys are copies. It must not contain other
	// values of the record.
	Key string

	// To is the cursor after the record.
	To Cursor

	// Err is why the record cannot be made.
	Err error
}

// Error returns the key and the text of Err.
func (e *BadRecord) Error() string {
	return fmt.Sprintf("source: the record with %s cannot be read: %v", e.Key, e.Err)
}

// Unwrap returns Err.
func (e *BadRecord) Unwrap() error { return e.Err }

// Func is a function that implements [Source].
type Func[T any] func(ctx context.Context, after Cursor, limit int) (Batch[T], error)

// Fetch calls f.
func (f Func[T]) Fetch(ctx context.Context, after Cursor, limit int) (Batch[T], error) {
	return f(ctx, after, limit)
}

// MaxCursor is the maximum length of a cursor in bytes.
const MaxCursor = 8 << 10

// Cursor is a position in a source: every record at or before it has been read.
// The empty cursor is the position before the first record. Only the source that
// made a cursor can interpret it. A cursor is printable ASCII, at most
// [MaxCursor] bytes long, and not secret: it appears in checkpoints and letters,
// and in its short form in logs and errors.
type Cursor string

// Short returns c for a message: without its middle if it has more than 80 bytes. Package sqlsource
// has the key at the end, after a semicolon.
func (c Cursor) Short() string {
	if len(c) <= 80 {
		return string(c)
	}
	end := string(c[len(c)-48:])
	return string(c[:16]) + "..." + end[max(strings.IndexByte(end, ';'), 0):]
}

// LogValue implements [slog.LogValuer]: logs show the short form.
func (c Cursor) LogValue() slog.Value { return slog.StringValue(c.Short()) }

// Validate returns an error if c is too long or is not printable ASCII.
func (c Cursor) Validate() error {
	if len(c) > MaxCursor {
		return fmt.Errorf("source: the cursor has %d bytes, the limit is %d", len(c), MaxCursor)
	}
	if i := strings.IndexFunc(string(c), func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("source: byte %d of the cursor is %#x, which is not printable ASCII", i, c[i])
	}
	return nil
}

// Batch is a run of consecutive records, and the unit of progress: it is written
// and checkpointed as a whole, so a checkpoint never points into a batch.
type Batch[T any] struct {
	// From is the cursor that was passed to Fetch.
	From Cursor

	// To is the cursor to pass to the next Fetch. It differs from From if the
	// batch has records. It may also differ if the batch has none: a source
	// that filters moves past the records it left out.
	To Cursor

	// Records are the records after From, in the source's order. The source
	// does not touch them after Fetch returns; the receiver may keep or change
	// them.
	Records []T

	// Bytes is the approximate size of Records in memory. 0 means unknown.
	Bytes int

	// More is true if the source has more records after To that it can return
	// at once.
	More bool

	// AsOf says how current the batch is: every record committed before AsOf is
	// at or before To. The zero time means that the source cannot tell.
	AsOf time.Time

	// Held describes records that exist but may not be delivered yet. Usually it
	// is nil.
	Held *Held

	// Guarantee is what the source promises about its records. It is nil if the
	// source promises nothing. All batches share one value: do not change it.
	Guarantee *Guarantee

	// Position describes To in words for people, such as "id 42". It is empty
	// if the source has no better description than To itself.
	Position string

	// Pending is an upper bound on the number of records after To. 0 means none
	// or unknown: a source does not count records just for this field.
	Pending int64

	// Pinned is how many bytes of its log the server keeps until the cursor moves on, such
	// as for a replication slot. 0 means none or unknown.
	Pinned int64
}

// Guarantee is what a source promises about the records it delivers.
type Guarantee struct {
	// Name is the strategy that keeps the promise, such as "lock-fence".
	Name string

	// Text states the promise in one sentence.
	Text string

	// Lossy is true if records can be missed.
	Lossy bool
}

// Held describes records that exist but are not delivered yet. A source holds
// records back while a record that belongs before them may still appear, for
// example a row of a transaction that has not ended.
type Held struct {
	// Since is when this hold began. A later time than in the batch before means
	// a new hold, by a different holder.
	Since time.Time

	// Retry is how long to wait before the next Fetch. 0 leaves it to the caller.
	Retry time.Duration

	// By names the current holders, so that a human can act: "pid 4711 (psql),
	// open for 3m".
	By []string
}
