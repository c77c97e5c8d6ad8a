package poller_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// turns is a lease that another replica has at first. Each turn decides about one
// call of Hold: it returns an error, or lets the pipeline be active until its context
// ends.
type turns struct {
	turns []func() (until context.Context, err error)
	calls atomic.Int64
}

func (l *turns) Hold(ctx context.Context, active func(context.Context) error) error {
	l.calls.Add(1)
	if len(l.turns) == 0 {
		return active(ctx)
	}
	turn := l.turns[0]
	l.turns = l.turns[1:]
	until, err := turn()
	if err != nil {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return err
	}
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	defer context.AfterFunc(until, func() { lose(fmt.Errorf("%w: no answer", poller.ErrLeaseLost)) })()
	return active(held)
}

func (l *turns) add(n int, err error) *turns {
	for range n {
		l.turns = append(l.turns, func() (context.Context, error) { return context.Background(), err })
	}
	return l
}

// activeFor adds a turn in which the lease is lost after d.
func (l *turns) activeFor(t *testing.T, d time.Duration) *turns {
	l.turns = append(l.turns, func() (context.Context, error) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx, nil
	})
	return l
}

var errOther = fmt.Errorf("lease: %w: web-2", poller.ErrStandby)

func TestAReplicaStandsByUntilItHasTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		p.Lease = new(turns).add(3600, errOther)
		stop := start(t, p)
		time.Sleep(time.Second / 2)
		assert.Equal(t, poller.Working, p.Status().State, "nobody knows yet whether another replica is active")
		assert.Equal(t, poller.OpLease, p.Status().Op)
		time.Sleep(time.Minute + time.Second/2)
		s := p.Status()
		assert.Equal(t, poller.Standby, s.State)
		assert.Equal(t, "standby", s.Summary(time.Now()))
		assert.Equal(t, time.Minute, time.Since(s.Since), "since the first answer")
		assert.Zero(t, s.Due)
		assert.False(t, s.Overdue)
		assert.Zero(t, w.count(""), "a standby makes no step")
		time.Sleep(2 * time.Hour)
		assert.Equal(t, poller.Idle, p.Status().State)
		require.Len(t, w.logged("standing by"), 1)
		assert.Contains(t, w.logged("standing by")[0], `level=INFO msg="standing by" pipeline=test reason="lease: another replica is active: web-2"`)
		require.NoError(t, stop())
		assert.Equal(t, seq(1, 5), w.written)
		assert.Equal(t, poller.Stopped, p.Status().State)
		assert.True(t, p.Status().Done)
	})
}

func TestAStandbyEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		p.Lease = new(turns).add(3600, errOther)
		stop := start(t, p)
		time.Sleep(time.Minute + time.Second/2)
		before := time.Now()
		require.NoError(t, stop())
		assert.Equal(t, before, time.Now())

		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errOutage)
		defer cancel()
		require.ErrorIs(t, p.Drain(ctx), errOutage, "not drained")
		assert.Empty(t, w.written)
	})
}

func TestDrainWithALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(25)
		p := w.poller()
		p.Lease = new(turns).add(10, errOther)
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, seq(1, 25), w.written)
	})
}

