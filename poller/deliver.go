package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/internal/parts"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// deliver writes a batch and saves its cursor. It returns the cursor to continue from:
// To, or an earlier one if the batch has to be fetched again.
func (r *run[T]) deliver(f *fetched[T]) (c source.Cursor, err error) {
	defer func() {
		if err != nil && r.unsaved {
			f.batch.More = true // by the next run, the source may have
			r.unfinished = f
		}
	}()
	b := &f.batch
	for len(f.Rest) > 0 || f.End == 0 {
		s := StepInfo{Op: OpWrite, From: b.From, To: b.To, Records: f.Size, Bytes: parts.Share(b.Bytes, f.Size, len(b.Records))}
		if r.ctx.Err() != nil && (!r.unsaved || r.graceCtx.Err() != nil) {
			return "", r.interrupted(&s, fmt.Errorf("%w before the rest of the batch was stored", context.Cause(r.graceCtx)))
		}
		part, answer := *b, error(nil)
		part.Records, part.Bytes = parts.Next(f.Parts, b.Records), s.Bytes
		err := r.step(r.graceCtx, &s, func(ctx context.Context) error {
			answer = f.Check(r.Sink.Write(ctx, part))
			if f.Progress(answer) || errors.Is(answer, sink.ErrTooLarge) {
				return nil // for the hooks
			}
			return answer
		})
		progress := f.Progress(answer)
		if err := r.settle(f, &s, answer); err != nil {
			return "", err
		}
		switch err = cmp.Or(err, answer); {
		case progress || err == nil:
			r.succeeded(OpWrite)
			r.update(func(s *Status) { s.LastPoll = time.Now() })
			if len(f.Rest) == 0 {
				r.limit.Grow()
				return b.To, r.save(b)
			}
			if n := parts.Stopped(answer); n > 0 && n < r.limit.Next { // so that the rest of a batch fits into Grace
				r.dropPrefetched()
				r.limit.Next = n
			}
		case f.Size > 0 && parts.Refused(err):
			if c, done, err := r.refused(f, &s, err); done {
				return c, err
			}
		default:
			if err := r.failed(r.graceCtx, &s, err); err != nil {
				return "", err
			}
			f.uncertain = true
			if errors.Is(err, ErrTimeout) && f.Size > 1 {
				if f.Size /= 2; f.End == 0 {
					r.limit.Next = f.Size
					return r.reconcile(b)
				}
			}
		}
	}
	return b.To, r.save(b)
}

// settle moves past the records that a write has done. It passes rejected ones to
// DeadLetter.
func (r *run[T]) settle(f *fetched[T], s *StepInfo, answer error) error {
	r.unsaved = r.unsaved || f.Stored(answer) // before DeadLetter is waited for
	return f.Settle(answer, func(i int, rejection error) error {
		if rejection == nil {
			r.rejected = 0
			return nil
		}
		return r.letter(s, Rejected[T]{Record: f.batch.Records[i], Index: i}, rejection)
	})
}

// refused handles a write that stored nothing, because the sink rejects a record
// or because there are too many. Several records are tried again in halves. A
// single one goes to DeadLetter. It returns true if the batch is done with, and
// the cursor to continue from.
func (r *run[T]) refused(f *fetched[T], s *StepInfo, cause error) (c source.Cursor, done bool, err error) {
	b := &f.batch
	if f.uncertain && f.End == 0 {
		if c, err := r.reconcile(b); err != nil || c == b.To {
			return c, true, err
		}
	}
	r.recovered(OpWrite) // the sink has answered, so it is not failing
	if f.Size > 1 {
		f.Size /= 2
		if errors.Is(cause, sink.ErrTooLarge) {
			r.limit.TooLarge(f.Size)
		}
		if f.End > 0 {
			return "", false, nil
		}
		r.dropPrefetched()
		r.limit.Next = f.Size
		return b.From, true, nil
	}
	err = r.settle(f, s, sink.Stored(0, cause))
	return "", err != nil, err
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
	if err = r.save(b); err == nil {
		r.succeeded(OpWrite)
	}
	return b.To, err
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
	one := parts.New(1)
	if err := r.until(r.graceCtx, &d, func(ctx context.Context) error { return one.Check(r.DeadLetter.Write(ctx, batch)) }); err != nil {
		return err
	}
	r.rejected++
	r.unsaved = true
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
