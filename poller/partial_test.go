package poller_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// posts counts the calls of a function for one record, and how often each record
// was stored.
type posts struct {
	mu     sync.Mutex
	calls  int
	stored []int // in order
	fail   func(record int) error
	takes  time.Duration
}

func (p *posts) post(ctx context.Context, record int) error {
	if p.takes > 0 {
		t := time.NewTimer(p.takes)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.fail != nil {
		if err := p.fail(record); err != nil {
			return err
		}
	}
	p.stored = append(p.stored, record)
	return nil
}

func (p *posts) sorted() []int { return slices.Sorted(slices.Values(p.stored)) }

// each makes a poller of n records whose sink posts them one by one.
func (p *posts) poller(n, parallel int) (*poller.Poller[int], *world) {
	w := newWorld(n)
	pl := w.poller()
	pl.BatchSize = 0
	pl.Sink = sink.Each(parallel, p.post)
	return pl, w
}

// A sink that stores records one by one and fails now and then stores each record
// once, and needs few more calls than records.
func TestAnUnreliableSinkStoresEachRecordOnce(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		for percent, most := range map[int]float64{1: 1.15, 10: 1.3} {
			t.Run(fmt.Sprintf("%d at once, %d percent", parallel, percent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					random := rand.New(rand.NewPCG(1, uint64(percent)))
					p := &posts{takes: time.Millisecond, fail: func(int) error {
						if random.IntN(100) < percent {
							return errors.New("503 Service Unavailable")
						}
						return nil
					}}
					pl, w := p.poller(3000, parallel)
					require.NoError(t, pl.Drain(t.Context()))
					assert.Equal(t, seq(1, 3000), p.sorted())
					if parallel == 1 {
						assert.Equal(t, seq(1, 3000), p.stored, "in order")
					}
					assert.Less(t, float64(p.calls), most*3000)
					assert.Equal(t, source.Cursor("3000"), w.stored)
					assert.Equal(t, int64(3000), pl.Status().Records)
					assert.Equal(t, 1, w.count("save"), "saved once, when all are stored")
				})
			})
		}
	}
}

// With refused records among them the others are stored once too, and a crash within
// a batch repeats at most that batch.
func TestAnUnreliableSinkThatRefusesRecordsAndACrash(t *testing.T) {
	bad := []int{1, 700, 701, 1500, 3000}
	for _, parallel := range []int{1, 8} {
		for _, batch := range []int{0, 100} {
			for _, crash := range []int{0, 1, 650, 1501, 2950} { // at this call, 0: none
				synctest.Test(t, func(t *testing.T) {
					random := rand.New(rand.NewPCG(2, uint64(crash)))
					p, dead := &posts{takes: time.Millisecond}, false
					p.fail = func(record int) error {
						switch {
						case dead || p.calls == crash:
							dead = true
							return retry.Permanent(errors.New("the process is killed"))
						case slices.Contains(bad, record):
							return sink.Reject(errors.New("422 Unprocessable Content"))
						case random.IntN(100) == 0:
							return errors.New("503 Service Unavailable")
						}
						return nil
					}
					pl, w := p.poller(3000, parallel)
					l := &letters{}
					pl.BatchSize, pl.DeadLetter = batch, l
					if crash > 0 {
						require.ErrorContains(t, pl.Drain(t.Context()), "killed")
						dead = false
						again, _ := p.poller(0, parallel)
						again.Source, again.Checkpointer, again.BatchSize, again.DeadLetter = source.Func[int](w.Fetch), w, batch, l
						pl = again
					}
					require.NoError(t, pl.Drain(t.Context()))
					stored := p.sorted()
					twice := len(stored) - (3000 - len(bad))
					assert.Equal(t, without(1, 3000, bad...), slices.Compact(stored))
					assert.Equal(t, bad, slices.Compact(slices.Sorted(slices.Values(l.records()))))
					assert.Equal(t, source.Cursor("3000"), w.stored)
					if crash == 0 {
						assert.Zero(t, twice)
						assert.Equal(t, bad, l.records())
						assert.Less(t, float64(p.calls), 1.15*3000)
					} else {
						assert.LessOrEqual(t, twice, cmp.Or(batch, 3000))
						assert.LessOrEqual(t, twice, crash, "no more than was stored")
					}
				})
			}
		}
	}
}

