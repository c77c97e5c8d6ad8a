package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// delivery is a batch that is being written. Once some of its records are stored
// or rejected, the rest is written from memory, in parts: no cursor stands for a
// position within a batch.
type delivery[T any] struct {
	batch     *source.Batch[T]
	rest      []T  // the records that are neither stored nor rejected
	size      int  // how many of rest to write next
	uncertain bool // an attempt failed that may have stored records
	rejected  int  // how many records of the batch were rejected
}

// partial reports whether records of the batch have been stored or rejected.
func (d *delivery[T]) partial() bool { return len(d.rest) < len(d.batch.Records) }

// deliver writes b and saves its cursor. It returns the cursor to continue from:
// b.To, or an earlier one if the batch has to be fetched again.
func (r *run[T]) deliver(b *source.Batch[T]) (source.Cursor, error) {
	b.ID = rand.Uint64()
	d := &delivery[T]{batch: b, rest: b.Records, size: len(b.Records)}
	for {
		if r.ctx.Err() != nil && !r.unsaved {
			return "", errStopped
		}
		s := StepInfo{Op: OpWrite, From: b.From, To: b.To, Records: d.size, Bytes: b.Bytes}
		part := *b
		part.Records = d.rest[:d.size]
		err := r.step(r.graceCtx, &s, func(ctx context.Context) error { return r.Sink.Write(ctx, part) })
		n, named, err := d.progress(err)
		if n > 0 {
			r.unsaved, r.rejected = true, 0
			r.succeeded(OpWrite)
		}
		switch {
		case err == nil && len(d.rest) == 0:
			r.succeeded(OpWrite)
			r.grow()
			return r.done(d)
		case err == nil, n > 0 && timedOut(err):
			// go on with the rest
		case d.size > 0 && (errors.Is(err, sink.ErrRejected) || errors.Is(err, sink.ErrTooLarge)):
			if c, done, err := r.refused(d, &s, named, err); done {
				return c, err
			}
		default:
			if err := r.failed(r.graceCtx, &s, err); err != nil {
				return "", err
			}
			d.uncertain = true
			if timedOut(err) && d.size > 1 {
				if d.size /= 2; !d.partial() {
					r.limit = d.size
					return r.reconcile(b)
				}
			}
		}
	}
}

// progress moves past the records that a write has stored. It returns how many
// these are, whether the sink has named the record that it does not store, and
// the error of that record or of the write.
func (d *delivery[T]) progress(err error) (n int, named bool, _ error) {
	var stored *sink.StoredError
	switch {
	case err == nil:
		n = d.size
	case errors.As(err, &stored):
		if n = stored.N; n < 0 || n > d.size {
			return 0, false, retry.Permanent(fmt.Errorf("the sink reports that it has stored %d of %d records", n, d.size))
		}
		named = n < d.size
		switch {
		case n == d.size, n > 0 && stored.Err == nil:
			err = nil
		case stored.Err != nil && !timedOut(err):
			err = stored.Err
		}
	}
	d.rest = d.rest[n:]
	d.size = min(max(d.size, 2*n), len(d.rest))
	return n, named, err
}

// refused handles a write that stored nothing, because the sink rejects a record
// or because there are too many. Several records are tried again in halves. A
// single one goes to DeadLetter. It returns true if the batch is done with, and
// the cursor to continue from.
func (r *run[T]) refused(d *delivery[T], s *StepInfo, named bool, cause error) (c source.Cursor, done bool, err error) {
	b := d.batch
	if d.uncertain && !d.partial() {
		if c, err := r.reconcile(b); err != nil || c == b.To {
			return c, true, err
		}
	}
	r.recovered(OpWrite) // the sink has answered, so it is not failing
	if d.size > 1 && !named {
		d.size /= 2
		if errors.Is(cause, sink.ErrTooLarge) {
			r.most, r.written = d.size, 0
		}
		if d.partial() {
			return "", false, nil
		}
		r.dropPrefetched()
		r.limit = d.size
		return b.From, true, nil
	}
	letter := Rejected[T]{Record: d.rest[0], Index: len(b.Records) - len(d.rest)}
	if err := r.letter(s, letter, cause); err != nil {
		return "", true, err
	}
	r.unsaved = true
	d.rejected++
	d.rest = d.rest[1:]
	if d.size = min(d.size, len(d.rest)); d.size > 0 {
		return "", false, nil
	}
	c, err = r.done(d)
	return c, true, err
}

