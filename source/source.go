// Package source is the contract between a [Poller] and what it reads.
//
// A source hands out records in one fixed order, a [Batch] at a time. It keeps
// no position of its own: it is asked for what comes after a [Cursor] and
// answers with the cursor to ask with next. Whoever remembers that cursor
// remembers how far the reading got, and can go on after a crash, read a range
// again, or start over.
//
//	batch, err := src.Fetch(ctx, "", 1000)        // from the beginning
//	batch, err = src.Fetch(ctx, batch.To, 1000)   // and on
//
// Package sqlsource reads SQL databases, package sourcetest has an in-memory
// fake for tests and [TestSource], the conformance suite of this contract.
//
// [Poller]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/poller#Poller
// [TestSource]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/source/sourcetest#TestSource
package source

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// MaxCursor is the greatest length of a cursor in bytes.
const MaxCursor = 8 << 10

// Cursor is a position in a source: all records at or before it have been
// read. It is opaque to all but the source that made it. The empty cursor
// stands before the first record. A cursor is printable ASCII, 8 KiB at most,
// and no secret: it appears in logs, errors and checkpoints.
type Cursor string

// Validate reports what makes c unfit to be stored, or nil.
func (c Cursor) Validate() error {
	if len(c) > MaxCursor {
		return fmt.Errorf("source: a cursor of %d bytes is longer than %d", len(c), MaxCursor)
	}
	for i := range len(c) {
		if c[i] < ' ' || c[i] > '~' {
			return fmt.Errorf("source: byte %#x at %d of a cursor is not printable ASCII", c[i], i)
		}
	}
	return nil
}

// Batch is a run of consecutive records and the unit of progress: it is
// written whole and checkpointed whole, so a checkpoint never falls inside one.
type Batch[T any] struct {
	// From is the cursor the batch was asked for with, To the one to ask with
	// next. To differs from From if there are records. It may differ without
	// any: a source that filters has then moved on past what it left out.
	From, To Cursor

	// Records are in the source's order. Their memory is fresh: the source
	// never touches it again, and the receiver may keep or change it.
	Records []T

	// Bytes is about how much memory Records take, 0 if unknown.
	Bytes int

	// More says that the next Fetch will have records at once.
	More bool

	// AsOf is when the source was last seen whole: every record committed
	// before AsOf is at or before To. Zero if the source cannot say.
	AsOf time.Time

	// Held is not nil if there are records that may not be delivered yet.
	Held *Held

	// Guarantee is what the source promises about its records. Nil if it
	// promises nothing. It is shared by all batches: do not change it.
	Guarantee *Guarantee

	// Position says where To stands, in words for people, such as "id 42".
	// Empty if the source has no better word than To itself.
	Position string

	// Pending is the greatest number of records that can follow To. 0 if there
	// are none, or if the source would have to count them.
	Pending int64
}

// Guarantee is what a source promises about the records it delivers.
type Guarantee struct {
	Name  string // a short name of the means, such as "lock-fence"
	Text  string // the promise in one sentence
	Lossy bool   // records can be missed
}

// Held says why records that exist are not delivered yet. Records are held
// back while one that belongs before them may still appear, such as a row of a
// transaction that has not ended.
type Held struct {
	Since time.Time     // since when
	Retry time.Duration // when to ask again; 0 leaves it to the caller
	By    []string      // who holds them, for a human to act on: "pid 4711 (psql), open for 3m"
}

// Source reads records in a fixed order.
//
// Fetch returns at most max records (max is at least 1) that come directly
// after the cursor, and an empty batch with To equal to From when there is
// nothing new. It does not wait for records to appear. Batch.From is always
// the cursor given.
//
// Fetch can be repeated: as long as records are not changed or deleted, a
// second call with the same cursor returns the same records in the same order.
// Others may have joined behind them, and the batch may end elsewhere.
// Following To from batch to batch yields every record once, in order,
// whatever the values of max.
//
// Fetch does not retry and does not log: it returns the error and the caller
// decides. A batch returned with an error other than [ErrEnd] is to be
// ignored, and any later call may succeed. It honours ctx, and returns soon
// after it ends, with an error. A cursor that the source did not make is an
// error, not an empty batch. Calls for one pipeline come one at a time, but
// need not come from one goroutine.
type Source[T any] interface {
	Fetch(ctx context.Context, after Cursor, max int) (Batch[T], error)
}

// ErrEnd is returned by Fetch, with an empty batch, when a finite source has
// no record after the cursor and never will. It is not io.EOF on purpose: a
// lost connection surfaces as io.EOF, and must never be taken for the end.
var ErrEnd = errors.New("source: no more records")

// Func makes a [Source] of a function.
type Func[T any] func(ctx context.Context, after Cursor, max int) (Batch[T], error)

// Fetch calls f.
func (f Func[T]) Fetch(ctx context.Context, after Cursor, max int) (Batch[T], error) {
	return f(ctx, after, max)
}
