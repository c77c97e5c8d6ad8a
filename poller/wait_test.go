package poller_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

// polls returns the times of all fetches, relative to now.
func polls(w *world) *[]time.Duration {
	began, at := time.Now(), new([]time.Duration)
	w.onFetch = func(context.Context, source.Cursor, int) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		*at = append(*at, time.Since(began))
		return nil
	}
	return at
}

func gaps(at []time.Duration) (g []time.Duration) {
	for i := 1; i < len(at); i++ {
		g = append(g, at[i]-at[i-1])
	}
	return g
}

func TestIntervalIsJittered(t *testing.T) {
	for set, want := range map[time.Duration]time.Duration{0: time.Second, time.Minute: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(0)
			at := polls(w)
			p := w.poller()
			p.Interval = set
			stop := start(t, p)
			time.Sleep(200 * want)
			require.NoError(t, stop())
			seen := map[time.Duration]bool{}
			for _, g := range gaps(*at) {
				assert.InDelta(t, want, g, float64(want)/10)
				seen[g] = true
			}
			assert.Greater(t, len(seen), 100, "the waits differ")
		})
	}
}

func TestTheLongestIntervalWaitsForAWake(t *testing.T) {
	for range 10 { // half of the time the jitter shortens the wait
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(0)
			p := w.poller()
			p.Interval = math.MaxInt64
			stop := start(t, p)
			time.Sleep(time.Hour)
			require.NoError(t, stop())
			assert.Equal(t, 1, w.count("fetch"))
		})
	}
}

func TestNoWaitWhileThereIsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1000)
		began := time.Now()
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, began, time.Now())
		assert.Equal(t, 100, w.count("write"))
	})
}

func TestDefaultBatchSize(t *testing.T) {
	w := newWorld(5001)
	p := w.poller()
	p.BatchSize = 0
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, 1, w.count("fetch +5000"))
}

func TestTheLargestBatchSize(t *testing.T) {
	w := newWorld(0)
	p := w.poller()
	p.BatchSize = math.MaxInt
	p.Source = source.Func[int](func(_ context.Context, after source.Cursor, limit int) (source.Batch[int], error) {
		assert.Equal(t, math.MaxInt, limit)
		n := position(after) + 1
		return source.Batch[int]{From: after, To: cursor(n), Records: []int{n}, More: n < 5}, nil
	})
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, seq(1, 5), w.written)
}

func TestWakeEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		wake := make(chan struct{}, 1)
		p := w.poller()
		p.Wake, p.Interval = wake, time.Hour
		stop := start(t, p)
		synctest.Wait()
		for i := 1; i <= 3; i++ {
			w.add(1)
			wake <- struct{}{}
			synctest.Wait()
			w.mu.Lock()
			assert.Equal(t, seq(1, i), w.written)
			w.mu.Unlock()
		}
		require.NoError(t, stop())
	})
}

func TestWakeDuringAStepIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		wake := make(chan struct{}, 1)
		p := w.poller()
		p.Wake, p.Interval = wake, time.Hour
		w.onWrite = func(context.Context, source.Batch[int]) error {
			w.add(1)
			wake <- struct{}{}
			w.onWrite = nil
			return nil
		}
		stop := start(t, p)
		synctest.Wait()
		require.NoError(t, stop())
		assert.Equal(t, seq(1, 2), w.written)
	})
}

func TestWakeDoesNotShortenABackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		wake := make(chan struct{}, 1)
		p := w.poller()
		p.Wake = wake
		var tries []time.Time
		w.onFetch = func(context.Context, source.Cursor, int) error {
			tries = append(tries, time.Now())
			return errOutage
		}
		stop := start(t, p)
		time.Sleep(time.Minute)
		synctest.Wait()
		n := len(tries)
		wake <- struct{}{}
		synctest.Wait()
		assert.Len(t, tries, n)
		require.NoError(t, stop())
	})
}

func TestClosedWakeDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		wake := make(chan struct{}, 1)
		close(wake)
		p := w.poller()
		p.Wake = wake
		stop := start(t, p)
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		assert.InDelta(t, 60, w.count("fetch"), 7)
	})
}

func hold(retry time.Duration) func(*source.Batch[int]) {
	since := time.Now()
	return func(b *source.Batch[int]) {
		b.Held = &source.Held{Since: since, Retry: retry, By: []string{"pid 7 (psql)", "gid x"}}
	}
}

func TestHeldRecordsAreFetchedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.answer = hold(0)
		at := polls(w)
		p := w.poller()
		stop := start(t, p)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		assert.Equal(t, poller.Held, p.Status().State)
		assert.Equal(t, []string{"pid 7 (psql)", "gid x"}, p.Status().Held.By)
		require.NoError(t, stop())
		ms := time.Millisecond
		assert.Equal(t, []time.Duration{10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, 1000 * ms, 1000 * ms}, gaps(*at))
		assert.Equal(t, seq(1, 5), w.written, "records that are not held back are delivered")
	})
}

func TestHeldWaitsWhatTheSourceSuggests(t *testing.T) {
	for suggested, want := range map[time.Duration]time.Duration{300 * time.Millisecond: 300 * time.Millisecond, time.Hour: time.Second, -time.Hour: 0} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(0)
			w.answer = hold(suggested)
			at := polls(w)
			stop := start(t, w.poller())
			time.Sleep(10 * time.Second)
			require.NoError(t, stop())
			if want == 0 {
				assert.Less(t, len(*at), 20, "a negative Retry is ignored")
				return
			}
			for _, g := range gaps(*at) {
				assert.Equal(t, want, g, "at most Interval")
			}
		})
	}
}

func TestHeldIsLoggedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		w.answer = hold(0)
		stop := start(t, w.poller())
		time.Sleep(50 * time.Second)
		assert.Empty(t, w.logged("records held back"), "short holds are normal")
		time.Sleep(24 * time.Hour)
		lines := w.logged("records held back")
		assert.InDelta(t, 12, len(lines), 3)
		assert.Contains(t, lines[0], `by="pid 7 (psql), gid x"`)
		w.mu.Lock()
		w.answer = nil
		w.mu.Unlock()
		time.Sleep(time.Minute)
		assert.Len(t, w.logged("records no longer held back"), 1)
		require.NoError(t, stop())
	})
}

func TestDrainWaitsForHeldRecords(t *testing.T) {
	for wait, want := range map[time.Duration]time.Duration{0: 30 * time.Second, time.Minute: time.Minute, -1: 0} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(5)
			w.answer = hold(0)
			p := w.poller()
			p.DrainWait = wait
			began := time.Now()
			err := p.Drain(t.Context())
			require.ErrorIs(t, err, poller.ErrHeld)
			assert.ErrorContains(t, err, "pid 7 (psql), gid x", "it names the holders")
			assert.Equal(t, want, time.Since(began))
			assert.Equal(t, seq(1, 5), w.written)
		})
	}
}

// Records are held back. Then delivery takes longer than DrainWait, and then records
// are held back again: DrainWait starts again.
func TestDrainWaitIsInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		w.answer = hold(0)
		w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return slow(ctx, time.Second) }
		time.AfterFunc(10*time.Second, func() { w.add(1000) })
		began := time.Now()
		require.ErrorIs(t, w.poller().Drain(t.Context()), poller.ErrHeld)
		assert.Equal(t, seq(1, 1000), w.written)
		assert.Greater(t, time.Since(began), 10*time.Second+100*time.Second+30*time.Second)
	})
}

func TestDrainContinuesWhenTheHoldEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.answer = hold(0)
		go func() {
			time.Sleep(20 * time.Second)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.answer = nil
		}()
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, seq(1, 5), w.written)
	})
}

// With many writers some record is always held back, each time by another holder.
// That is normal: it is not logged, and Drain does not fail.
func TestHeldByOneAfterAnother(t *testing.T) {
	always := func(asOf time.Duration) func(*source.Batch[int]) {
		return func(b *source.Batch[int]) {
			now := time.Now()
			b.Held = &source.Held{Since: now.Truncate(2 * time.Second), By: []string{"pid 7"}}
			if asOf != 0 {
				b.AsOf = now.Add(-asOf)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		w.answer = always(0)
		stop := start(t, w.poller())
		time.Sleep(time.Hour)
		assert.Empty(t, w.logged("records held back"))
		w.mu.Lock()
		w.answer = hold(0)
		w.mu.Unlock()
		time.Sleep(90 * time.Second)
		assert.Len(t, w.logged("records held back"), 1)
		w.mu.Lock()
		w.answer = always(0)
		w.mu.Unlock()
		time.Sleep(time.Hour)
		assert.Len(t, w.logged("records no longer held back"), 1, "the hold that was logged has ended")
		require.NoError(t, stop())
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.answer = always(3 * time.Second)
		began := time.Now()
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, seq(1, 5), w.written)
		assert.InDelta(t, 3.5, time.Since(began).Seconds(), 1, "every record that existed when Drain began is delivered")
	})
}
