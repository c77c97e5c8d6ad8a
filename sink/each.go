package sink

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
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
// Write returns a [StoredError] that says what became of each record. So no record is
// stored twice, unless store failed although the record was stored, or the process
// ends within a batch: then the next process stores the stored part again. That
// happens after a crash, and after a stop whose Grace is shorter than the rest of the
// batch takes. A sink that calls Write of this one and does more than that must not
// return its error, see [Stored].
//
// Write stores the first record alone, and the others if that succeeds. So a record
// that blocks the pipeline does not have the records after it stored at each
// restart. Write stops after as many failures in a row as there are goroutines:
// then the target is down. It begins no record once half of the time until the
// deadline of ctx has passed, or 5 s: the Poller then sees progress, goes on from
// there, and makes the next batches about as large as the stored part. A record for
// which store returns an error made by [TooLarge] is rejected.
//
// No goroutine outlives Write.
func Each[T any](parallel int, store func(ctx context.Context, record T) error) Sink[T] {
	parallel = max(1, parallel)
	return Func[T](func(ctx context.Context, b source.Batch[T]) error {
		stop := time.Now().Add(longestWrite)
		if deadline, ok := ctx.Deadline(); ok {
			stop = time.Now().Add(min(longestWrite, time.Until(deadline)/2))
		}
		outcomes := slices.Repeat([]error{errUntried}, len(b.Records))
		var failures atomic.Int64 // in a row
		var calls sync.WaitGroup
		slots := make(chan struct{}, parallel)
		for i, record := range b.Records {
			if i == 1 { // the first record is stored alone
				calls.Wait()
			}
			slots <- struct{}{}
			if i > 0 && outcomes[0] != nil || failures.Load() >= int64(parallel) || ctx.Err() != nil || !time.Now().Before(stop) {
				break
			}
			calls.Go(func() {
				err := store(ctx, record)
				if errors.Is(err, ErrTooLarge) { // alone, so it can never be stored
					err = Reject(err)
				}
				if outcomes[i] = err; err != nil {
					failures.Add(1)
				} else {
					failures.Store(0)
				}
				<-slots
			})
		}
		calls.Wait()
		return report(ctx, outcomes)
	})
}

// longestWrite is for how long a Write of Each begins to store records.
const longestWrite = 5 * time.Second

// errUntried is the outcome of a record for which store was not called.
var errUntried = errors.New("not tried")

// report returns the error of a Write with these outcomes.
func report(ctx context.Context, outcomes []error) error {
	n := slices.IndexFunc(outcomes, func(err error) bool { return err != nil })
	if n < 0 {
		return nil
	}
	stored := &StoredError{N: n, Err: outcomes[n], Others: make(map[int]error)}
	if errors.Is(stored.Err, errUntried) {
		stored.Err = ctx.Err()
	}
	for i, err := range outcomes {
		if i > n && (err == nil || errors.Is(err, ErrRejected)) {
			stored.Others[i] = err
		}
	}
	return stored
}
