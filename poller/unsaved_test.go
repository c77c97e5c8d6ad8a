package poller_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// A batch that is stored in one write is not stored again either if its cursor could
// not be saved, whatever ended the run. A letter is not written again.
func TestABatchThatIsStoredInOneWriteAndNotSaved(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, pl *poller.Poller[int], w *world)
		bad    bool
	}{
		"no right to save": {func(_ *testing.T, _ *poller.Poller[int], w *world) {
			w.onSave = failing(time.Hour, sqlState("42501"))
		}, false},
		"the policy gives up": {func(t *testing.T, pl *poller.Poller[int], w *world) {
			pl.Retry.MaxAttempts, w.onSave = 2, failing(time.Hour, errOutage)
		}, false},
		"the lease is lost": {func(t *testing.T, pl *poller.Poller[int], w *world) {
			pl.Lease, w.onSave = new(turns).activeFor(t, time.Minute), failing(2*time.Minute, errOutage)
		}, false},
		"a rejected record": {func(t *testing.T, pl *poller.Poller[int], w *world) {
			w.onSave = failing(time.Hour, sqlState("42501"))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := newWorld(1), &letters{}
				if c.bad {
					w.reject(1)
				}
				pl := w.poller()
				pl.DeadLetter = l
				c.change(t, pl, w)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
				defer cancel()
				require.NoError(t, poller.Group{Pipelines: []poller.Pipeline{pl}, Logger: pl.Logger}.Run(ctx))
				assert.Equal(t, []int{1}, append(l.records(), w.written...))
				assert.Equal(t, source.Cursor("1"), w.stored)
			})
		})
	}
}

// failing returns a hook that fails until d has passed since its first call.
func failing(d time.Duration, err error) func(context.Context, source.Cursor, source.Cursor) error {
	fails := until(d, err)
	return func(context.Context, source.Cursor, source.Cursor) error { return fails() }
}

// A rewind is obeyed while a batch is in memory, also one to where the cursor is.
func TestARewindDropsTheBatchInMemory(t *testing.T) {
	for _, to := range []source.Cursor{"", "5"} {
		synctest.Test(t, func(t *testing.T) {
			var f pollertest.Fakes[int]
			f.Source.Append(seq(1, 10)...)
			refused := true
			p := &posts{fail: func(record int) error {
				if record == 8 && refused {
					return sink.Reject(errors.New("422"))
				}
				return nil
			}}
			pl := f.Poller("test")
			pl.Sink, pl.DeadLetter, pl.BatchSize = sink.Each(1, p.post), nil, 5
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			time.AfterFunc(10*time.Minute, func() {
				if at := f.Checkpoint.History(); to != "" {
					to = at[len(at)-1]
				}
				f.Checkpoint.Rewind(to)
				p.mu.Lock()
				defer p.mu.Unlock()
				p.stored, refused = nil, false
			})
			require.NoError(t, poller.Group{Pipelines: []poller.Pipeline{pl}, Logger: pl.Logger}.Run(ctx))
			first := 1
			if to != "" {
				first = 6
			}
			assert.Equal(t, seq(first, 10), p.stored)
		})
	}
}

// Another replica may have been active although this one was never told so.
func TestALostLeaseDropsTheBatchIfTheCursorWasMovedAndBack(t *testing.T) {
	for moved, want := range map[bool]int{false: 100, true: 170} {
		synctest.Test(t, func(t *testing.T) {
			p, checkpoint := &posts{takes: 100 * time.Millisecond}, &pollertest.Checkpointer{}
			pl, _ := p.poller(100, 1)
			pl.Checkpointer, pl.Lease = checkpoint, new(turns).activeFor(t, 7050*time.Millisecond)
			time.AfterFunc(6*time.Second, func() {
				if other := checkpoint.Open(); moved {
					_, err := other.Load(t.Context())
					require.NoError(t, err)
					require.NoError(t, other.Save(t.Context(), "", "100"))
					require.NoError(t, other.Save(t.Context(), "100", ""))
				}
			})
			require.NoError(t, pl.Drain(t.Context()))
			assert.Len(t, p.stored, want)
		})
	}
}

