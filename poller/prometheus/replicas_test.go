package prometheus_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// lease is held by another replica until it is free.
type lease struct{ free atomic.Bool }

func (l *lease) Hold(ctx context.Context, active func(context.Context) error) error {
	if l.free.Load() {
		return active(ctx)
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return poller.ErrStandby
}

// A standby has its state and no objective for its lag, until it is active.
func TestStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		held := &lease{}
		p.Lease = held
		stop := start(t, p)
		time.Sleep(90*time.Second + time.Millisecond)
		synctest.Wait()
		all := w.gather(t)
		assert.Equal(t, 1.0, all["state{state=standby}"])
		assert.NotContains(t, all, "lag_objective_seconds")
		assert.Zero(t, all["errors_total{class=transient,stage=lease}"], "another replica's lease is no error")
		held.free.Store(true)
		time.Sleep(2 * time.Second)
		all = w.gather(t)
		assert.Zero(t, all["state{state=standby}"])
		assert.Equal(t, 5.0, all["rows_written_total"])
		assert.Contains(t, all, "lag_objective_seconds")
		assert.NoError(t, stop())
	})
}

// A pipeline that a Group will restart has its state, and still the objective for its lag.
func TestRestarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		w.src.FailFunc(func(fault.Call, fault.Point) error { return retry.Permanent(errOutage) })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- poller.Group{Pipelines: []poller.Pipeline{p}, Logger: p.Logger}.Run(ctx)
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		all := w.gather(t)
		assert.Equal(t, 1.0, all["state{state=restarting}"])
		assert.Contains(t, all, "lag_objective_seconds")
		assert.Greater(t, all["errors_total{class=fatal,stage=fetch}"], 3.0)
		w.src.FailFunc(nil)
		time.Sleep(5 * time.Minute)
		all = w.gather(t)
		assert.Zero(t, all["state{state=restarting}"])
		assert.Equal(t, 5.0, all["rows_written_total"])
		cancel()
		assert.NoError(t, <-ended)
	})
}