// During an outage of the target no record is stored twice, and the target is not
// called for each record of the batch.
func TestAnOutageOfAPerRecordSink(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			outage := until(time.Hour, errOutage)
			p := &posts{takes: time.Millisecond, fail: func(record int) error {
				if record > 100 {
					return outage()
				}
				return nil
			}}
			pl, _ := p.poller(1000, parallel)
			require.NoError(t, pl.Drain(t.Context()))
			assert.Equal(t, seq(1, 1000), p.sorted())
			assert.Less(t, p.calls, 1000+500*parallel, "an hour of attempts, at most 30 s apart")
		})
	}
}

func TestANamedRecordIsRejectedWithoutBisecting(t *testing.T) {
	for _, parallel := range []int{1, 3} {
		for _, bad := range [][]int{{1}, {7}, {10}, {40}, {1, 2, 3}, {9, 10, 11}, seq(1, 40)} {
			l := &letters{}
			p := &posts{fail: func(record int) error {
				if slices.Contains(bad, record) {
					return sink.Reject(fmt.Errorf("record %d is poison", record))
				}
				return nil
			}}
			pl, w := p.poller(40, parallel)
			pl.DeadLetter, pl.BatchSize = l, 10
			require.NoError(t, pl.Drain(t.Context()))
			assert.Equal(t, bad, l.records())
			assert.Equal(t, without(1, 40, bad...), append([]int{}, p.sorted()...))
			assert.Equal(t, 40, p.calls, "each record was tried once")
			assert.Equal(t, 4, w.count("save"))
			for _, r := range l.got {
				assert.Equal(t, r.Record, position(r.From)+r.Index+1)
			}
			assert.Equal(t, int64(40-len(bad)), pl.Status().Records)
		}
	}
}

func TestANamedRecordWithoutDeadLetterEndsRun(t *testing.T) {
	p := &posts{fail: func(record int) error {
		if record == 7 {
			return sink.Reject(errors.New("poison"))
		}
		return nil
	}}
	pl, w := p.poller(40, 1)
	err := pl.Drain(t.Context())
	require.ErrorIs(t, err, sink.ErrRejected)
	assert.ErrorContains(t, err, "record 7 of the batch: rejected: poison")
	assert.Empty(t, w.stored, "no cursor stands for a position within a batch")
	require.ErrorIs(t, pl.Drain(t.Context()), sink.ErrRejected)
	assert.Equal(t, seq(1, 6), p.stored, "what is stored before it is not repeated")
}

// A batch that takes longer than the timeout of a step is written in several
// steps, none of which fails, and later batches fit.
func TestASlowPerRecordSinkDoesNotTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &posts{takes: time.Second}
		pl, w := p.poller(500, 1)
		require.NoError(t, pl.Drain(t.Context()))
		assert.Equal(t, seq(1, 500), p.stored)
		assert.Equal(t, 500, p.calls)
		assert.Empty(t, w.logged("failing"))
	})
}

func TestASinkThatStoredMoreThanItGotEndsRun(t *testing.T) {
	for _, n := range []int{-1, 6} {
		w := newWorld(5)
		w.onWrite = func(context.Context, source.Batch[int]) error { return sink.Stored(n, errOutage) }
		assert.ErrorContains(t, w.poller().Drain(t.Context()), fmt.Sprintf("stored %d of 5 records", n))
	}
}

