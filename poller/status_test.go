package poller_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

func TestStatusKnowsWhenItsStateShouldEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := newWorld(5)
		breakStep(w, poller.OpLoad, until(time.Minute, errOutage))
		p := w.poller()
		p.Interval = time.Hour
		stop := start(t, p)
		synctest.Wait()
		s := p.Status()
		assert.Equal(t, poller.Backoff, s.State)
		assert.True(t, s.Started.IsZero(), "the cursor is not loaded yet")
		assert.True(t, s.Due.After(s.Since))

		time.Sleep(3 * time.Minute)
		s = p.Status()
		assert.Equal(t, poller.Idle, s.State)
		assert.WithinDuration(t, began.Add(90*time.Second), s.Started, 31*time.Second)
		assert.Equal(t, s.Started, s.LastSave, "time stands still during the steps")
		assert.InDelta(t, time.Hour, s.Due.Sub(s.Since), float64(6*time.Minute))
		assert.Equal(t, time.Hour, s.Interval)

		require.NoError(t, stop())
		s = p.Status()
		assert.True(t, s.Due.IsZero() && s.Started.IsZero())
		assert.False(t, s.LastSave.IsZero())
	})
}

// A hook has no timeout: one that does not return stops the loop.
func TestLoopThatHangsInAHookIsOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		p.Deadline = 10 * time.Second
		release := make(chan struct{})
		p.Hooks.Poll = func(poller.PollInfo) { <-release }
		stop := start(t, p)
		time.Sleep(19 * time.Second)
		assert.False(t, p.Status().Overdue)
		time.Sleep(2 * time.Second)
		s := p.Status()
		assert.True(t, s.Overdue)
		assert.Equal(t, "stuck: no answer for 21s", s.Summary(time.Now()))
		close(release)
		synctest.Wait()
		assert.False(t, p.Status().Overdue)
		require.NoError(t, stop())
		time.Sleep(time.Hour)
		assert.False(t, p.Status().Overdue, "stopped is not stuck")
	})
}

// A step that recovers does not hide another that still fails. After a write that
// timed out the cursor is loaded, and here that fails every other time.
func TestFailingUntilAllStepsSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		healthy := time.Now().Add(time.Hour)
		breakStep(w, poller.OpLoad, everyOther())
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error {
			if time.Now().After(healthy) {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		p := w.poller()
		p.Deadline = 10 * time.Second
		stop := start(t, p)
		time.Sleep(15 * time.Second)
		for time.Now().Before(healthy) {
			require.NotZero(t, p.Status().Attempts, "in state %s of %s", p.Status().State, p.Status().Op)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		assert.Zero(t, p.Status().Attempts)
		require.NoError(t, stop())
	})
}

// While a backlog is copied, batches have no AsOf. The last known AsOf stays true.
func TestLagGrowsDuringABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		_, known := p.Status().Lag(time.Now())
		assert.False(t, known)
		asOf := time.Now()
		w.answer = func(b *source.Batch[int]) { b.AsOf = asOf }
		stop := start(t, p)
		synctest.Wait()
		w.mu.Lock()
		w.answer = func(b *source.Batch[int]) { b.AsOf = time.Time{} }
		w.mu.Unlock()
		w.add(5)
		time.Sleep(time.Hour)
		lag, known := p.Status().Lag(time.Now())
		assert.True(t, known)
		assert.Equal(t, time.Hour, lag)
		lag, _ = p.Status().Lag(asOf.Add(-time.Minute))
		assert.Zero(t, lag, "not negative if clocks differ")
		require.NoError(t, stop())

		stop = start(t, p)
		synctest.Wait()
		_, known = p.Status().Lag(time.Now())
		assert.False(t, known, "the cursor may have been rewound between two runs")
		require.NoError(t, stop())
	})
}