// A stop while the only letter of a batch is written saves the cursor within Grace, so
// that the letter is not written again. If that fails, the Poller remembers the letter.
func TestALetterIsNotWrittenAgain(t *testing.T) {
	reject := func(_ context.Context, record int) error {
		if record == 1 {
			return sink.Reject(errors.New("422"))
		}
		return nil
	}
	for name, c := range map[string]struct {
		change func(pl *poller.Poller[int], w *world)
		to     source.Cursor // after the stop
	}{
		"of a record that the source cannot make": {func(pl *poller.Poller[int], w *world) { pl.Source = w.bad(1) }, "1"},
		"of a record that the sink rejects":       {func(_ *poller.Poller[int], w *world) { w.reject(1) }, "1"},
		"of a record that the sink names":         {func(pl *poller.Poller[int], _ *world) { pl.Sink = sink.Each(1, reject) }, "3"},
	} {
		for fails, stop := range map[bool]error{false: nil, true: errOutage} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, l := newWorld(3), &letters{}
					ctx, cancel := context.WithCancel(t.Context())
					l.fail = func() error { cancel(); return nil }
					pl := w.poller()
					pl.BatchSize, pl.DeadLetter = 3, l
					c.change(pl, w)
					want := c.to
					if fails {
						w.onSave, want = failing(time.Hour, errOutage), ""
					}
					require.ErrorIs(t, pl.Run(ctx), stop)
					assert.Equal(t, want, w.stored)
					time.Sleep(time.Hour)
					require.NoError(t, pl.Drain(t.Context()))
					assert.Len(t, l.got, 1)
					assert.Equal(t, source.Cursor("3"), w.stored)
				})
			})
		}
	}
}

// A stop before a batch in memory goes on is an error that says why, whatever the run
// waits for. Nothing says that Grace ended unless it did.
func TestAStopWithABatchInMemory(t *testing.T) {
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, change := range map[string]func(pl *poller.Poller[int], w *world){
		"while the cursor is checked": func(_ *poller.Poller[int], w *world) {
			w.onSave = func(ctx context.Context, _, _ source.Cursor) error { return waits(ctx) }
		},
		"while the lease does not answer": func(pl *poller.Poller[int], _ *world) {
			pl.Lease = holdFunc(func(ctx context.Context, _ func(context.Context) error) error { return waits(ctx) })
		},
		"while the lease fails": func(pl *poller.Poller[int], _ *world) {
			pl.Lease = holdFunc(func(context.Context, func(context.Context) error) error { return errOutage })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(1)
				w.onSave = failing(time.Hour, sqlState("42501"))
				pl := w.poller()
				require.Error(t, pl.Drain(t.Context()))
				change(pl, w)
				stop := start(t, pl)
				time.Sleep(10 * time.Second)
				err := stop()
				require.ErrorContains(t, err, "the cursor of stored records is not saved: ")
				assert.NotContains(t, err.Error(), "Grace")
				assert.False(t, pl.Status().Done)
			})
		})
	}
}

type holdFunc func(ctx context.Context, active func(context.Context) error) error

func (f holdFunc) Hold(ctx context.Context, active func(context.Context) error) error {
	return f(ctx, active)
}

// A standby drops the batch in memory, because the active replica fetches it again, so
// its stop is a success.
func TestAStandbyStopsWithSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		w.onSave = failing(time.Hour, sqlState("42501"))
		pl := w.poller()
		require.Error(t, pl.Drain(t.Context()))
		pl.Lease = new(turns).add(3600, errOther)
		stop := start(t, pl)
		time.Sleep(10*time.Second + time.Second/2)
		require.NoError(t, stop())
	})
}

// A lost lease leaves no Grace, so the error does not speak of it.
func TestTheErrorAfterALostLeaseNamesTheCause(t *testing.T) {
	for name, change := range map[string]func(pl *poller.Poller[int], w *world){
		"during a save": func(_ *poller.Poller[int], w *world) {
			load := first(slowly)
			w.onSave = func(ctx context.Context, _, _ source.Cursor) error { return load(ctx) }
		},
		"after a write that ignores it": func(_ *poller.Poller[int], w *world) {
			w.onWrite = func(context.Context, source.Batch[int]) error {
				time.Sleep(5 * time.Second)
				return sink.Stored(1, nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(10)
				pl := w.poller()
				change(pl, w)
				pl.Lease = new(turns).activeFor(t, 12*time.Second)
				require.NoError(t, pl.Drain(t.Context()))
				assert.Contains(t, pl.Status().LastError, "the lease is lost")
				assert.NotContains(t, pl.Status().LastError, "Grace")
			})
		})
	}
}
