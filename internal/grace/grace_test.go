package grace_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/internal/grace"
)

func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := time.Duration(0)
		graceCtx, end := grace.Context(ctx, func() time.Duration { return d })
		d = time.Minute // decided when ctx ends
		cancel()
		time.Sleep(time.Minute - time.Nanosecond)
		assert.NoError(t, graceCtx.Err())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Error(t, graceCtx.Err())
		end()

		graceCtx, end = grace.Context(t.Context(), func() time.Duration { panic("ctx has not ended") })
		assert.NoError(t, graceCtx.Err())
		end() // the bubble ends only when the goroutine has ended
		assert.Error(t, graceCtx.Err())
	})
}
