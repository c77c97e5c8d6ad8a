// Package grace makes a context that outlasts another one.
package grace

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrEnded is the cause with which a context of [Context] ends.
var ErrEnded = errors.New("Grace ended")

// Context returns a context that ends later than ctx, by the result of after, which is
// called when ctx has ended. Its cause is ErrEnded, or the cause of ctx if it does not
// end later. The returned function ends it at once and releases its resources.
func Context(ctx context.Context, after func() time.Duration) (context.Context, func()) {
	graceCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
		case <-graceCtx.Done():
			return
		}
		d, cause := after(), ErrEnded
		if d <= 0 {
			cause = context.Cause(ctx)
		}
		select {
		case <-time.After(d):
			cancel(cause)
		case <-graceCtx.Done():
		}
	})
	return graceCtx, func() { cancel(nil); watch.Wait() }
}