// The limits of the sink are found by halving, and kept.
func TestTooLarge(t *testing.T) {
	w := newWorld(10_000)
	tooLarge := 0
	w.onWrite = func(_ context.Context, b source.Batch[int]) error {
		if len(b.Records) > 70 {
			tooLarge++
			return sink.TooLarge(errors.New("more than 70 records"))
		}
		return nil
	}
	p := w.poller()
	p.BatchSize = 1000
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, seq(1, 10_000), w.written)
	assert.Equal(t, 5, tooLarge, "1000, 500, 250, 125, and one try of 124 after a hundred batches")
	assert.Empty(t, w.logged("record rejected"))
	assert.Empty(t, w.logged("failing"))
}

func TestARecordThatIsTooLargeGoesToDeadLetter(t *testing.T) {
	w, l := newWorld(20), &letters{}
	w.onWrite = func(_ context.Context, b source.Batch[int]) error {
		if slices.Contains(b.Records, 13) {
			return sink.TooLarge(errors.New("more than 1 MB"))
		}
		return nil
	}
	p := w.poller()
	p.DeadLetter = l
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, []int{13}, l.records())
	assert.Equal(t, without(1, 20, 13), w.written)
	p = w.poller()
	w.stored = ""
	require.ErrorIs(t, p.Drain(t.Context()), sink.ErrTooLarge)
}

// bad makes the source unable to make some records.
func (w *world) bad(records ...int) source.Func[int] {
	return func(ctx context.Context, after source.Cursor, limit int) (source.Batch[int], error) {
		first := position(after) + 1
		if slices.Contains(records, first) {
			w.note("fetch %s+%d", after, limit)
			return source.Batch[int]{}, &source.BadRecord{Key: fmt.Sprint("id ", first), To: cursor(first), Err: errors.New("NULL does not fit")}
		}
		for _, r := range records {
			if r > first {
				limit = min(limit, r-first)
			}
		}
		return w.Fetch(ctx, after, limit)
	}
}

func TestABadRecordGoesToDeadLetter(t *testing.T) {
	for _, bad := range [][]int{{1}, {7}, {20}, {1, 2, 3}, seq(1, 20)} {
		w, l := newWorld(20), &letters{}
		p := w.poller()
		p.Source, p.DeadLetter = w.bad(bad...), l
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, without(1, 20, bad...), append([]int{}, w.written...))
		assert.Equal(t, source.Cursor("20"), w.stored)
		assert.Equal(t, int64(len(bad)), p.Status().DeadLetters)
		for i, r := range l.got {
			assert.Equal(t, fmt.Sprint("id ", bad[i]), r.Key)
			assert.Equal(t, cursor(bad[i]-1), r.From)
			assert.Equal(t, cursor(bad[i]), r.To)
			assert.Contains(t, r.Err, "NULL does not fit")
		}
		assert.Contains(t, w.steps(), fmt.Sprintf("write %s-%s", cursor(bad[0]-1), cursor(bad[0])), "the sink moves its cursor")
	}
}

func TestABadRecordWithoutDeadLetterEndsRun(t *testing.T) {
	w := newWorld(20)
	p := w.poller()
	p.Source = w.bad(7)
	err := p.Drain(t.Context())
	var failed *poller.Error
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, poller.OpFetch, failed.Op)
	assert.Equal(t, source.Cursor("6"), failed.From)
	assert.ErrorContains(t, err, "id 7")
	assert.ErrorContains(t, err, "DeadLetter is not set")
	assert.Equal(t, source.Cursor("6"), w.stored, "the records before it are delivered")
}

func TestABadRecordThatDoesNotMoveTheCursorEndsRun(t *testing.T) {
	for _, to := range []source.Cursor{"", "\n"} {
		w, l := newWorld(5), &letters{}
		p := w.poller()
		p.DeadLetter = l
		p.Source = source.Func[int](func(context.Context, source.Cursor, int) (source.Batch[int], error) {
			return source.Batch[int]{}, &source.BadRecord{Key: "id 1", To: to, Err: errors.New("no")}
		})
		err := p.Drain(t.Context())
		require.Error(t, err)
		assert.Equal(t, retry.Fatal, retry.Classify(err))
		assert.Empty(t, l.got)
	}
}
