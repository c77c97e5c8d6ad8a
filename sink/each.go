package sink

import (
	"cmp"
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// Each returns a sink that stores records one by one: it calls store for each
// record, from up to parallel goroutines at once. With parallel at 1 the records
// are stored in order. Store returns nil once the record is stored durably, an
// error made by [Reject] if it can never be stored, and any other error if it may
// be stored later. It must be safe for concurrent use if parallel is above 1.
//
//	hook := sink.Each(1, func(ctx context.Context, o Order) error { return post(ctx, url, o) })
//
// Write reports progress with [Stored]. It stops after as many failures in a row
// as there are goroutines: then the target is down. Records that were stored after
// one that failed are remembered until the rest of the batch is written. So no
// record is stored twice, unless store failed although the record was stored, or
// the process ends within a batch.
//
// If ctx has a deadline, Write begins no record in the second half of the time.
// It then reports how far it came, and the Poller goes on from there.
//
// No goroutine outlives Write. Use the sink for one pipeline only.
func Each[T any](parallel int, store func(ctx context.Context, record T) error) Sink[T] {
	return &each[T]{parallel: max(1, parallel), store: store}
}

type each[T any] struct {
	parallel int
	store    func(context.Context, T) error

	batch uint64  // the ID of the batch whose rest is expected next
	rest  []state // of the records of this rest
}

// state is what became of a record. The zero value means that it is not stored.
type state struct {
	stored   bool
	rejected error
}

// Write stores the records of b that are not stored yet.
func (e *each[T]) Write(ctx context.Context, b source.Batch[T]) error {
	if b.ID == 0 || b.ID != e.batch || len(b.Records) > len(e.rest) {
		e.batch, e.rest = b.ID, make([]state, len(b.Records))
	}
	err := e.storeAll(ctx, b.Records)
	n := 0
	for n < len(b.Records) && e.rest[n].stored {
		n++
	}
	left := e.rest[n:len(b.Records)]
	e.rest = e.rest[n:]
	switch {
	case len(left) == 0:
		return nil
	case left[0].rejected != nil:
		e.rest = e.rest[1:] // the Poller goes on after this record
		return Stored(n, left[0].rejected)
	}
	return Stored(n, err)
}

// storeAll tries to store each record that is neither stored nor rejected. It
// returns the first error that is not a rejection.
func (e *each[T]) storeAll(ctx context.Context, records []T) (failed error) {
	stop := time.Now().Add(math.MaxInt64)
	if deadline, ok := ctx.Deadline(); ok {
		stop = time.Now().Add(time.Until(deadline) / 2)
	}
	var (
		mu       sync.Mutex // guards what follows, and e.rest
		i        int        // the next record
		failures int        // in a row
	)
	next := func() int {
		mu.Lock()
		defer mu.Unlock()
		for i < len(records) && e.rest[i] != (state{}) {
			i++
		}
		if failures >= e.parallel || ctx.Err() != nil || !time.Now().Before(stop) {
			return len(records)
		}
		i++
		return i - 1
	}
	done := func(i int, err error) {
		mu.Lock()
		defer mu.Unlock()
		failures++
		switch {
		case err == nil:
			e.rest[i].stored, failures = true, 0
		case errors.Is(err, ErrRejected):
			e.rest[i].rejected = err
		case failed == nil:
			failed = err
		}
	}
	var workers sync.WaitGroup
	for range min(e.parallel, len(records)) {
		workers.Go(func() {
			for i := next(); i < len(records); i = next() {
				done(i, e.store(ctx, records[i]))
			}
		})
	}
	workers.Wait()
	return cmp.Or(failed, ctx.Err())
}
