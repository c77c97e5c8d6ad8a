// Package grace makes a context that outlasts another one.
package grace

import (
	"context"
	"sync"
	"time"
)

// Context returns a context that ends later than ctx, by the result of after, which is
// called when ctx has ended. The returned function ends it at once and releases its
// resources.
func Context(ctx context.Context, after func() time.Duration) (context.Context, func()) {
	graceCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
		case <-graceCtx.Done():
			return
		}
		select {
		case <-time.After(after()):
			cancel()
		case <-graceCtx.Done():
		}
	})
	return graceCtx, func() { cancel(); watch.Wait() }
}
