package poller_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// few returns the first of n with -short, as with the race detector, and otherwise all.
func few(n ...int) []int {
	if testing.Short() {
		return n[:1]
	}
	return n
}

// hangOnce returns a store that does not answer once for a record.
func hangOnce(at int, store func(context.Context, int) error) func(context.Context, int) error {
	var once sync.Once
	return func(ctx context.Context, record int) error {
		hangs := false
		if record == at {
			once.Do(func() { hangs = true })
		}
		if hangs {
			<-ctx.Done()
			return ctx.Err()
		}
		return store(ctx, record)
	}
}

// A record that is not answered has no other record stored twice, wherever it is, and
// also if others are refused during that time.
func TestAHangingRecordStoresNothingTwice(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		for _, hangs := range few(2, 1, 100, 3000) {
			for _, bad := range [][]int{nil, {1}, {5, 99, 101}, {501, 2999}} {
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					calls := make(map[int]int)
					p := &posts{takes: 10 * time.Millisecond, fail: func(record int) error {
						if slices.Contains(bad, record) {
							return sink.Reject(errors.New("422 Unprocessable Content"))
						}
						return nil
					}}
					pl, w := p.poller(3000, parallel)
					l := &letters{}
					pl.DeadLetter = l
					pl.Sink = sink.Each(parallel, hangOnce(hangs, func(ctx context.Context, record int) error {
						mu.Lock()
						calls[record]++
						mu.Unlock()
						return p.post(ctx, record)
					}))
					require.NoError(t, pl.Drain(t.Context()))
					assert.Equal(t, without(1, 3000, bad...), p.sorted())
					assert.Equal(t, append([]int{}, bad...), append([]int{}, l.records()...))
					for record, n := range calls {
						assert.Equal(t, 1, n, record)
					}
					assert.Equal(t, source.Cursor("3000"), w.stored)
				})
			}
		}
	}
}

// A sink that knows nothing of the records that it was writing when its time ended
// is asked again for the rest only.
func TestAPartialSinkThatTimesOutIsNotGivenTheBatchAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(10)
		attempts := 0
		w.onWrite = func(ctx context.Context, b source.Batch[int]) error {
			if attempts++; attempts == 1 {
				<-ctx.Done()
				return &sink.StoredError{Err: ctx.Err(), Others: map[int]error{2: nil, 9: nil}}
			}
			return nil
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, []int{1, 2, 4, 5, 6, 7, 8, 9}, w.written)
		assert.Equal(t, 1, w.count("fetch"), "not fetched again")
	})
}

// A Group repeats nothing, however often it restarts a pipeline whose record is
// refused, and goes on once the record is accepted.
func TestARefusedRecordStoresNothingTwiceAtEachRestart(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		for _, bad := range few(2000, 1, 2, 3000) {
			synctest.Test(t, func(t *testing.T) {
				fixed := make(chan struct{})
				p := &posts{takes: time.Millisecond, fail: func(record int) error {
					select {
					case <-fixed:
					default:
						if record == bad {
							return sink.Reject(errors.New("422 Unprocessable Content"))
						}
					}
					return nil
				}}
				pl, w := p.poller(3000, parallel)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- poller.Group{Pipelines: []poller.Pipeline{pl}, Logger: pl.Logger}.Run(ctx) }()
				time.Sleep(24 * time.Hour)
				assert.Equal(t, slices.Compact(p.sorted()), p.sorted(), "nothing twice in a day")
				w.add(10) // the batch in memory does not know of them
				close(fixed)
				time.Sleep(10 * time.Minute)
				cancel()
				require.NoError(t, <-ended)
				assert.Equal(t, seq(1, 3010), p.sorted())
				assert.Equal(t, source.Cursor("3010"), w.stored)
				assert.Equal(t, int64(3010), pl.Status().Records)
			})
		}
	}
}

// A new process does not know what is stored of the batch, and repeats that.
func TestANewProcessRepeatsAtMostTheBatch(t *testing.T) {
	p := &posts{fail: func(record int) error {
		if record == 150 {
			return sink.Reject(errors.New("422"))
		}
		return nil
	}}
	pl, w := p.poller(300, 1)
	for range 3 {
		again, _ := p.poller(0, 1)
		again.Source, again.Checkpointer, again.BatchSize = source.Func[int](w.Fetch), w, 100
		require.ErrorIs(t, again.Drain(t.Context()), sink.ErrRejected)
		assert.Equal(t, source.Cursor("100"), w.stored)
	}
	p.fail = nil
	require.NoError(t, pl.Drain(t.Context()))
	assert.Equal(t, seq(1, 300), slices.Compact(p.sorted()))
	assert.Len(t, p.stored, 300+3*49)
}

// The next run goes on with the batch only if the cursor is still the one before it.
func TestAnUnfinishedBatchIsDroppedIfTheCursorMoved(t *testing.T) {
	for moved, twice := range map[source.Cursor]int{"10": 0, "": 15, "13": 2} {
		refused := true
		p := &posts{fail: func(record int) error {
			if record == 16 && refused {
				return sink.Reject(errors.New("422"))
			}
			return nil
		}}
		pl, w := p.poller(20, 1)
		pl.BatchSize = 10
		require.ErrorIs(t, pl.Drain(t.Context()), sink.ErrRejected)
		assert.Equal(t, source.Cursor("10"), w.stored)
		refused, w.stored = false, moved
		w.add(10)
		require.NoError(t, pl.Drain(t.Context()))
		assert.Equal(t, seq(1, 30), slices.Compact(p.sorted()), moved)
		assert.Len(t, p.stored, 30+twice)
	}
}