func TestSummary(t *testing.T) {
	now := time.Now()
	running := poller.Status{State: poller.Idle, Started: now}
	with := func(change func(*poller.Status)) poller.Status {
		s := running
		change(&s)
		return s
	}
	for want, s := range map[string]poller.Status{
		"stopped":               {State: poller.Stopped, Attempts: 3},
		"done":                  {State: poller.Stopped, Attempts: 3, Done: true},
		"starting":              {State: poller.Working, Op: poller.OpLoad},
		"up to date":            running,
		"copying":               with(func(s *poller.Status) { s.State, s.Held = poller.Working, &source.Held{} }),
		"failing, trying again": with(func(s *poller.Status) { s.State, s.Attempts = poller.Backoff, 1 }),
		"failing, 3 attempts, trying again": with(func(s *poller.Status) {
			s.State, s.Attempts = poller.Working, 3
		}),
		"held back for 1m30s by pid 7, pid 9": with(func(s *poller.Status) {
			s.State, s.Held = poller.Held, &source.Held{Since: now.Add(-90 * time.Second), By: []string{"pid 7", "pid 9"}}
		}),
		"held back for 0s by an unknown holder": with(func(s *poller.Status) {
			s.State, s.Held = poller.Held, &source.Held{Since: now.Add(time.Second)}
		}),
		"stuck: no answer for 1h0m0s": with(func(s *poller.Status) {
			s.Overdue, s.Since = true, now.Add(-time.Hour)
		}),
	} {
		assert.Equal(t, want, s.Summary(now))
	}
}

func TestDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		assert.False(t, p.Status().Done, "before the first run")
		require.NoError(t, p.Drain(t.Context()))
		assert.True(t, p.Status().Done, "all records are delivered")
		stop := start(t, p)
		synctest.Wait()
		assert.False(t, p.Status().Done, "during a run")
		require.NoError(t, stop())
		assert.True(t, p.Status().Done, "the context has ended")
		breakStep(w, poller.OpFetch, until(time.Hour, retry.Permanent(errOutage)))
		require.Error(t, p.Run(t.Context()))
		assert.False(t, p.Status().Done, "after an error")

		p = newWorld(5).poller()
		require.NoError(t, p.Drain(t.Context()))
		p.Sink = nil
		require.Error(t, p.Run(t.Context()))
		assert.False(t, p.Status().Done, "after an invalid configuration")
	})
}

// A run starts without Held: the source has not yet reported it in this run.
func TestASecondRunIsNotHeldBackByTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		w.answer = hold(0)
		p := w.poller()
		stop := start(t, p)
		synctest.Wait()
		require.NotNil(t, p.Status().Held)
		require.NoError(t, stop())
		breakStep(w, poller.OpFetch, until(time.Hour, errOutage))
		stop = start(t, p)
		time.Sleep(30 * time.Minute)
		assert.Nil(t, p.Status().Held)
		require.NoError(t, stop())
	})
}

// A prefetch can hang while the loop retries a write.
func TestSummaryOfAStuckPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(20)
		release := make(chan struct{})
		w.onFetch = func(_ context.Context, after source.Cursor, _ int) error {
			if after != "" {
				<-release
			}
			return nil
		}
		breakStep(w, poller.OpWrite, until(time.Hour, errOutage))
		p := w.poller()
		stop := start(t, p)
		time.Sleep(30 * time.Minute)
		s := p.Status()
		assert.Equal(t, "stuck: no answer for 30m0s", s.Summary(time.Now()))
		assert.Equal(t, poller.Working, s.State)
		assert.Equal(t, poller.OpFetch, s.Op)
		close(release)
		synctest.Wait()
		assert.Regexp(t, `^failing, \d+ attempts, trying again$`, p.Status().Summary(time.Now()))
		require.NoError(t, stop())
	})
}

// Guarantee, Position and Pending of the last batch are in the Status.
func TestStatusShowsTheGuarantee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		assert.Nil(t, p.Status().Guarantee)
		promise := &source.Guarantee{Name: "lock-fence", Text: "every row is read"}
		w.answer = func(b *source.Batch[int]) { b.Guarantee, b.Position, b.Pending = promise, "id 5", 7 }
		stop := start(t, p)
		synctest.Wait()
		s := p.Status()
		assert.Same(t, promise, s.Guarantee)
		assert.Equal(t, "id 5", s.Position)
		assert.EqualValues(t, 7, s.Pending)
		require.NoError(t, stop())

		w.onFetch = func(context.Context, source.Cursor, int) error { return errOutage }
		again := start(t, p)
		synctest.Wait()
		assert.Equal(t, "id 5", p.Status().Position, "the same cursor was loaded")
		require.NoError(t, again())
		w.stored = "1"
		again = start(t, p)
		synctest.Wait()
		assert.Empty(t, p.Status().Position, "another cursor was loaded")
		require.NoError(t, again())
	})
}
