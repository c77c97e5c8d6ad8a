package poller_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// A prefetch that is thrown away is ended first, so that nothing waits for it.
func TestADroppedPrefetchIsNotWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		err    error
	}{
		"in a batch that is stored in parts": {func(w *world) {
			w.onWrite = func(_ context.Context, b source.Batch[int]) error {
				if n := len(b.Records); n > 1 {
					return sink.Stored(n/2, nil)
				}
				return nil
			}
		}, nil},
		"after a conflict": {func(w *world) {
			w.onSave = func(context.Context, source.Cursor, source.Cursor) error { return poller.ErrConflict }
		}, poller.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(30)
				load := first(slowly)
				w.onFetch = func(ctx context.Context, after source.Cursor, _ int) error {
					if after == "10" {
						return load(ctx)
					}
					return nil
				}
				c.change(w)
				before := time.Now()
				require.ErrorIs(t, w.poller().Drain(t.Context()), c.err)
				assert.Zero(t, time.Since(before))
				assert.Empty(t, w.logged("failing"))
			})
		})
	}
}

// A prefetch that ignores that is shown as the step that is waited for.
func TestADroppedPrefetchThatGoesOnIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(30)
		w.onFetch = func(_ context.Context, after source.Cursor, _ int) error {
			if after == "10" {
				time.Sleep(time.Minute)
			}
			return nil
		}
		w.onSave = func(context.Context, source.Cursor, source.Cursor) error { return poller.ErrConflict }
		pl := w.poller()
		stop := start(t, pl)
		time.Sleep(50 * time.Second)
		assert.Equal(t, "waiting for an answer for 50s (fetch)", pl.Status().Summary(time.Now()))
		require.ErrorIs(t, stop(), poller.ErrConflict)
	})
}
