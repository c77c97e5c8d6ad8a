package poller_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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

// One pipeline that needs a person does not stop the others. It continues without help
// once the person has acted.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fixed atomic.Bool
		bad, good := newWorld(10), newWorld(10)
		bad.onWrite = func(_ context.Context, b source.Batch[int]) error {
			if b.Records[0] == 4 && !fixed.Load() {
				return sink.Reject(errors.New("poison"))
			}
			return nil
		}
		pb, pg := bad.poller(), good.poller()
		pb.BatchSize = 1
		pb.Name, pg.Name = "bad", "good"
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- poller.Group{Pipelines: []poller.Pipeline{pb, pg}, Logger: pb.Logger}.Run(ctx)
		}()
		for range 4 * 60 {
			time.Sleep(time.Minute)
			good.add(1)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, source.Cursor("3"), bad.stored)
		assert.Equal(t, source.Cursor("250"), good.stored)
		status := pb.Status()
		assert.Equal(t, poller.Restarting, status.State, "alive, so that nothing restarts the process")
		assert.Equal(t, "failed, will restart", status.Summary(time.Now()))
		assert.Contains(t, status.LastError, "poison")
		assert.False(t, status.Overdue)
		assert.Greater(t, status.Due, time.Now(), "when it will be started")
		assert.LessOrEqual(t, status.Due.Sub(status.Since), 5*time.Minute)
		restarts := len(bad.logged("will restart"))
		assert.Greater(t, restarts, 4*60/5, "at most five minutes apart")
		assert.Less(t, restarts, 4*60)
		fixed.Store(true)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		assert.Equal(t, source.Cursor("10"), bad.stored)
		stop()
		require.NoError(t, <-ended)
	})
}

// A pipeline that waits for its restart when the group is told to stop is stopped, and
// the group returns its error.
func TestAGroupStopsDuringARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.onFetch = func(context.Context, source.Cursor, int) error { return retry.Permanent(errOutage) }
		p := w.poller()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- poller.Group{Pipelines: []poller.Pipeline{p}, Logger: p.Logger}.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, poller.Restarting, p.Status().State)
		before := time.Now()
		stop()
		require.ErrorIs(t, <-ended, errOutage)
		assert.Equal(t, before, time.Now(), "at once")
		assert.Equal(t, poller.Stopped, p.Status().State)
		time.Sleep(time.Hour)
		assert.False(t, p.Status().Overdue)
	})
}

// A Poller that already runs, here because it is listed twice, is not started a second
// time, and what another Group does to its Status does not start it either.
func TestAGroupNeverRunsAPollerTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		var mu sync.Mutex
		writes, most := 0, 0
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error {
			mu.Lock()
			writes++
			most = max(most, writes)
			mu.Unlock()
			defer func() {
				mu.Lock()
				writes--
				mu.Unlock()
			}()
			return slow(ctx, 20*time.Second)
		}
		g := poller.Group{Pipelines: []poller.Pipeline{p, p}, Logger: p.Logger}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		time.Sleep(30 * time.Minute)
		assert.Equal(t, poller.Idle, p.Status().State)
		require.ErrorIs(t, p.Run(ctx), poller.ErrRunning)
		require.Len(t, w.logged("will not restart"), 1)
		assert.Contains(t, w.logged("will not restart")[0], `level=ERROR msg="will not restart" pipeline=test err="poller: test: already running"`)
		require.ErrorIs(t, <-ended, poller.ErrRunning)
		assert.Equal(t, 1, most)
		assert.Equal(t, seq(1, 5), w.written)
		assert.Empty(t, w.logged("will restart"))
	})
}

// What no restart can change is said once, in the log, in the Status and by Run, and
// the other pipelines go on.
func TestAGroupDoesNotRestartAMisconfiguredPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := newWorld(5), newWorld(5)
		pb, pg := bad.poller(), good.poller()
		pb.BatchSize = -1
		pg.Name = "other"
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := poller.Group{Pipelines: []poller.Pipeline{pb, pg}, Logger: pb.Logger}.Run(ctx)
		require.ErrorContains(t, err, "BatchSize is negative")
		assert.Equal(t, seq(1, 5), good.written)
		assert.Equal(t, poller.Stopped, pb.Status().State)
		assert.Contains(t, pb.Status().LastError, "BatchSize is negative")
		assert.False(t, pb.Status().Done)
		assert.Empty(t, bad.logged("will restart"))
		for _, line := range []string{"stopped", "will not restart"} {
			require.Len(t, bad.logged(line), 1)
			assert.Contains(t, bad.logged(line)[0], "BatchSize is negative")
		}
	})
}

func TestGroupEndsWithItsPipelines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newWorld(5), newWorld(5)
		pa, pb := a.poller(), b.poller()
		pb.Name = "other"
		finite := func(w *world) {
			w.onFetch = func(_ context.Context, after source.Cursor, _ int) error {
				if position(after) == 5 {
					return source.ErrEnd
				}
				return nil
			}
		}
		finite(a)
		finite(b)
		require.NoError(t, poller.Group{Pipelines: []poller.Pipeline{pa, pb}}.Run(t.Context()))
		assert.Equal(t, seq(1, 5), a.written)
		assert.Equal(t, seq(1, 5), b.written)

		b.stored = ""
		b.onLoad = func(context.Context) error { return retry.Permanent(errors.New("no")) }
		err := poller.Group{Pipelines: []poller.Pipeline{pa, pb}, Restart: retry.Policy{MaxAttempts: 3}, Logger: pb.Logger}.Run(t.Context())
		require.ErrorContains(t, err, "poller: other: load: no")
		assert.Equal(t, 4, b.count("load"), "one run that ended, three that failed")
		assert.ErrorContains(t, poller.Group{Restart: retry.Policy{Base: -1}}.Run(t.Context()), "Base")
	})
}

func ExampleGroup() {
	var g poller.Group
	for _, name := range []string{"customers", "orders"} {
		w := newWorld(3)
		p := w.poller()
		p.Name = name
		g.Pipelines = append(g.Pipelines, p)
		p.Hooks.Poll = func(i poller.PollInfo) {
			if i.Records > 0 && i.Pipeline == "orders" {
				fmt.Println(i.Pipeline, i.Records)
			}
		}
		w.onFetch = func(_ context.Context, after source.Cursor, _ int) error {
			if after != "" {
				return source.ErrEnd
			}
			return nil
		}
	}
	fmt.Println(g.Run(context.Background()))
	// Output:
	// orders 3
	// <nil>
}
