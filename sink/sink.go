// Package sink defines the contract of a sink: what a [Poller] writes to.
//
//	type Sink[T any] interface {
//		Write(ctx context.Context, b source.Batch[T]) error
//	}
//
// A sink stores a whole [source.Batch] or returns an error. There are two kinds:
//
//   - An at-least-once sink stores only the records. The cursor is saved
//     separately, so a crash between the write and the save delivers the batch
//     a second time.
//   - An exactly-once sink stores the records and the batch's cursor together,
//     atomically. It is also the pipeline's Checkpointer. Package filesink is an
//     example.
//
// [Map] and [Filter] change what a sink receives, and [Each] makes a sink of a
// function for one record. [Reject], [TooLarge] and [Stored] tell the Poller what
// is wrong with a record or a batch, and how much of it is stored.
//
// Package sinktest has an in-memory fake with injectable faults, and [TestSink],
// the conformance suite for this contract.
//
// [Poller]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/poller#Poller
// [TestSink]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/sink/sinktest#TestSink
package sink

import (
	"context"
	"errors"

	"github.com/artifactofdevotion/devotion/internal/chain"
	"github.com/artifactofdevotion/devotion/source"
)

// Sink stores batches.
//
// Write returns nil once every record of the batch is stored durably: a crash of
// the process or the machine after that loses none of them. A batch without
// records only moves the cursor.
//
// If Write returns nil, the sink owns the batch and its records. If it returns
// an error, the caller still owns them and may write them again.
//
// An error means that the batch may or may not have been stored. An error made
// by [Reject] or [TooLarge] promises that nothing was stored, and one made by
// [Stored] says how much was. After an error the caller gives up, or calls Write again
// with the same batch, or with a shorter or longer batch that has the same From.
// After Stored it writes the rest of the batch instead, so a sink that does more with
// a batch than pass it on must not return such an error of the other sink. An exactly-once sink that
// has in fact stored the batch returns nil and does not store it again. If it has
// stored a different batch with the same From, it returns an error that wraps
// [ErrConflict]. A caller that wants to write a different batch, after an error
// that was made by none of these, must therefore load the cursor first and
// continue from there.
//
// Write does not retry and does not log. When ctx ends, Write returns soon, with
// an error. Calls for one pipeline are made one at a time, but not necessarily
// from the same goroutine.
type Sink[T any] interface {
	Write(ctx context.Context, b source.Batch[T]) error
}

// Func is a function that implements [Sink].
type Func[T any] func(ctx context.Context, b source.Batch[T]) error

// Write calls f.
func (f Func[T]) Write(ctx context.Context, b source.Batch[T]) error { return f(ctx, b) }

// ErrRejected matches, with errors.Is, every error made by [Reject].
var ErrRejected = errors.New("sink: rejected")

// ErrConflict is wrapped by the error that Write of an exactly-once sink, or Save
// of a checkpointer, returns when the stored cursor is not where this handle left
// it: another writer has moved it, or a person has rewound it. Nothing was stored.
//
// The Poller does not retry after a conflict: Run ends. The next Run loads the
// cursor and continues from there. The other writer may be this handle itself: a
// commit that it no longer waited for may have succeeded later.
var ErrConflict = errors.New("checkpoint was moved by another writer")

// Reject marks err as a permanent rejection: nothing of the batch was stored,
// and at least one of its records can never be stored, for example because it
// violates a constraint, cannot be encoded, or is too large. The Poller then
// finds the record by halving the batch and writes it to its DeadLetter sink.
//
// A sink that stores records one by one, such as one that posts each record,
// cannot promise that nothing was stored: the records before the rejected one are.
// It returns [Stored] with the number of these records and the rejection, which
// also names the record, so that nothing is halved. It must not return a bare
// rejection unless the first record is the rejected one. [Each] does all this.
//
// Do not reject what may succeed later: a full disk is not the fault of a
// record. The text of err is logged, so it must not contain values of the
// record; values in the errors of database drivers are removed by the Poller.
// Reject(nil) returns nil.
func Reject(err error) error { return mark(ErrRejected, "rejected: ", err) }

func mark(as error, prefix string, err error) error {
	if err == nil {
		return nil
	}
	return &marked{as, prefix, err}
}

// marked is an error that also matches a sentinel.
type marked struct {
	as     error
	prefix string
	err    error
}

func (m *marked) Error() string   { return m.prefix + m.err.Error() }
func (m *marked) Unwrap() []error { return []error{m.as, m.err} }

// Map returns a sink that converts each record with f and writes the results to
// s. If f returns an error, the batch is rejected with that error, and nothing
// is written to s.
func Map[A, B any](s Sink[B], f func(A) (B, error)) Sink[A] {
	return Func[A](func(ctx context.Context, in source.Batch[A]) error {
		out := source.Batch[B]{
			From: in.From, To: in.To, Bytes: in.Bytes, More: in.More, AsOf: in.AsOf, Held: in.Held,
			Guarantee: in.Guarantee, Position: in.Position, Pending: in.Pending, Records: make([]B, len(in.Records)),
		}
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

// Filter returns a sink that writes to s only the records for which keep returns
// true. A batch without any such record is still written, because s may have to
// store its cursor.
func Filter[T any](s Sink[T], keep func(T) bool) Sink[T] {
	return Func[T](func(ctx context.Context, b source.Batch[T]) error {
		var kept []T // a new slice, because the caller may write b again
		var index []int
		for i, r := range b.Records {
			if keep(r) {
				kept, index = append(kept, r), append(index, i)
			}
		}
		index = append(index, len(b.Records))
		b.Records = kept
		err := s.Write(ctx, b)
		stored, ok := chain.As[*StoredError](err)
		if !ok || len(kept) == 0 && stored.N == 0 && stored.Err != nil { // N == 0 of no records is not a success
			return err
		}
		out := &StoredError{N: stored.N, Err: stored.Err, Others: make(map[int]error)}
		if n := stored.N; n >= len(index) {
			out.N += index[len(kept)] - len(kept) // which is too many here, too
		} else if n >= 0 {
			out.N = index[n]
		}
		for i, err := range stored.Others {
			if i >= 0 && i < len(index) {
				out.Others[index[i]] = err
			}
		}
		return out
	})
}
