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
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

func TestDrainDeliversAllInOrder(t *testing.T) {
	w := newWorld(35)
	require.NoError(t, w.poller().Drain(t.Context()))
	assert.Equal(t, seq(1, 35), w.written)
	assert.Equal(t, source.Cursor("35"), w.stored)
	assert.Equal(t, "load", w.calls[0])
}

func TestWriteComesBeforeSave(t *testing.T) {
	w := newWorld(25)
	require.NoError(t, w.poller().Drain(t.Context()))
	assert.Equal(t, []string{"load", "write -10", "save -10", "write 10-20", "save 10-20", "write 20-25", "save 20-25"}, w.steps())
}

func TestContinuesFromTheCheckpoint(t *testing.T) {
	w := newWorld(30)
	w.stored = "12"
	require.NoError(t, w.poller().Drain(t.Context()))
	assert.Equal(t, seq(13, 30), w.written)
}

func TestFetchesOneBatchAheadWhileOneIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(50)
		fetched := map[string]int{}
		w.onWrite = func(_ context.Context, b source.Batch[int]) error {
			time.Sleep(time.Second)
			synctest.Wait()
			fetched[string(b.From)] = w.count("fetch")
			return nil
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		// While batch n is written, n+1 batches have been fetched.
		assert.Equal(t, map[string]int{"": 2, "10": 3, "20": 4, "30": 5, "40": 5}, fetched)
	})
}

func TestNeverWritesPastAFailedBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(50)
		fail := until(time.Hour, errOutage)
		w.onWrite = func(_ context.Context, b source.Batch[int]) error {
			if b.From == "10" {
				return fail()
			}
			return nil
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, seq(1, 50), w.written)
		assert.Equal(t, 5, w.count("fetch"), "the prefetched batch is kept during the outage")
	})
}

func TestPermanentErrorEndsRun(t *testing.T) {
	for _, cause := range []error{retry.Permanent(errors.New("broken")), poller.ErrConflict} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(50)
			w.onFetch = func(ctx context.Context, after source.Cursor, _ int) error {
				if after != "" {
					time.Sleep(10 * time.Second) // still in progress when the write fails
				}
				return ctx.Err()
			}
			w.onWrite = func(context.Context, source.Batch[int]) error { return cause }
			began := time.Now()
			err := w.poller().Run(t.Context())

			var failed *poller.Error
			require.ErrorAs(t, err, &failed)
			require.ErrorIs(t, err, cause)
			assert.Equal(t, poller.OpWrite, failed.Op)
			assert.Equal(t, source.Cursor("10"), failed.To)
			assert.Equal(t, []string{"load", "write -10"}, w.steps())
			assert.Equal(t, 10*time.Second, time.Since(began), "Run waits for the prefetch")
			synctest.Wait()
			assert.Len(t, w.calls, 4, "nothing is called after Run has returned")
		})
	}
}

func TestConflictOnSaveEndsRunAndTheNextRunContinues(t *testing.T) {
	w := newWorld(30)
	w.onSave = func(_ context.Context, from, _ source.Cursor) error {
		if from == "10" {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.stored = "5" // a human rewinds
			w.onSave = nil
		}
		return nil
	}
	p := w.poller()
	err := p.Drain(t.Context())
	require.ErrorIs(t, err, poller.ErrConflict)
	assert.Equal(t, 1, w.count("save 10"), "a conflict is never retried")

	w.written = nil
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, seq(6, 30), w.written)
}

func TestErrEndEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(25)
		w.onFetch = func(_ context.Context, after source.Cursor, _ int) error {
			if after == "25" {
				return source.ErrEnd
			}
			return nil
		}
		require.NoError(t, w.poller().Run(t.Context()))
		assert.Equal(t, seq(1, 25), w.written)
	})
}

// An io.Reader may return its last data together with io.EOF. A source must not: its
// last records would be lost.
func TestAnErrorWithRecordsIsAnError(t *testing.T) {
	for _, with := range []error{source.ErrEnd, &source.BadRecord{Key: "id 26", To: "26", Err: errors.New("NULL")}} {
		w, l := newWorld(25), &letters{}
		p := w.poller()
		p.DeadLetter = l
		p.Source = source.Func[int](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[int], error) {
			b, err := w.Fetch(ctx, after, limit)
			if !b.More {
				err = with
			}
			return b, err
		})
		err := p.Run(t.Context())
		require.ErrorContains(t, err, "the source returned 5 records with a source.ErrEnd or source.BadRecord, which would lose them")
		assert.Equal(t, retry.Fatal, retry.Classify(err))
		assert.Equal(t, source.Cursor("20"), w.stored)
		assert.Empty(t, l.got)
	}
}

func TestEmptyBatchWhoseCursorMovedIsSaved(t *testing.T) {
	w := newWorld(25)
	w.answer = func(b *source.Batch[int]) { b.Records = nil }
	require.NoError(t, w.poller().Drain(t.Context()))
	assert.Equal(t, source.Cursor("25"), w.stored)
	assert.Equal(t, 3, w.count("write"), "it is written, because an exactly-once sink stores the cursor")
}

