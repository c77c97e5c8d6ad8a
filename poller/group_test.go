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
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// One pipeline that needs a person does not stop the others, and goes on by itself
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
