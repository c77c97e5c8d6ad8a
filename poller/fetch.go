package poller

import (
	"context"
	"errors"
	"fmt"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// fetched is the outcome of a fetch.
type fetched[T any] struct {
	batch source.Batch[T]
	limit int // how many records were asked for
	step  StepInfo
	err   error
}

// fetch returns the batch after a cursor, the one fetched ahead if there is
// one. The error may be source.ErrEnd.
func (r *run[T]) fetch(after source.Cursor) (f fetched[T], err error) {
	for {
		r.enter(Working, OpFetch, r.timeout())
		if r.ahead != nil {
			f = <-r.ahead
			r.ahead = nil
		} else {
			f = r.fetchOnce(after, r.limit, r.steps[OpFetch].failures+1)
		}
		if f.err == nil || errors.Is(f.err, source.ErrEnd) {
			r.succeeded(OpFetch)
			return f, f.err
		}
		if late(f.err) {
			r.limit = max(1, f.limit/2)
		}
		if err := r.failed(r.ctx, &f.step, f.err); err != nil {
			return f, err
		}
	}
}

// fetchAhead starts to fetch the batch after a cursor.
func (r *run[T]) fetchAhead(after source.Cursor) {
	ahead, limit := make(chan fetched[T], 1), r.limit
	r.ahead = ahead
	go func() { ahead <- r.fetchOnce(after, limit, 1) }()
}

// drop awaits the fetch ahead and forgets it. Nothing of it was written, so
// fetching again from the cursor loses nothing.
func (r *run[T]) drop() {
	if r.ahead != nil {
		<-r.ahead
		r.ahead = nil
	}
}

func (r *run[T]) fetchOnce(after source.Cursor, limit, attempt int) fetched[T] {
	f := fetched[T]{limit: limit, step: StepInfo{Op: OpFetch, Attempt: attempt, From: after}}
	f.err = r.call(r.ctx, &f.step, func(ctx context.Context) (err error) {
		if f.batch, err = r.Source.Fetch(ctx, after, limit); err == nil {
			err = check(f.batch, after, limit)
		} else if n := len(f.batch.Records); n > 0 && errors.Is(err, source.ErrEnd) {
			err = retry.Permanent(fmt.Errorf("the source answered with %d records and source.ErrEnd, which would lose them: it comes with an empty batch", n))
		}
		f.step.To, f.step.Records, f.step.Bytes = f.batch.To, len(f.batch.Records), f.batch.Bytes
		return err
	})
	return f
}

// check holds a batch against the contract of a source, as far as breaking it
// would lose records or repeat them without end.
func check[T any](b source.Batch[T], after source.Cursor, limit int) error {
	var err error
	switch {
	case b.From != after:
		err = fmt.Errorf("the source was asked for records after %q and answered with those after %q", after, b.From)
	case len(b.Records) > limit:
		err = fmt.Errorf("the source was asked for %d records at most and answered with %d", limit, len(b.Records))
	case len(b.Records) > 0 && b.To == b.From:
		err = fmt.Errorf("the source answered with %d records and a cursor that did not move", len(b.Records))
	case b.To == "" && after != "":
		err = errors.New("the source answered with the empty cursor, which stands before its first record: leave To equal to From when there is nothing new")
	case b.More && b.To == b.From:
		err = errors.New("the source answered that it has more, with no record and a cursor that did not move")
	default:
		err = b.To.Validate()
	}
	return retry.Permanent(err)
}
