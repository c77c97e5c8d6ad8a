package poller

import (
	"context"
	"errors"
	"fmt"

	"github.com/artifactofdevotion/devotion/internal/parts"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// fetched is the result of a fetch, and what became of its records. Once some of them
// are done, which is to say stored or rejected, the rest is written from memory, in
// parts: no cursor stands for a position within a batch.
type fetched[T any] struct {
	parts.Parts
	uncertain bool // a write failed that may have stored records
	batch     source.Batch[T]
	limit     int // passed to Fetch
	step      StepInfo
	err       error
}

// fetch returns the batch after a cursor. It uses the unfinished batch of the last
// run or the prefetched batch if there is one, and retries. The error may be source.ErrEnd or a *source.BadRecord.
func (r *run[T]) fetch(after source.Cursor) (f fetched[T], err error) {
	if r.unfinished != nil {
		f, r.unfinished = *r.unfinished, nil
		return f, nil
	}
	for {
		r.enter(Working, OpFetch, r.deadline())
		if r.prefetched != nil {
			f = <-r.prefetched
			r.prefetched = nil
		} else {
			f = r.fetchOnce(r.ctx, after, r.limit.Next, r.steps[OpFetch].failures+1)
		}
		if f.err == nil || errors.Is(f.err, source.ErrEnd) || errors.As(f.err, new(*source.BadRecord)) {
			r.succeeded(OpFetch)
			return f, f.err
		}
		if errors.Is(f.err, ErrTimeout) {
			r.limit.Next = max(1, f.limit/2)
		}
		if err := r.failed(r.ctx, &f.step, f.err); err != nil {
			return f, err
		}
	}
}

// prefetchRecord is the average size of the records up to which the next batch is
// fetched during the write of a batch. With larger ones memory would hold two.
const prefetchRecord = 4 << 20

// prefetch starts to fetch the batch after a cursor in the background.
func (r *run[T]) prefetch(after source.Cursor) {
	ctx, cancel := context.WithCancel(r.ctx)
	prefetched, limit := make(chan fetched[T], 1), r.limit.Next
	r.prefetched, r.cancelPrefetch = prefetched, cancel
	go func() { defer cancel(); prefetched <- r.fetchOnce(ctx, after, limit, 1) }()
}

// dropPrefetched ends the prefetch, waits for it, and discards its result. None of it
// was written, so a new fetch from the saved cursor loses nothing.
func (r *run[T]) dropPrefetched() {
	if r.prefetched != nil {
		r.enter(Working, OpFetch, r.deadline())
		r.cancelPrefetch()
		<-r.prefetched
		r.prefetched = nil
	}
}

func (r *run[T]) fetchOnce(ctx context.Context, after source.Cursor, limit, attempt int) fetched[T] {
	f := fetched[T]{limit: limit, step: StepInfo{Op: OpFetch, Attempt: attempt, From: after}}
	f.err = r.call(ctx, &f.step, func(ctx context.Context) (err error) {
		if f.batch, err = r.Source.Fetch(ctx, after, limit); err == nil {
			err = check(f.batch, after, limit)
		} else if n := len(f.batch.Records); n > 0 && (errors.Is(err, source.ErrEnd) || errors.As(err, new(*source.BadRecord))) {
			err = retry.Permanent(fmt.Errorf("the source returned %d records with a source.ErrEnd or source.BadRecord, which would lose them: return them first, without an error", n))
		}
		f.Parts = parts.New(len(f.batch.Records))
		f.step.To, f.step.Records, f.step.Bytes = f.batch.To, len(f.batch.Records), f.batch.Bytes
		return err
	})
	return f
}

// check returns an error if the batch violates the contract of source.Source in
// a way that would lose records or repeat them for ever.
func check[T any](b source.Batch[T], after source.Cursor, limit int) error {
	var err error
	switch {
	case b.From != after:
		err = fmt.Errorf("the source was asked for the batch after cursor %q and returned the batch after %q", after.Short(), b.From.Short())
	case len(b.Records) > limit:
		err = fmt.Errorf("the source returned %d records, more than the limit of %d", len(b.Records), limit)
	case len(b.Records) > 0 && b.To == b.From:
		err = fmt.Errorf("the source returned %d records without moving the cursor: set To to the cursor after the last record", len(b.Records))
	case b.To == "" && after != "":
		err = errors.New("the source returned the empty cursor, which is the position before its first record: if there is nothing new, set To to From")
	case b.More && b.To == b.From:
		err = errors.New("the source returned an empty batch with More set, without moving the cursor: set More only if the next fetch can make progress")
	default:
		err = b.To.Validate()
	}
	return retry.Permanent(err)
}
