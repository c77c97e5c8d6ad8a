// Package parts keeps which records of a batch are done, that is, stored or rejected.
// A sink that stores records one by one reports that with a sink.StoredError. The
// Poller then writes the rest of the batch in parts.
package parts

import (
	"errors"
	"fmt"

	"github.com/artifactofdevotion/devotion/internal/chain"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
)

// Parts are the records of a batch that are not done.
type Parts struct {
	// Rest has their indexes in the batch, in order.
	Rest []int

	// Size is how many of Rest to write next.
	Size int

	// End is the index after the last record that is done, and 0 if none is.
	End int

	// Rejected is how many records were rejected.
	Rejected int
}

// New returns the Parts of a batch of n records, none of which is done.
func New(n int) Parts {
	p := Parts{Rest: make([]int, n), Size: n}
	for i := range p.Rest {
		p.Rest[i] = i
	}
	return p
}

// Next returns the records of the batch to write next.
func Next[T any](p Parts, batch []T) []T {
	if p.Size == len(batch) {
		return batch
	}
	next := make([]T, p.Size)
	for i, at := range p.Rest[:p.Size] {
		next[i] = batch[at]
	}
	return next
}

// Share returns the approximate size of n of the records of a batch, from the size of
// the batch.
func Share(bytes, n, of int) int { return int(int64(bytes) * int64(n) / max(1, int64(of))) }

// Check looks at the answer of a write of Size records. It returns the answer, or
// another error if the answer cannot be true, or nil if everything is stored.
func (p *Parts) Check(answer error) error {
	stored, ok := chain.As[*sink.StoredError](answer)
	switch {
	case !ok:
		return answer
	case stored.N < 0 || stored.N > p.Size:
		return retry.Permanent(fmt.Errorf("the sink reports that it has stored %d of %d records", stored.N, p.Size))
	case stored.N == p.Size && stored.Err == nil:
		return nil
	}
	return answer
}

// Progress reports whether any record is done according to the answer of a write of
// Size records.
func (p *Parts) Progress(answer error) bool {
	return p.any(answer, func(error) bool { return true })
}

// Stored reports whether any record is stored according to the answer of a write of
// Size records.
func (p *Parts) Stored(answer error) bool {
	return p.any(answer, func(rejection error) bool { return rejection == nil })
}

func (p *Parts) any(answer error, match func(rejection error) bool) bool {
	for i := range p.Size {
		if done, rejection := p.outcome(answer, i); done && match(rejection) {
			return true
		}
	}
	return false
}

// Stopped returns how many records a sink has stored that stopped before it tried the
// next one, and 0 for any other answer.
func Stopped(answer error) int {
	if stored, ok := chain.As[*sink.StoredError](answer); ok && stored.Err == nil {
		return stored.N
	}
	return 0
}

// Settle moves past the records that are done according to the answer of a write of
// Size records. It calls done for each of them, with its index in the batch and the
// rejection, nil for a stored record. If done returns an error for a rejected record,
// Settle returns it, and this record and the rejected ones after it are not done.
func (p *Parts) Settle(answer error, done func(i int, rejection error) error) (err error) {
	var rest []int
	for i, at := range p.Rest[:p.Size] {
		ok, rejection := p.outcome(answer, i)
		switch {
		case ok && rejection == nil:
			_ = done(at, nil)
		case ok && err == nil:
			if err = done(at, rejection); err == nil {
				p.Rejected++
			}
			ok = err == nil
		default:
			ok = false
		}
		if ok {
			p.End = max(p.End, at+1)
		} else {
			rest = append(rest, at)
		}
	}
	n := p.Size - len(rest)
	p.Rest = append(rest, p.Rest[p.Size:]...)
	p.Size = min(max(p.Size, 2*n), len(p.Rest))
	return err
}

// outcome returns whether record i of a write with this answer is done, and why it is
// rejected, nil if it is stored.
func (p *Parts) outcome(answer error, i int) (done bool, rejection error) {
	stored, ok := chain.As[*sink.StoredError](answer)
	if !ok {
		return answer == nil, nil
	}
	err, done := stored.Others[i]
	switch {
	case i < stored.N:
		return true, nil
	case i == stored.N:
		// Several records may be too large together, and a single one of them not.
		alone := i == p.Size-1 && errors.Is(stored.Err, sink.ErrTooLarge)
		return alone || errors.Is(stored.Err, sink.ErrRejected), stored.Err
	}
	return done && (err == nil || errors.Is(err, sink.ErrRejected)), err
}

// Refused reports whether err is that of a record or batch that a sink does not store.
func Refused(err error) bool {
	return errors.Is(err, sink.ErrRejected) || errors.Is(err, sink.ErrTooLarge)
}
