package poller_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

// A sink that stores chunks names one of them as too large: it is halved, and its
// first record is not to blame.
func TestARestThatIsTooLargeIsHalved(t *testing.T) {
	for _, single := range []bool{false, true} {
		w, l := newWorld(1000), &letters{}
		w.onWrite = func(_ context.Context, b source.Batch[int]) error {
			for i := 0; i < len(b.Records); i += 100 {
				chunk := b.Records[i:min(i+100, len(b.Records))]
				if chunk[0] > 500 && len(chunk) > 60 || single && slices.Contains(chunk, 700) {
					w.written = append(w.written, b.Records[:i]...)
					return sink.Stored(i, sink.TooLarge(errors.New("413")))
				}
			}
			return nil
		}
		p := w.poller()
		p.BatchSize, p.DeadLetter = 1000, l
		require.NoError(t, p.Drain(t.Context()))
		if single {
			assert.Equal(t, without(1, 1000, 700), w.written)
			assert.Equal(t, []int{700}, l.records())
		} else {
			assert.Equal(t, seq(1, 1000), w.written)
			assert.Empty(t, l.records())
		}
	}
}

// A single record that Each cannot store because it is too large does not make the
// batches after it smaller.
func TestARecordThatIsTooLargeForEach(t *testing.T) {
	p := &posts{fail: func(record int) error {
		if record == 5 {
			return sink.TooLarge(errors.New("413"))
		}
		return nil
	}}
	pl, w := p.poller(100, 1)
	l := &letters{}
	pl.DeadLetter, pl.BatchSize = l, 10
	require.NoError(t, pl.Drain(t.Context()))
	assert.Equal(t, []int{5}, l.records())
	assert.Equal(t, without(1, 100, 5), p.stored)
	assert.Equal(t, 100, p.calls)
	assert.Equal(t, 10, w.count("save"))
}

// A sink that stores all or nothing, and says so with Stored(0, err), is not asked for
// parts of a batch: it would take the first part for the batch.
func TestAnExactlyOnceSinkThatReportsStoredNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(100)
		var tx sinktest.Transactional[int]
		p := w.poller()
		p.BatchSize, p.Checkpointer = 100, &tx
		attempts := 0
		p.Sink = sink.Func[int](func(ctx context.Context, b source.Batch[int]) error {
			switch attempts++; attempts {
			case 1:
				return sink.Stored(0, errOutage)
			case 2:
				<-ctx.Done()
				return ctx.Err()
			}
			return tx.Write(ctx, b)
		})
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, seq(1, 100), tx.Records())
	})
}

// Stored with all records and no error is success, also for a batch without records.
func TestAllIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(30)
		w.answer = func(b *source.Batch[int]) {
			if position(b.From) == 10 { // the source leaves these records out
				b.Records = nil
			}
		}
		p := w.poller()
		p.Sink = sink.Func[int](func(ctx context.Context, b source.Batch[int]) error {
			return cmp.Or(w.Write(ctx, b), sink.Stored(len(b.Records), nil))
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.NoError(t, p.Drain(ctx))
		assert.Equal(t, append(seq(1, 10), seq(21, 30)...), w.written)
		assert.Equal(t, source.Cursor("30"), w.stored)
	})
}

// A sink that wraps several others may lose what one of them says, but not a record.
func TestAStoredErrorAmongOthers(t *testing.T) {
	w := newWorld(100)
	p := w.poller()
	p.BatchSize = 100
	var each, other []int
	attempts := 0
	one := sink.Func[int](func(_ context.Context, b source.Batch[int]) error {
		if attempts++; attempts == 1 {
			each = append(each, b.Records[:95]...)
			return sink.Stored(95, errOutage)
		}
		each = append(each, b.Records...)
		return nil
	})
	p.Sink = sink.Func[int](func(ctx context.Context, b source.Batch[int]) error {
		err := one.Write(ctx, b)
		if err == nil {
			other = append(other, b.Records...)
		}
		return errors.Join(err)
	})
	require.NoError(t, p.Drain(t.Context()))
	slices.Sort(each)
	assert.Equal(t, seq(1, 100), slices.Compact(each))
	assert.Equal(t, seq(1, 100), other)
}

// The bytes of the parts add up to those of the batch, and those of a record that was
// rejected are not counted as delivered.
func TestBytesOfParts(t *testing.T) {
	w := newWorld(10)
	w.answer = func(b *source.Batch[int]) { b.Bytes = 10 * len(b.Records) }
	var got, steps []int
	w.onWrite = func(_ context.Context, b source.Batch[int]) error {
		got = append(got, b.Bytes)
		switch len(b.Records) {
		case 10:
			return sink.Stored(3, nil)
		case 7:
			return sink.Stored(1, sink.Reject(errOutage))
		}
		return nil
	}
	p := w.poller()
	p.DeadLetter = &letters{}
	polled := 0
	p.Hooks.Poll = func(i poller.PollInfo) { polled += i.Bytes }
	p.Hooks.StepEnd = func(_ context.Context, s poller.StepInfo) {
		if s.Op == poller.OpWrite {
			steps = append(steps, s.Bytes)
		}
	}
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, []int{100, 70, 50}, got)
	assert.Equal(t, got, steps)
	assert.Equal(t, 90, polled)
}
