package poller_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// reject makes the sink reject every batch that holds one of bad.
func (w *world) reject(bad ...int) {
	w.onWrite = func(_ context.Context, b source.Batch[int]) error {
		for _, r := range b.Records {
			if slices.Contains(bad, r) {
				return sink.Reject(fmt.Errorf("record %d is poison", r))
			}
		}
		return nil
	}
}

// letters collects dead letters.
type letters struct {
	got  []poller.Rejected[int]
	fail func() error
}

func (l *letters) Write(_ context.Context, b source.Batch[poller.Rejected[int]]) error {
	if l.fail != nil {
		if err := l.fail(); err != nil {
			return err
		}
	}
	l.got = append(l.got, b.Records...)
	return nil
}

func (l *letters) records() (rs []int) {
	for _, r := range l.got {
		rs = append(rs, r.Record)
	}
	return rs
}

func without(from, to int, bad ...int) []int {
	return slices.DeleteFunc(seq(from, to), func(i int) bool { return slices.Contains(bad, i) })
}

func TestRejectedRecordsGoToDeadLetter(t *testing.T) {
	for _, bad := range [][]int{{1}, {7}, {10}, {11}, {40}, {1, 2, 3}, {5, 6, 15, 25, 26}, {9, 10, 11, 12}, seq(1, 40)} {
		w, l := newWorld(40), &letters{}
		w.reject(bad...)
		p := w.poller()
		p.DeadLetter = l
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, bad, l.records())
		assert.Equal(t, without(1, 40, bad...), append([]int{}, w.written...), "all other records, in order")
		assert.Equal(t, source.Cursor("40"), w.stored)
		s := p.Status()
		assert.Equal(t, int64(len(bad)), s.DeadLetters)
		assert.Equal(t, int64(40-len(bad)), s.Records)
		assert.NotEmpty(t, w.logged("record rejected"))
	}
}

func TestDeadLetterContainsRecordAndReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(10), &letters{}
		w.reject(4)
		p := w.poller()
		p.DeadLetter = l
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, []poller.Rejected[int]{{
			Pipeline: "test", Record: 4, From: "3", To: "4", Err: "rejected: record 4 is poison", Time: time.Now(),
		}}, l.got)
	})
}

func TestBisecting(t *testing.T) {
	w, l := newWorld(40), &letters{}
	w.reject(3)
	p := w.poller()
	p.DeadLetter = l
	p.BatchSize = 16
	require.NoError(t, p.Drain(t.Context()))
	writes := slices.DeleteFunc(w.steps(), func(c string) bool { return c[0] != 'w' })
	assert.Equal(t, []string{
		"write -16", "write -8", "write -4", "write -2", // halved until 1 and 2 are accepted
		"write 2-4", "write 2-3", // the prefetched batch, halved until 3 is alone
		"write 3-4", "write 4-5", // rejected; the prefetched batch keeps its size
		"write 5-7", "write 7-11", "write 11-19", "write 19-35", "write 35-40", // doubled
	}, writes)
}

func TestRejectedWithoutDeadLetterNamesTheKey(t *testing.T) {
	w := newWorld(40)
	w.reject(24)
	err := w.poller().Drain(t.Context())
	var failed *poller.Error
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, sink.ErrRejected)
	assert.Equal(t, source.Cursor("23"), failed.From)
	assert.Equal(t, source.Cursor("24"), failed.To)
	assert.ErrorContains(t, err, "DeadLetter is not set")
	assert.Equal(t, seq(1, 23), w.written, "the records before it are delivered")
	assert.Equal(t, source.Cursor("23"), w.stored)
}

func TestOnlyRejectedIsBisected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(40), &letters{}
		breakStep(w, poller.OpWrite, until(time.Hour, sqlState("23505")))
		p := w.poller()
		p.DeadLetter = l
		require.NoError(t, p.Drain(t.Context()))
		assert.Empty(t, l.got)
		assert.Equal(t, 4, w.count("fetch"), "no batch was fetched twice")
	})
}

func TestDeadLetterLimit(t *testing.T) {
	for set, want := range map[int]int{0: 100, 3: 3} {
		w, l := newWorld(300), &letters{}
		w.reject(seq(11, 300)...)
		p := w.poller()
		p.DeadLetter, p.DeadLetterLimit = l, set
		err := p.Drain(t.Context())
		require.ErrorIs(t, err, sink.ErrRejected)
		assert.ErrorContains(t, err, fmt.Sprintf("after %d rejected records in a row", want))
		assert.Equal(t, seq(11, 10+want), l.records())
	}
	w, l := newWorld(300), &letters{}
	var bad []int
	for i := 1; i <= 300; i += 4 {
		bad = append(bad, i, i+1, i+2)
	}
	w.reject(bad...)
	p := w.poller()
	p.DeadLetter, p.DeadLetterLimit = l, 3
	require.NoError(t, p.Drain(t.Context()), "counted in a row")
	assert.Equal(t, bad, l.records())
}

func TestDeadLetterOutageIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(10)
		l := &letters{fail: until(time.Hour, errOutage)}
		w.reject(4)
		p := w.poller()
		p.DeadLetter = l
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, []int{4}, l.records())
		assert.Equal(t, without(1, 10, 4), w.written)
	})
}

func TestPermanentDeadLetterErrorEndsRun(t *testing.T) {
	w := newWorld(10)
	w.reject(4)
	p := w.poller()
	p.DeadLetter = &letters{fail: func() error { return retry.Permanent(errors.New("full")) }}
	err := p.Drain(t.Context())
	var failed *poller.Error
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, poller.OpDeadLetter, failed.Op)
	assert.Equal(t, source.Cursor("3"), w.stored, "the record is not skipped")
}

func TestDeadLetterThatRejectsEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(10)
		w.reject(4)
		p := w.poller()
		p.DeadLetter = &letters{fail: func() error { return sink.Reject(errors.New("too large")) }}
		require.ErrorIs(t, p.Drain(t.Context()), sink.ErrRejected)
		assert.Equal(t, source.Cursor("3"), w.stored)
	})
}

func TestRejectedWhileRecordsArrive(t *testing.T) {
	w, l := newWorld(5), &letters{}
	w.reject(3)
	reject := w.onWrite
	w.onWrite = func(ctx context.Context, b source.Batch[int]) error {
		w.add(1)
		return reject(ctx, b)
	}
	w.onFetch = func(_ context.Context, after source.Cursor, _ int) error {
		if position(after) >= 50 {
			return source.ErrEnd
		}
		return nil
	}
	p := w.poller()
	p.DeadLetter, p.Interval = l, time.Nanosecond
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, without(1, len(w.written)+1, 3), w.written)
	assert.Equal(t, []int{3}, l.records())
}

// A write may succeed although its answer is lost. If the second attempt is then
// rejected, the records must not go to both the sink and DeadLetter.
func TestRejectedAfterALostAnswer(t *testing.T) {
	for _, n := range []int{1, 10} {
		for _, committed := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w, l := newWorld(n), &letters{}
				first := true
				w.onWrite = func(_ context.Context, b source.Batch[int]) error {
					if !first {
						return sink.Reject(errors.New("not today"))
					}
					first = false
					if committed {
						w.mu.Lock()
						defer w.mu.Unlock()
						w.written, w.stored = append(w.written, b.Records...), b.To
					}
					return errOutage
				}
				p := w.poller()
				p.DeadLetter = l
				require.NoError(t, p.Drain(t.Context()))
				assert.Equal(t, seq(1, n), append(w.written, l.records()...))
				assert.Equal(t, committed, len(l.got) == 0)
				assert.Equal(t, cursor(n), w.stored)
				assert.Zero(t, p.Status().Attempts, "the sink has answered")
				assert.Len(t, w.logged("recovered"), 1)
			})
		}
	}
}

func TestRejectedBatchWithoutRecordsEndsRun(t *testing.T) {
	w, l := newWorld(5), &letters{}
	w.answer = func(b *source.Batch[int]) { b.Records = nil }
	w.onWrite = func(context.Context, source.Batch[int]) error { return sink.Reject(errors.New("a cursor alone?")) }
	p := w.poller()
	p.DeadLetter = l
	require.ErrorIs(t, p.Run(t.Context()), sink.ErrRejected)
	assert.Empty(t, l.got)
}

// A batch without records does not end a series of rejections.
func TestDeadLetterLimitCountsAcrossEmptyBatches(t *testing.T) {
	w, l := newWorld(100), &letters{}
	w.answer = func(b *source.Batch[int]) {
		if position(b.From)%2 == 1 {
			b.Records = nil
		}
	}
	w.reject(seq(1, 100)...)
	p := w.poller()
	p.DeadLetter, p.DeadLetterLimit, p.BatchSize = l, 3, 1
	require.ErrorContains(t, p.Drain(t.Context()), "after 3 rejected records in a row")
	assert.Equal(t, []int{1, 3, 5}, l.records())
}

// The count goes on after a restart, until a record is stored.
func TestDeadLetterLimitHoldsOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(300), &letters{}
		fixed := until(24*time.Hour, sink.Reject(errors.New("no such column")))
		w.onWrite = func(_ context.Context, b source.Batch[int]) error {
			if b.Records[len(b.Records)-1] > 14 {
				return sink.Reject(errors.New("no such column"))
			}
			return fixed()
		}
		p := w.poller()
		p.DeadLetter, p.DeadLetterLimit = l, 3
		for day, want := range [][]int{{1, 2, 3}, {1, 2, 3, 15, 16, 17}} {
			ctx, cancel := context.WithTimeout(t.Context(), 23*time.Hour+time.Duration(day)*24*time.Hour)
			require.ErrorIs(t, poller.Group{Pipelines: []poller.Pipeline{p}, Logger: p.Logger}.Run(ctx), sink.ErrRejected)
			cancel()
			assert.Equal(t, want, l.records())
		}
	})
}

// A DeadLetter may say with sink.Stored that it has stored the letter.
func TestDeadLetterThatReportsSuccess(t *testing.T) {
	for n, want := range map[int]string{1: "", 2: "stored 2 of 1 records"} {
		synctest.Test(t, func(t *testing.T) {
			w, l := newWorld(20), &letters{}
			w.reject(7)
			p := w.poller()
			p.DeadLetter = sink.Func[poller.Rejected[int]](func(ctx context.Context, b source.Batch[poller.Rejected[int]]) error {
				_ = l.Write(ctx, b)
				return sink.Stored(n, nil)
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if err := p.Drain(ctx); want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, want)
			}
			assert.Equal(t, []int{7}, l.records())
		})
	}
}

// A conflict of DeadLetter says nothing about the checkpoint.
func TestDeadLetterWithAConflict(t *testing.T) {
	p := &posts{fail: func(record int) error {
		if record == 6 {
			return sink.Reject(errors.New("422"))
		}
		return nil
	}}
	pl, _ := p.poller(10, 1)
	pl.DeadLetter = &letters{fail: func() error { return sink.ErrConflict }}
	for range 3 {
		require.ErrorIs(t, pl.Drain(t.Context()), sink.ErrConflict)
	}
	assert.Equal(t, seq(1, 5), p.stored)
}