// A replica that loses the lease stands by at once, without Grace, and goes on from
// the checkpoint when it gets the lease again.
func TestALostLease(t *testing.T) {
	for name, change := range map[string]func(w *world, p *poller.Poller[int]){
		"while idle":    func(*world, *poller.Poller[int]) {},
		"during a load": func(w *world, _ *poller.Poller[int]) { w.onLoad = first(slowly) },
		"during a fetch": func(w *world, _ *poller.Poller[int]) {
			load := first(slowly)
			w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return load(ctx) }
		},
		"during a write": func(w *world, _ *poller.Poller[int]) {
			load := first(slowly)
			w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return load(ctx) }
		},
		"during a save": func(w *world, _ *poller.Poller[int]) { // so the batch is written twice
			load := first(slowly)
			w.onSave = func(ctx context.Context, _, _ source.Cursor) error { return load(ctx) }
		},
		"during an outage of the store": func(w *world, _ *poller.Poller[int]) {
			down := until(20*time.Second, errOutage)
			w.onSave = func(context.Context, source.Cursor, source.Cursor) error { return down() }
		},
		"with a conflict": func(w *world, _ *poller.Poller[int]) {
			load := first(slowly)
			w.onWrite = func(ctx context.Context, _ source.Batch[int]) error {
				if load(ctx) != nil {
					return poller.ErrConflict
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(5)
				p := w.poller()
				p.Deadline = time.Hour
				change(w, p)
				p.Lease = new(turns).activeFor(t, 10*time.Second).add(60, errOther)
				stop := start(t, p)
				time.Sleep(12 * time.Second)
				s := p.Status()
				assert.Equal(t, poller.Standby, s.State)
				assert.Equal(t, time.Second, time.Since(s.Since))
				assert.Equal(t, "standby", s.Summary(time.Now()))
				assert.Zero(t, s.Started)
				time.Sleep(5 * time.Minute)
				assert.Len(t, w.logged("lease lost"), 1)
				assert.Contains(t, w.logged("lease lost")[0], `level=WARN msg="lease lost" pipeline=test cursor=`)
				assert.Contains(t, w.logged("lease lost")[0], ` err="the lease is lost: no answer"`)
				assert.Len(t, w.logged("standing by"), 1)
				require.NoError(t, stop())
				assert.Equal(t, source.Cursor("5"), w.stored)
				assert.Equal(t, seq(1, 5), w.written[len(w.written)-5:])
			})
		})
	}
}

func slowly(ctx context.Context) error { return slow(ctx, time.Hour) }

// first returns a hook that calls f the first time and then returns nil.
func first(f func(context.Context) error) func(context.Context) error {
	called := false
	return func(ctx context.Context) error {
		if called {
			return nil
		}
		called = true
		return f(ctx)
	}
}

// Other ends of the active replica end Run, as without a Lease.
func TestAnErrorOfTheActiveReplicaEndsRun(t *testing.T) {
	w := newWorld(5)
	w.onWrite = func(context.Context, source.Batch[int]) error { return poller.ErrConflict }
	p := w.poller()
	p.Lease = &turns{}
	require.ErrorIs(t, p.Run(t.Context()), poller.ErrConflict)
	assert.Equal(t, poller.Stopped, p.Status().State)
}

// An outage of the lease's store is logged and shown like one of a step, and a
// replica asks every second.
func TestALeaseThatCannotBeAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		l := new(turns).add(1800, errOutage).add(60, errOther)
		p.Lease = l
		var backoffs int
		p.Hooks.Backoff = func(i poller.BackoffInfo) {
			backoffs++
			assert.Equal(t, poller.OpLease, i.Op)
			assert.Equal(t, backoffs, i.Attempt)
			assert.LessOrEqual(t, i.Wait, time.Second)
		}
		stop := start(t, p)
		time.Sleep(10 * time.Minute)
		assert.Contains(t, p.Status().Summary(time.Now()), "failing, ")
		assert.Greater(t, l.calls.Load(), int64(10*60/2))
		time.Sleep(3 * time.Hour)
		assert.Equal(t, "up to date", p.Status().Summary(time.Now()))
		assert.Contains(t, w.logged("failing, will retry")[0], `op=lease err="connection refused" attempts=1`)
		require.Len(t, w.logged("recovered"), 1, "when another replica was seen to be active")
		assert.Contains(t, w.logged("recovered")[0], "op=lease")
		require.NoError(t, stop())

		p.Hooks = poller.Hooks{}
		p.Lease = new(turns).add(1, sqlState("42P01"))
		require.ErrorContains(t, p.Run(t.Context()), "poller: test: lease: ")
		p.Lease = new(turns).add(1, errOther).add(1, sqlState("42P01"))
		stop = start(t, p)
		time.Sleep(time.Minute)
		assert.Equal(t, "up to date", p.Status().Summary(time.Now()), "an outage, because the lease was answered before")
		require.NoError(t, stop())
		p.Lease = new(turns).add(1, retry.Permanent(errors.New("TTL is negative")))
		require.ErrorContains(t, p.Run(t.Context()), "TTL is negative")
	})
}
