package grace_test

import (
	"context"
	"errors"
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
		assert.Equal(t, grace.ErrEnded, context.Cause(graceCtx))
		end()

		lost := errors.New("lost")
		ctx, stop := context.WithCancelCause(t.Context())
		graceCtx, end = grace.Context(ctx, func() time.Duration { return 0 })
		stop(lost)
		synctest.Wait()
		assert.Equal(t, lost, context.Cause(graceCtx))
		end()

		graceCtx, end = grace.Context(t.Context(), func() time.Duration { panic("ctx has not ended") })
		assert.NoError(t, graceCtx.Err())
		end() // the bubble ends only when the goroutine has ended
		assert.Error(t, graceCtx.Err())
	})
}
