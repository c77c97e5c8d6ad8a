package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/artifactofdevotion/devotion/internal/parts"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// delivery is a batch that is being written. Once some of its records are done,
// which is to say stored or rejected, the rest is written from memory, in parts: no
// cursor stands for a position within a batch.
type delivery[T any] struct {
	parts.Parts
	batch     *source.Batch[T]
	uncertain bool // an attempt failed that may have stored records
}

// deliver writes b and saves its cursor. It returns the cursor to continue from:
// b.To, or an earlier one if the batch has to be fetched again.
func (r *run[T]) deliver(b *source.Batch[T]) (c source.Cursor, err error) {
	d := &delivery[T]{Parts: parts.New(len(b.Records)), batch: b}
	defer func() {
		if err != nil {
			r.keep(d)
		}
	}()
	for {
		if r.ctx.Err() != nil {
			r.keep(d)
			if !r.unsaved {
				return "", errStopped
			}
			d.Size = min(d.Size, cmp.Or(d.Gaps(), d.Size)) // begin nothing new
		}
		s := StepInfo{Op: OpWrite, From: b.From, To: b.To, Records: d.Size, Bytes: b.Bytes}
		part, answer := *b, error(nil)
		part.Records = parts.Next(d.Parts, b.Records)
		err := r.step(r.graceCtx, &s, func(ctx context.Context) error {
			answer = d.Check(r.Sink.Write(ctx, part))
			if d.Progress(answer) || errors.Is(answer, sink.ErrTooLarge) {
				return nil // for the hooks
			}
			return answer
		})
		progress := d.Progress(answer)
		if err := r.settle(d, &s, answer); err != nil {
			return "", err
		}
		switch err = cmp.Or(err, answer); {
		case progress || err == nil:
			r.succeeded(OpWrite)
			r.update(func(s *Status) { s.LastPoll = time.Now() })
			if len(d.Rest) == 0 {
				r.limit.Grow()
				return r.done(d)
			}
		case d.Size > 0 && parts.Refused(err):
			if c, done, err := r.refused(d, &s, err); done {
				return c, err
			}
		default:
			if err := r.failed(r.graceCtx, &s, err); err != nil {
				return "", err
			}
			d.uncertain = true
			if errors.Is(err, ErrTimeout) && d.Size > 1 {
				if d.Size /= 2; !d.Partial {
					r.limit.Next = d.Size
					return r.reconcile(b)
				}
			}
		}
	}
}

// settle moves past the records that a write has done. It passes rejected ones to
// DeadLetter.
func (r *run[T]) settle(d *delivery[T], s *StepInfo, answer error) error {
	err := d.Settle(answer, func(i int, rejection error) error {
		if rejection == nil {
			r.rejected = 0
			return nil
		}
		return r.letter(s, Rejected[T]{Record: d.batch.Records[i], Index: i}, rejection)
	})
	r.unsaved = d.End > 0
	return err
}

// keep saves the cursor after the records at the start of the batch that are done, so
// that a run that ends within the batch does not repeat them. Only the source can make
// this cursor, so it is asked for these records again. Keep does nothing if they have
// changed. What remains of the batch begins there.
func (r *run[T]) keep(d *delivery[T]) {
	if !d.Partial || len(d.Rest) == 0 || d.Rest[0] == 0 || r.graceCtx.Err() != nil {
		return
	}
	r.dropPrefetched()
	r.enter(Working, OpFetch, r.deadline())
	b := d.batch
	f := r.fetchOnce(r.graceCtx, b.From, d.Rest[0], 1)
	n := len(f.batch.Records)
	if f.err != nil || n == 0 || !reflect.DeepEqual(f.batch.Records, b.Records[:n]) || r.save(&f.batch) != nil {
		return
	}
	f.batch.Records = f.batch.Records[d.Shift(n):]
	r.completed(&f)
	b.From, b.Records = f.batch.To, b.Records[n:]
	r.unsaved = d.End > 0
	r.keep(d) // the source may have returned fewer
}

// refused handles a write that stored nothing, because the sink rejects a record
// or because there are too many. Several records are tried again in halves. A
// single one goes to DeadLetter. It returns true if the batch is done with, and
// the cursor to continue from.
func (r *run[T]) refused(d *delivery[T], s *StepInfo, cause error) (c source.Cursor, done bool, err error) {
	b := d.batch
	if d.uncertain && !d.Partial {
		if c, err := r.reconcile(b); err != nil || c == b.To {
			return c, true, err
		}
	}
	r.recovered(OpWrite) // the sink has answered, so it is not failing
	if d.Size > 1 {
		d.Size /= 2
		if errors.Is(cause, sink.ErrTooLarge) {
			r.limit.TooLarge(d.Size)
		}
		if d.Partial {
			return "", false, nil
		}
		r.dropPrefetched()
		r.limit.Next = d.Size
		return b.From, true, nil
	}
	if err := r.settle(d, s, sink.Stored(0, cause)); err != nil || len(d.Rest) > 0 {
		return "", err != nil, err
	}
	c, err = r.done(d)
	return c, true, err
}

// done saves the cursor of a batch whose records are all stored or rejected.
func (r *run[T]) done(d *delivery[T]) (source.Cursor, error) {
	err := r.save(d.batch)
	// The batch is only counted from here on, without what was rejected.
	if d.batch.Records = d.batch.Records[d.Rejected:]; len(d.batch.Records) == 0 {
		d.batch.Bytes = 0
	}
	return d.batch.To, err
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
