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
// also if others are refused meanwhile.
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
// refused, and goes on once the record is accepted. A process that a supervisor
// restarts does not either.
func TestARefusedRecordStoresNothingTwiceAtEachRestart(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		for _, bad := range few(2000, 1, 2, 3000) {
			for _, processes := range []bool{false, true} {
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
					var stop func() error
					if processes {
						for range 20 {
							again, _ := p.poller(0, parallel)
							again.Source, again.Checkpointer = source.Func[int](w.Fetch), w
							require.ErrorIs(t, again.Drain(t.Context()), sink.ErrRejected)
						}
						stop = start(t, pl)
					} else {
						ctx, cancel := context.WithCancel(t.Context())
						ended := make(chan error, 1)
						go func() { ended <- poller.Group{Pipelines: []poller.Pipeline{pl}, Logger: pl.Logger}.Run(ctx) }()
						time.Sleep(24 * time.Hour)
						stop = func() error { cancel(); return <-ended }
					}
					assert.Equal(t, cursor(bad-1), w.stored)
					assert.Equal(t, slices.Compact(p.sorted()), p.sorted(), "nothing twice in a day")
					close(fixed)
					time.Sleep(10 * time.Minute)
					require.NoError(t, stop())
					assert.Equal(t, seq(1, 3000), slices.Compact(p.sorted()))
					assert.LessOrEqual(t, len(p.stored)-3000, 3000-bad, "what was stored after the record, once more")
					if parallel == 1 {
						assert.Equal(t, seq(1, 3000), p.stored)
					}
				})
			}
		}
	}
}

// A pipeline that is told to stop within a batch begins no new record. It stores those
// that are missing before others, as long as Grace lasts, and saves the cursor after
// the last one. So the next run stores nothing twice.
func TestAStopWithinABatchRepeatsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		parallel int
		down     time.Duration // how long the second record fails
		repeats  bool
	}{
		"in order":                    {1, 0, false},
		"in order, target down":       {1, time.Hour, false},
		"parallel":                    {8, 0, false},
		"parallel, one fails":         {8, 10 * time.Second, false},
		"parallel, fails beyond that": {8, time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				outage := until(c.down, errOutage)
				p := &posts{takes: 100 * time.Millisecond, fail: func(record int) error {
					if record == 2 {
						return outage()
					}
					return nil
				}}
				pl, w := p.poller(3000, c.parallel)
				stop := start(t, pl)
				time.Sleep(4 * time.Second)
				before := time.Now()
				err := stop()
				if c.repeats {
					require.ErrorIs(t, err, errOutage, "records were stored and the cursor does not say so")
					assert.Equal(t, source.Cursor("1"), w.stored)
					return
				}
				require.NoError(t, err)
				assert.Less(t, time.Since(before), 15*time.Second)
				assert.Equal(t, seq(1, position(w.stored)), p.sorted())
				assert.Less(t, len(p.stored), 1000, "the rest is left to the next run")
				time.Sleep(2 * time.Hour)
				again, _ := p.poller(0, c.parallel)
				again.Source, again.Checkpointer = source.Func[int](w.Fetch), w
				require.NoError(t, again.Drain(t.Context()))
				assert.Equal(t, seq(1, 3000), p.sorted())
			})
		})
	}
}

// If the records that are stored have changed in the source, no cursor can be trusted
// to be the one after them. The rest of the batch is then stored within Grace.
func TestAStopWithinABatchWhoseRecordsHaveChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &posts{takes: 100 * time.Millisecond}
		pl, w := p.poller(100, 1)
		stop := start(t, pl)
		time.Sleep(4 * time.Second)
		w.mu.Lock()
		w.records = w.records[1:] // the first is deleted, so the others move up
		w.mu.Unlock()
		require.NoError(t, stop())
		assert.Equal(t, source.Cursor("100"), w.stored)
		assert.Equal(t, seq(1, 100), p.stored)
	})
}

// A source may return fewer records than it is asked for.
func TestAStopWithASourceOfShortBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &posts{takes: 100 * time.Millisecond}
		pl, w := p.poller(100, 1)
		stop := start(t, pl)
		time.Sleep(4 * time.Second)
		stopped := false
		w.mu.Lock()
		w.answer = func(b *source.Batch[int]) {
			if n := 7; len(b.Records) > n {
				b.Records, b.To, stopped = b.Records[:n], cursor(position(b.From)+n), true
			}
		}
		w.mu.Unlock()
		require.NoError(t, stop())
		assert.True(t, stopped)
		assert.Equal(t, seq(1, position(w.stored)), p.stored)
		assert.Equal(t, int64(len(p.stored)), pl.Status().Records)
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