// After a conflict another writer may have delivered the batch, and a person may have
// rewound the cursor, so that it is the same again.
func TestAnUnfinishedBatchIsDroppedAfterAConflict(t *testing.T) {
	p := &posts{fail: func(record int) error {
		if record == 5 {
			return sink.Reject(errors.New("422"))
		}
		return nil
	}}
	pl, _ := p.poller(10, 1)
	var checkpoint pollertest.Checkpointer
	pl.Checkpointer, pl.DeadLetter = &checkpoint, &letters{fail: func() error { checkpoint.Rewind(""); return nil }}
	require.ErrorIs(t, pl.Drain(t.Context()), poller.ErrConflict)
	pl.DeadLetter = &letters{}
	require.NoError(t, pl.Drain(t.Context()))
	assert.Len(t, p.stored, 2*9)
}

// So may another replica that was active.
func TestAnUnfinishedBatchIsDroppedAfterAnotherReplica(t *testing.T) {
	for standby, want := range map[int]int{0: 10, 1: 19} {
		synctest.Test(t, func(t *testing.T) {
			refused := true
			p := &posts{fail: func(record int) error {
				if record == 10 && refused {
					return sink.Reject(errors.New("422"))
				}
				return nil
			}}
			pl, _ := p.poller(10, 1)
			lease := &turns{}
			pl.Lease = lease
			require.ErrorIs(t, pl.Drain(t.Context()), sink.ErrRejected)
			refused = false
			lease.add(standby, errOther)
			require.NoError(t, pl.Drain(t.Context()))
			assert.Len(t, p.stored, want)
		})
	}
}

// If all of the batch is stored, and the cursor could not be saved, the next run only
// saves it.
func TestABatchThatIsStoredAndNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &posts{takes: 100 * time.Millisecond}
		pl, w := p.poller(100, 1)
		l := &letters{}
		pl.DeadLetter, pl.Retry.MaxAttempts = l, 2
		p.fail = func(record int) error {
			if record == 50 {
				return sink.Reject(errors.New("422"))
			}
			return nil
		}
		w.onSave = func(context.Context, source.Cursor, source.Cursor) error { return errOutage }
		require.ErrorIs(t, pl.Drain(t.Context()), errOutage)
		require.ErrorIs(t, pl.Drain(t.Context()), errOutage)
		w.onSave = nil
		require.NoError(t, pl.Drain(t.Context()))
		assert.Equal(t, without(1, 100, 50), p.stored)
		assert.Equal(t, []int{50}, l.records())
		assert.Equal(t, source.Cursor("100"), w.stored)
		assert.Equal(t, int64(99), pl.Status().Records)
	})
}

// A sink that stores records one by one and works looks healthy: its progress is not an
// error for the hooks, is not logged, and keeps LastPoll fresh.
func TestProgressIsNotAnError(t *testing.T) {
	for name, store := range map[string]func(p *posts){
		"slow":       func(p *posts) {},
		"unreliable": func(p *posts) { p.fail = every(20, errOutage) },
		"refuses":    func(p *posts) { p.fail = every(50, sink.Reject(errors.New("422"))) },
	} {
		for _, parallel := range few(8, 1) {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &posts{takes: time.Duration(parallel) * 20 * time.Millisecond}
					store(p)
					pl, w := p.poller(6_000, parallel)
					pl.DeadLetter, pl.DeadLetterLimit = &letters{}, 1000
					pl.Hooks.StepEnd = func(_ context.Context, s poller.StepInfo) {
						if s.Err != nil && name != "unreliable" { // the first record of a part may fail alone
							t.Error(s.Op, s.Err)
						}
					}
					stop := start(t, pl)
					time.Sleep(6 * time.Second) // the first parts of the first batch
					for range 100 {
						time.Sleep(time.Second)
						s := pl.Status()
						assert.NotContains(t, s.Summary(time.Now()), "waiting")
						assert.Less(t, time.Since(s.LastPoll), 10*time.Second)
						assert.False(t, s.Overdue)
					}
					require.NoError(t, stop())
					assert.Empty(t, w.logged("no answer yet"))
					if name != "unreliable" {
						assert.Empty(t, w.logged("failing"))
						assert.Empty(t, pl.Status().LastError)
					}
				})
			})
		}
	}
}

// every returns a hook of posts that fails at each nth call.
func every(n int, err error) func(int) error {
	calls := 0
	return func(int) error {
		if calls++; calls%n == 0 {
			return err
		}
		return nil
	}
}

// That a batch is too large is what the Poller asks for, and no error for the hooks.
func TestTooLargeIsNotAnError(t *testing.T) {
	w := newWorld(1000)
	w.onWrite = func(_ context.Context, b source.Batch[int]) error {
		if len(b.Records) > 70 {
			return sink.TooLarge(errors.New("more than 70 records"))
		}
		return nil
	}
	p := w.poller()
	p.BatchSize = 1000
	p.Hooks.StepEnd = func(_ context.Context, s poller.StepInfo) { assert.NoError(t, s.Err) }
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, seq(1, 1000), w.written)
	assert.Empty(t, p.Status().LastError)
}
