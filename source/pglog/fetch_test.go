package pglog

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// A result is closed some time after its first row, but the server may take longer to decode it.
func TestStreamExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancelCause(t.Context())
		st := &stream{ctx: ctx, end: end}
		time.Sleep(2 * streamLimit)
		assert.NoError(t, ctx.Err())
		defer st.limitTime().Stop()
		time.Sleep(streamLimit - time.Second)
		synctest.Wait()
		assert.False(t, st.expired())
		time.Sleep(time.Second)
		synctest.Wait()
		assert.True(t, st.expired())
	})
}

// A Fetch says that the server is busy before its own deadline.
func TestWaitUntil(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		assert.Equal(t, patience, time.Until(waitUntil(context.Background())))
		for deadline, wait := range map[time.Duration]time.Duration{time.Second: time.Second / 2, time.Minute: patience} {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			assert.Equal(t, wait, time.Until(waitUntil(ctx)))
			cancel()
		}
	})
}
