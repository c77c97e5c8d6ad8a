package pglog

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

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
