// Package sink is the contract between a [Poller] and what it writes to.
//
// A sink stores a whole [source.Batch] or fails. There are two kinds:
//
//   - An idempotent or at-least-once sink stores the records alone. A crash
//     between its Write and the checkpoint's Save makes the batch come again.
//   - An exactly-once sink stores the batch's cursor together with its records,
//     atomically, and is the pipeline's Checkpointer as well. Package filesink
//     is one.
//
// Package sinktest has an in-memory fake with fault points, and [TestSink], the
// conformance suite of this contract.
//
// [Poller]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/poller#Poller
// [TestSink]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/sink/sinktest#TestSink
package sink

import (
	"context"
	"errors"

	"github.com/artifactofdevotion/devotion/source"
)

// Sink stores batches.
//
// Write returns nil once every record of the batch is stored durably: a crash
// of the process or the machine right after must not lose it. A batch without
// records moves the cursor alone. The batch and its records belong to the sink
// from then on; after an error they still belong to the caller, who may write
// them again.
//
// An error means that the batch may or may not have been stored, unless it is
// of [Reject], which promises that nothing was. The caller then does one of
// these: it calls Write again with the same batch, or with a shorter or longer
// one with the same From, or ends. An exactly-once sink recognises a batch that
// it had stored after all and returns nil without storing it twice. Since From
// is the fence and To may differ from try to try, a caller that wants to write
// anything but the same batch after an error that was no Reject must first
// load the cursor again and go on from there.
//
// Write does not retry and does not log. It honours ctx, and returns soon after
// it ends, with an error. Calls for one pipeline come one at a time, but need
// not come from one goroutine.
type Sink[T any] interface {
	Write(ctx context.Context, b source.Batch[T]) error
}

// Func makes a [Sink] of a function.
type Func[T any] func(ctx context.Context, b source.Batch[T]) error

// Write calls f.
func (f Func[T]) Write(ctx context.Context, b source.Batch[T]) error { return f(ctx, b) }

// ErrRejected is matched, with errors.Is, by every error of [Reject].
var ErrRejected = errors.New("sink: rejected")

// ErrConflict is wrapped by the errors of an exactly-once sink's Write, and of a
// checkpointer's Save, when the stored cursor is not where this handle left it:
// another writer has moved it, or a person has rewound it. Nothing was stored.
// The Poller never retries it: Run ends, and a new Run loads the cursor and goes
// on from there. The other writer may have been this handle, by a commit that it
// no longer waited for and that came through late.
var ErrConflict = errors.New("checkpoint was moved by another writer")

// Reject marks err as a refusal for good: none of the batch was stored, and at
// least one of its records never will be, such as one that violates a
// constraint, cannot be encoded, or is too large. The Poller then looks for the
// record by halving the batch and hands it to its DeadLetter sink. Never reject
// what may succeed later: a full disk is no fault of a record. The text of err is
// logged, the errors of database drivers in it without values of rows: add none
// of your own. Reject(nil) is nil.
func Reject(err error) error {
	if err == nil {
		return nil
	}
	return &rejected{err}
}

type rejected struct{ err error }

func (r *rejected) Error() string   { return "rejected: " + r.err.Error() }
func (r *rejected) Unwrap() []error { return []error{ErrRejected, r.err} }

// Map returns a sink of A that writes f of each record to s. An error of f is a
// rejection of its record.
func Map[A, B any](s Sink[B], f func(A) (B, error)) Sink[A] {
	return Func[A](func(ctx context.Context, in source.Batch[A]) error {
		out := source.Batch[B]{
			From: in.From, To: in.To, Bytes: in.Bytes, More: in.More, AsOf: in.AsOf, Held: in.Held,
			Guarantee: in.Guarantee, Position: in.Position, Pending: in.Pending,
		}
		out.Records = make([]B, len(in.Records))
		for i, a := range in.Records {
			b, err := f(a)
			if err != nil {
				return Reject(err)
			}
			out.Records[i] = b
		}
		return s.Write(ctx, out)
	})
}

// Filter returns a sink that writes to s the records that keep holds for. A
// batch left without records is written all the same: its cursor counts.
func Filter[T any](s Sink[T], keep func(T) bool) Sink[T] {
	return Func[T](func(ctx context.Context, b source.Batch[T]) error {
		kept := make([]T, 0, len(b.Records)) // not in place: b may be written again
		for _, r := range b.Records {
			if keep(r) {
				kept = append(kept, r)
			}
		}
		b.Records = kept
		return s.Write(ctx, b)
	})
}
