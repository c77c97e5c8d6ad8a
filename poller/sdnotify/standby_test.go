package sdnotify

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
)

// A standby is ready and fed, and so is a pipeline that a Group will restart.
func TestAStandbyAndARestartAreFed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		standby, failing := newPipeline("standby"), newPipeline("failing")
		standby.Lease = taken{}
		failing.Fakes.Source.Fail(retry.Permanent(errDown))
		ctx, cancel := context.WithCancel(t.Context())
		said, stop := listen(ctx, 20*time.Second, standby.Status, failing.Status)
		ended := make(chan error)
		go func() {
			ended <- poller.Group{Pipelines: []poller.Pipeline{standby, failing}, Logger: failing.Logger}.Run(ctx)
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Len(t, said.at("READY=1"), 1)
		assert.InDelta(t, 360, len(said.at("WATCHDOG=1")), 10)
		assert.Contains(t, words([]func() poller.Status{standby.Status, failing.Status}, time.Now()), "failing: failed, will restart, 0 rows; standby: standby, 0 rows")
		cancel()
		assert.ErrorIs(t, <-ended, errDown)
		stop()
	})
}

// taken is a lease that another replica has.
type taken struct{}

func (taken) Hold(ctx context.Context, _ func(context.Context) error) error {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return poller.ErrStandby
}
