package sink_test

import (
	"context"
	"errors"
	"sync"
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

// A number that cannot be true stays one.
func TestFilterPassesOnAWrongNumber(t *testing.T) {
	for n, want := range map[int]int{-1: -1, 4: 8, 6: 10} {
		s := sink.Filter(sink.Func[int](func(context.Context, source.Batch[int]) error { return sink.Stored(n, errDown) }),
			func(i int) bool { return i%2 == 0 })
		got, _ := progress(t, s.Write(t.Context(), source.Batch[int]{Records: []int{1, 2, 3, 4, 5, 6, 7}}))
		assert.Equal(t, want, got, "%d of 3", n)
	}
}

// A single record that is too large can never be stored.
func TestEachRejectsARecordThatIsTooLarge(t *testing.T) {
	s := sink.Each(1, func(context.Context, int) error { return sink.TooLarge(errDown) })
	_, err := progress(t, s.Write(t.Context(), source.Batch[int]{Records: []int{1, 2}}))
	assert.ErrorIs(t, err, sink.ErrRejected)
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
	b := source.Batch[int]{From: "a", To: "b", Records: []int{1, 2, 3, 4}}
	n, err := progress(t, s.Write(t.Context(), b))
	assert.Equal(t, 2, n)
	assert.Equal(t, errDown, err)
	assert.Equal(t, []int{1, 2}, stored, "it stops at the first failure")
	failing = 0
	b.Records = b.Records[n:]
	require.NoError(t, s.Write(t.Context(), b))
	assert.Equal(t, []int{1, 2, 3, 4}, stored)
}

// What became of the records after one that failed is reported, also through Map and
// Filter. Each itself remembers nothing.
func TestEachReportsWhatBecameOfEachRecord(t *testing.T) {
	var mu sync.Mutex
	calls := make(map[int]int)
	each := sink.Each(4, func(_ context.Context, i int) error {
		mu.Lock()
		defer mu.Unlock()
		switch calls[i]++; i {
		case 30:
			return errDown
		case 50:
			return sink.Reject(errDown)
		}
		return nil
	})
	s := sink.Filter(sink.Map(each, func(i int) (int, error) { return 10 * i, nil }), func(i int) bool { return i != 1 && i != 4 })
	b := source.Batch[int]{From: "a", To: "b", Records: []int{1, 2, 3, 4, 5, 6, 7}}
	for attempt := 1; attempt < 3; attempt++ {
		err := s.Write(t.Context(), b)
		n, cause := progress(t, err)
		assert.Equal(t, 2, n, "record 1 is left out, record 2 is stored, record 3 fails")
		assert.Equal(t, errDown, cause)
		var stored *sink.StoredError
		require.ErrorAs(t, err, &stored)
		require.Len(t, stored.Others, 3)
		assert.ErrorIs(t, stored.Others[4], sink.ErrRejected)
		assert.NoError(t, stored.Others[5])
		assert.NoError(t, stored.Others[6])
		assert.Equal(t, map[int]int{20: attempt, 30: attempt, 50: attempt, 60: attempt, 70: attempt}, calls)
	}
}

// A record that fails again at each attempt does not have others stored again.
func TestEachStoresTheFirstRecordAlone(t *testing.T) {
	var mu sync.Mutex
	var calls []int
	for _, failure := range []error{errDown, sink.Reject(errDown)} {
		s := sink.Each(8, func(_ context.Context, i int) error {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, i)
			return failure
		})
		calls = nil
		n, err := progress(t, s.Write(t.Context(), source.Batch[int]{Records: []int{1, 2, 3, 4}}))
		assert.Zero(t, n)
		assert.Equal(t, failure, err)
		assert.Equal(t, []int{1}, calls)
		require.NoError(t, s.Write(t.Context(), source.Batch[int]{}))
	}
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
	b := source.Batch[int]{Records: []int{1, 2, 3}}
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
		assert.Equal(t, 9, n, "the first alone, then two at once, for five seconds")
		assert.NoError(t, err)

		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		n, err = progress(t, s.Write(ctx, source.Batch[int]{Records: make([]int, 100)}))
		assert.Equal(t, 9, n)
		assert.NoError(t, err)
		assert.Equal(t, 5*time.Second, time.Since(began), "a slow sink reports progress before it seems to hang")

		cancel()
		n, err = progress(t, s.Write(ctx, source.Batch[int]{Records: make([]int, 100)}))
		assert.Zero(t, n)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func TestEachStopsWhenTheTargetIsDown(t *testing.T) {
	calls := make(chan int, 100)
	s := sink.Each(4, func(_ context.Context, i int) error {
		if calls <- i; i == 0 {
			return nil
		}
		return errDown
	})
	records := make([]int, 100)
	for i := range records {
		records[i] = i
	}
	n, err := progress(t, s.Write(t.Context(), source.Batch[int]{Records: records}))
	assert.Equal(t, 1, n)
	assert.Equal(t, errDown, err)
	assert.Less(t, len(calls), 9)
}
