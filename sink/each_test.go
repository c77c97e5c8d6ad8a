package sink_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

var errDown = errors.New("down")

// progress returns what an error says of a batch.
func progress(t *testing.T, err error) (int, error) {
	t.Helper()
	var stored *sink.StoredError
	require.ErrorAs(t, err, &stored)
	return stored.N, stored.Err
}

func TestStored(t *testing.T) {
	err := sink.Stored(3, sink.Reject(errDown))
	assert.ErrorIs(t, err, sink.ErrRejected)
	assert.ErrorIs(t, err, errDown)
	assert.EqualError(t, err, "3 records stored: rejected: down")
	assert.EqualError(t, sink.Stored(3, nil), "3 records stored, the next one was not tried")
}

func TestTooLarge(t *testing.T) {
	err := sink.TooLarge(errDown)
	assert.ErrorIs(t, err, sink.ErrTooLarge)
	assert.ErrorIs(t, err, errDown)
	assert.NotErrorIs(t, err, sink.ErrRejected)
	assert.EqualError(t, err, "too large: down")
	assert.NoError(t, sink.TooLarge(nil))
}

// Filter counts the records that it left out.
func TestFilterPassesOnProgress(t *testing.T) {
	records := []int{1, 2, 3, 4, 5, 6, 7}
	for n, want := range []int{1, 3, 5, 7} { // even records are 2, 4, 6
		s := sink.Filter(sink.Func[int](func(context.Context, source.Batch[int]) error { return sink.Stored(n, errDown) }),
			func(i int) bool { return i%2 == 0 })
		got, err := progress(t, s.Write(t.Context(), source.Batch[int]{Records: records}))
		assert.Equal(t, want, got, n)
		assert.Equal(t, errDown, err)
	}
}

func TestEachInOrder(t *testing.T) {
	var stored []int
	failing := 3
	s := sink.Each(1, func(_ context.Context, i int) error {
		if i == failing {
			return errDown
		}
		stored = append(stored, i)
		return nil
	})
	b := source.Batch[int]{From: "a", To: "b", ID: 1, Records: []int{1, 2, 3, 4}}
	n, err := progress(t, s.Write(t.Context(), b))
	assert.Equal(t, 2, n)
	assert.Equal(t, errDown, err)
	assert.Equal(t, []int{1, 2}, stored, "it stops at the first failure")
	failing = 0
	b.Records = b.Records[n:]
	require.NoError(t, s.Write(t.Context(), b))
	assert.Equal(t, []int{1, 2, 3, 4}, stored)
}

// What is stored after a record that failed is remembered, also through Map and
// Filter, and also if the rest is written in parts. Another batch is not taken for
// the rest.
func TestEachRemembersWhatIsStored(t *testing.T) {
	calls := make(map[int]int)
	failing := 20
	lock := make(chan struct{}, 1)
	each := sink.Each(4, func(_ context.Context, i int) error {
		lock <- struct{}{}
		defer func() { <-lock }()
		calls[i]++
		if i == failing {
			return errDown
		}
		return nil
	})
	s := sink.Filter(sink.Map(each, func(i int) (int, error) { return 10 * i, nil }), func(i int) bool { return i != 1 })
	b := source.Batch[int]{From: "a", To: "b", ID: 7, Records: []int{1, 2, 3, 4, 5, 6}}
	n, err := progress(t, s.Write(t.Context(), b))
	assert.Equal(t, 1, n, "record 1 is left out, record 2 fails")
	assert.Equal(t, errDown, err)
	assert.Equal(t, map[int]int{20: 1, 30: 1, 40: 1, 50: 1, 60: 1}, calls)

	failing = 0
	first, second := b, b
	first.Records, second.Records = b.Records[1:3], b.Records[3:]
	require.NoError(t, s.Write(t.Context(), first))
	require.NoError(t, s.Write(t.Context(), second))
	assert.Equal(t, map[int]int{20: 2, 30: 1, 40: 1, 50: 1, 60: 1}, calls)

	failing = 20
	require.Error(t, s.Write(t.Context(), b))
	b.ID = 8 // as after a restart of the pipeline
	failing = 0
	require.NoError(t, s.Write(t.Context(), b))
	assert.Equal(t, map[int]int{20: 4, 30: 3, 40: 3, 50: 3, 60: 3}, calls)
}

func TestEachNamesARejectedRecord(t *testing.T) {
	var stored []int
	s := sink.Each(1, func(_ context.Context, i int) error {
		if i == 2 {
			return sink.Reject(errDown)
		}
		stored = append(stored, i)
		return nil
	})
	b := source.Batch[int]{ID: 1, Records: []int{1, 2, 3}}
	n, err := progress(t, s.Write(t.Context(), b))
	assert.Equal(t, 1, n)
	assert.ErrorIs(t, err, sink.ErrRejected)
	b.Records = b.Records[2:]
	require.NoError(t, s.Write(t.Context(), b))
	assert.Equal(t, []int{1, 3}, stored)
}

func TestEachStopsAtHalfOfItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink.Each(2, func(context.Context, int) error { time.Sleep(time.Second); return nil })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		n, err := progress(t, s.Write(ctx, source.Batch[int]{Records: make([]int, 100)}))
		assert.Equal(t, 10, n, "two at once for five seconds")
		assert.NoError(t, err)

		cancel()
		n, err = progress(t, s.Write(ctx, source.Batch[int]{Records: make([]int, 100)}))
		assert.Zero(t, n)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func TestEachStopsWhenTheTargetIsDown(t *testing.T) {
	calls := make(chan int, 100)
	s := sink.Each(4, func(_ context.Context, i int) error { calls <- i; return errDown })
	n, err := progress(t, s.Write(t.Context(), source.Batch[int]{Records: make([]int, 100)}))
	assert.Zero(t, n)
	assert.Equal(t, errDown, err)
	assert.Less(t, len(calls), 8)
}
