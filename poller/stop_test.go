package poller_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// slow sleeps for d or until ctx ends, like a call that honours its context.
func slow(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestRunReturnsNilWhenContextEnds(t *testing.T) {
	for name, change := range map[string]func(*world){
		"while idle":                 func(*world) {},
		"during a load":              func(w *world) { w.onLoad = func(ctx context.Context) error { return slow(ctx, time.Hour) } },
		"during the backoff of load": func(w *world) { w.onLoad = func(context.Context) error { return errOutage } },
		"during a fetch": func(w *world) {
			w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return slow(ctx, time.Hour) }
		},
		"during a fetch whose driver returns another error": func(w *world) {
			w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error {
				<-ctx.Done()
				return sqlState("42P01")
			}
		},
		"during the backoff of fetch": func(w *world) { w.onFetch = func(context.Context, source.Cursor, int) error { return errOutage } },
		"during the backoff of write": func(w *world) { w.onWrite = func(context.Context, source.Batch[int]) error { return errOutage } },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(5)
				change(w)
				p := w.poller()
				p.Deadline = 2 * time.Hour
				stop := start(t, p)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				before := time.Now()
				require.NoError(t, stop())
				assert.Equal(t, before, time.Now(), "at once")
				assert.Equal(t, poller.Stopped, p.Status().State)
			})
		})
	}
}

func TestWriteInProgressGetsGraceAndIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(50)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return slow(ctx, 20*time.Second) }
		stop := start(t, w.poller())
		time.Sleep(time.Second)
		require.NoError(t, stop())
		assert.Equal(t, seq(1, 10), w.written)
		assert.Equal(t, source.Cursor("10"), w.stored)
	})
}

func TestWriteBeyondGraceIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(50)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return slow(ctx, 50*time.Second) }
		p := w.poller()
		stop := start(t, p)
		time.Sleep(time.Second)
		before := time.Now()
		require.NoError(t, stop(), "nothing was written, so this is not an error")
		assert.Equal(t, 30*time.Second, time.Since(before))
		assert.Empty(t, w.stored)

		p.Grace = -1
		stop = start(t, p)
		time.Sleep(time.Second)
		before = time.Now()
		require.NoError(t, stop())
		assert.Equal(t, before, time.Now(), "a negative Grace means no grace")
	})
}

func TestSaveAfterAWriteIsRetriedWithinGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		breakStep(w, poller.OpSave, until(time.Minute+20*time.Second, errOutage))
		stop := start(t, w.poller())
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		assert.Equal(t, source.Cursor("5"), w.stored)
	})
}

func TestWriteWhoseSaveFailedIsAnErrorAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.onSave = func(context.Context, source.Cursor, source.Cursor) error { return errOutage }
		stop := start(t, w.poller())
		time.Sleep(time.Minute)
		before := time.Now()
		err := stop()
		var failed *poller.Error
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, errOutage)
		assert.Equal(t, poller.OpSave, failed.Op)
		assert.Equal(t, source.Cursor("5"), failed.To)
		assert.Equal(t, 30*time.Second, time.Since(before), "Grace was used up")
	})
}

// The attempt that the end of Grace cuts off says only that it was cut off.
func TestTheErrorAtTheEndOfGraceNamesTheCause(t *testing.T) {
	for name, c := range map[string]struct {
		fails time.Duration // after the first call; then it does not answer
		want  string
	}{
		"an outage":                    {time.Hour, ": connection refused"},
		"an outage, then a black hole": {65 * time.Second, ": connection refused"},
		"a black hole":                 {0, ": no answer before the stop (Grace ended): context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(5)
				outage := until(c.fails, errOutage)
				w.onSave = func(ctx context.Context, _, _ source.Cursor) error {
					if err := outage(); err != nil {
						return err
					}
					<-ctx.Done()
					return ctx.Err()
				}
				p := w.poller()
				p.Deadline = time.Hour
				stop := start(t, p)
				time.Sleep(time.Minute)
				err := stop()
				require.ErrorContains(t, err, "save from \"\" to \"5\"")
				assert.True(t, strings.HasSuffix(err.Error(), c.want), err)
				assert.True(t, strings.HasSuffix(p.Status().LastError, c.want), p.Status().LastError)
			})
		})
	}
}

func TestDrainCutShortIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.onFetch = func(context.Context, source.Cursor, int) error { return errOutage }
		cause := errors.New("shutdown")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		require.ErrorIs(t, w.poller().Drain(ctx), cause)
	})
}

func TestContextEndedBeforeRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newWorld(5)
	w.onLoad = func(ctx context.Context) error { return ctx.Err() }
	require.NoError(t, w.poller().Run(ctx))
	assert.Empty(t, w.written)
}

func TestErrorDuringStopIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error {
			time.Sleep(10 * time.Second)
			return poller.ErrConflict
		}
		stop := start(t, w.poller())
		time.Sleep(time.Second)
		require.ErrorIs(t, stop(), poller.ErrConflict, "a conflict is an error, even while stopping")
	})
}

func TestStoppingIsNotAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return slow(ctx, time.Hour) }
		p := w.poller()
		stop := start(t, p)
		synctest.Wait()
		require.NoError(t, stop())
		assert.Empty(t, p.Status().LastError)
	})
}

func TestWriteThatFailsWithinGraceIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.onWrite = func(context.Context, source.Batch[int]) error {
			time.Sleep(10 * time.Second)
			return errOutage
		}
		p := w.poller()
		p.Hooks.Backoff = func(i poller.BackoffInfo) { t.Errorf("%+v", i) }
		stop := start(t, p)
		time.Sleep(time.Second)
		require.NoError(t, stop())
		assert.Equal(t, 1, w.count("write"))
		assert.Empty(t, w.logged("failing"))
	})
}

func TestNoWriteBeginsAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(50) // the next batch is prefetched before the stop
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return slow(ctx, 2*time.Second) }
		stop := start(t, w.poller())
		time.Sleep(time.Second)
		require.NoError(t, stop())
		assert.Equal(t, []string{"load", "write -10", "save -10"}, w.steps())
	})
}

func TestDeadLetterInProgressGetsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(1), &letters{}
		w.reject(1)
		p := w.poller()
		p.DeadLetter = sink.Func[poller.Rejected[int]](func(ctx context.Context, b source.Batch[poller.Rejected[int]]) error {
			if err := slow(ctx, 20*time.Second); err != nil {
				return err
			}
			return l.Write(ctx, b)
		})
		stop := start(t, p)
		time.Sleep(time.Second)
		require.NoError(t, stop())
		assert.Equal(t, []int{1}, l.records())
		assert.Equal(t, source.Cursor("1"), w.stored)
	})
}