func TestIdlePollWritesNothing(t *testing.T) {
	w := newWorld(0)
	require.NoError(t, w.poller().Drain(t.Context()))
	assert.Equal(t, []string{"load", "fetch +10"}, w.calls)
}

func TestRunTwiceAtOnceIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		p := w.poller()
		stop := start(t, p)
		synctest.Wait()
		require.ErrorIs(t, p.Run(t.Context()), poller.ErrRunning)
		require.ErrorIs(t, p.Drain(t.Context()), poller.ErrRunning)
		require.NoError(t, stop())
		require.NoError(t, p.Drain(t.Context()), "it may run again after the first run has ended")
	})
}

func TestPollerIsUsableAfterAPanic(t *testing.T) {
	for _, after := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(30)
			w.onWrite = func(context.Context, source.Batch[int]) error {
				time.Sleep(after)
				panic("sink")
			}
			p := w.poller()
			require.Panics(t, func() { _ = p.Drain(t.Context()) })
			time.Sleep(time.Hour)
			assert.Equal(t, poller.Stopped, p.Status().State)
			assert.False(t, p.Status().Overdue)
			w.onWrite = nil
			require.NoError(t, p.Drain(t.Context()))
			assert.Equal(t, seq(1, 30), w.written)
		})
	}
}

func TestMisconfigured(t *testing.T) {
	for field, spoil := range map[string]func(*poller.Poller[int]){
		"Name":            func(p *poller.Poller[int]) { p.Name = "" },
		"Source":          func(p *poller.Poller[int]) { p.Source = nil },
		"Sink":            func(p *poller.Poller[int]) { p.Sink = nil },
		"Checkpointer":    func(p *poller.Poller[int]) { p.Checkpointer = nil },
		"DeadLetterLimit": func(p *poller.Poller[int]) { p.DeadLetterLimit = -1 },
		"BatchSize":       func(p *poller.Poller[int]) { p.BatchSize = -1 },
		"Interval":        func(p *poller.Poller[int]) { p.Interval = -1 },
		"Deadline":        func(p *poller.Poller[int]) { p.Deadline = -1 },
		"Retry":           func(p *poller.Poller[int]) { p.Retry.Base = -1 },
		"Wake":            func(p *poller.Poller[int]) { p.Wake = make(chan struct{}) },
	} {
		w := newWorld(1)
		p := w.poller()
		spoil(p)
		for _, err := range []error{p.Run(t.Context()), p.Drain(t.Context())} {
			require.Error(t, err, field)
			assert.Contains(t, err.Error(), field)
		}
		assert.Empty(t, w.calls, "nothing is called")
	}
	err := (&poller.Poller[int]{}).Run(t.Context())
	for _, field := range []string{"Name", "Source", "Sink", "Checkpointer"} {
		assert.ErrorContains(t, err, field+" is not set", "one error lists everything that is wrong")
	}
}

func TestBrokenSourceIsAnError(t *testing.T) {
	for want, change := range map[string]func(*source.Batch[int]){
		"returned the batch after":          func(b *source.Batch[int]) { b.From = "7" },
		"more than the limit of 10":         func(b *source.Batch[int]) { b.Records = seq(1, 11) },
		"without moving the cursor: set To": func(b *source.Batch[int]) { b.To = b.From },
		"returned the empty cursor":         func(b *source.Batch[int]) { b.Records, b.To = nil, "" },
		"empty batch with More set":         func(b *source.Batch[int]) { b.Records, b.To, b.More = nil, b.From, true },
		"is not printable ASCII":            func(b *source.Batch[int]) { b.To = "café" },
		"cursor has 8193 bytes, the limit":  func(b *source.Batch[int]) { b.To = source.Cursor(make([]byte, 8193)) },
	} {
		w := newWorld(5)
		w.stored = "1"
		w.answer = change
		err := w.poller().Run(t.Context())
		require.ErrorContains(t, err, want)
		assert.Empty(t, w.written)
	}
}

func TestBrokenCheckpointIsAnError(t *testing.T) {
	w := newWorld(5)
	w.stored = "café"
	require.ErrorContains(t, w.poller().Run(t.Context()), "not printable ASCII")
	assert.Equal(t, []string{"load"}, w.calls)
}

// With large records the next batch is fetched after the write, or memory would hold two.
func TestLargeRecordsAreNotFetchedAhead(t *testing.T) {
	for bytes, ahead := range map[int]int{4 << 20: 1, 4<<20 + 1: 0} {
		synctest.Test(t, func(t *testing.T) {
			const records = 5
			fetched, written := 0, 0
			p := newWorld(records).poller()
			p.Source = source.Func[int](func(_ context.Context, after source.Cursor, _ int) (source.Batch[int], error) {
				if fetched == records {
					return source.Batch[int]{From: after, To: after}, nil
				}
				fetched++
				return source.Batch[int]{From: after, To: cursor(fetched), Records: []int{fetched}, Bytes: bytes, More: fetched < records}, nil
			})
			p.Sink = sink.Func[int](func(context.Context, source.Batch[int]) error {
				synctest.Wait()
				written++
				assert.Equal(t, min(written+ahead, records), fetched, "%d bytes", bytes)
				return nil
			})
			require.NoError(t, p.Drain(t.Context()))
			assert.Equal(t, records, written)
		})
	}
}