// done saves the cursor of a batch whose records are all stored or rejected.
func (r *run[T]) done(d *delivery[T]) (source.Cursor, error) {
	err := r.save(d.batch)
	// The batch is only counted from here on, without what was rejected.
	if d.batch.Records = d.batch.Records[d.rejected:]; len(d.batch.Records) == 0 {
		d.batch.Bytes = 0
	}
	return d.batch.To, err
}

// tooLargeFor is how many batches are written with the size that a sink accepted,
// before a larger one is tried: one large record must not slow a pipeline down for
// ever.
const tooLargeFor = 100

// grow raises the limit of the next fetch after a batch was written.
func (r *run[T]) grow() {
	size := cmp.Or(r.BatchSize, 5000)
	most := cmp.Or(r.most, size)
	if r.written++; r.written >= tooLargeFor {
		r.most, r.written = most+min(most, size-most), 0
	}
	r.limit += min(r.limit, most-r.limit) // without overflow
}

func (r *run[T]) save(b *source.Batch[T]) error {
	s := StepInfo{Op: OpSave, From: b.From, To: b.To, Records: len(b.Records), Bytes: b.Bytes}
	err := r.until(r.graceCtx, &s, func(ctx context.Context) error { return r.Checkpointer.Save(ctx, b.From, b.To) })
	if err == nil {
		r.unsaved = false
		r.update(func(s *Status) { s.Cursor, s.LastSave = b.To, time.Now(); s.Batches++ })
	}
	return err
}

// reconcile finds out whether b was stored, by loading the cursor. It is called
// after a write that failed but may have succeeded, and before a shorter batch
// is written: an exactly-once sink that has stored b reports a conflict for it.
// If the cursor has moved, Save tells whether this handle or another writer
// moved it.
func (r *run[T]) reconcile(b *source.Batch[T]) (source.Cursor, error) {
	r.dropPrefetched()
	c, err := r.load()
	if err != nil || c == b.From {
		return c, err
	}
	r.unsaved = true
	if err := r.save(b); err != nil {
		return "", err
	}
	r.succeeded(OpWrite)
	return b.To, nil
}

// letter writes a record to DeadLetter that the sink rejects or that the source
// cannot make. S is the step that failed.
func (r *run[T]) letter(s *StepInfo, letter Rejected[T], cause error) error {
	switch limit := cmp.Or(r.DeadLetterLimit, 100); {
	case r.DeadLetter == nil && letter.Index > 0:
		return r.fail(s, fmt.Errorf("record %d of the batch: %w (DeadLetter is not set: set it to skip rejected records)", letter.Index+1, cause))
	case r.DeadLetter == nil:
		return r.fail(s, fmt.Errorf("%w (DeadLetter is not set: set it to skip rejected records)", cause))
	case r.rejected == limit:
		return r.fail(s, fmt.Errorf("%w (after %d rejected records in a row: see DeadLetterLimit)", cause, limit))
	}
	letter.Pipeline, letter.From, letter.To, letter.Err, letter.Time = r.Name, s.From, s.To, cause.Error(), time.Now()
	batch := source.Batch[Rejected[T]]{From: s.From, To: s.To, Bytes: s.Bytes, Records: []Rejected[T]{letter}}
	d := StepInfo{Op: OpDeadLetter, From: s.From, To: s.To, Records: 1, Bytes: s.Bytes}
	err := r.until(r.graceCtx, &d, func(ctx context.Context) error { return r.DeadLetter.Write(ctx, batch) })
	if err != nil {
		return err
	}
	r.rejected++
	var total int64
	r.update(func(s *Status) { s.DeadLetters++; total = s.DeadLetters })
	r.rejectionLog.Begin(time.Now())
	// Logging each power of two keeps the last logged total above half of the real
	// one, even if no more records are rejected.
	if powerOfTwo := total&(total-1) == 0; r.rejectionLog.Allow(time.Now()) || powerOfTwo {
		r.log.Warn("record rejected", "from", s.From, "to", s.To, "err", retry.Text(cause), "total", total)
	}
	if h := r.Hooks.DeadLetter; h != nil {
		h(DeadLetterInfo{Pipeline: r.Name, From: s.From, To: s.To, Err: cause})
	}
	return nil
}

// skip passes a record that the source cannot make to DeadLetter. It makes f an
// empty batch that moves the cursor past the record.
func (r *run[T]) skip(f *fetched[T], bad *source.BadRecord) error {
	after := f.step.From
	f.batch = source.Batch[T]{From: after, To: bad.To, More: true, Position: bad.Key, Guarantee: r.Status().Guarantee}
	f.step.To = bad.To
	if err := check(f.batch, after, f.limit); err != nil {
		return r.fail(&f.step, err)
	}
	return r.letter(&f.step, Rejected[T]{Key: bad.Key}, bad)
}
