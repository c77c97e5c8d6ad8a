package sink_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

func TestReject(t *testing.T) {
	err := fmt.Errorf("sink: %w", sink.Reject(fs.ErrInvalid))
	assert.ErrorIs(t, err, sink.ErrRejected)
	assert.ErrorIs(t, err, fs.ErrInvalid)
	assert.EqualError(t, err, "sink: rejected: invalid argument")
	assert.NoError(t, sink.Reject(nil))
}

// keep returns a sink that stores its latest batch in *b.
func keep[T any](b *source.Batch[T]) sink.Sink[T] {
	return sink.Func[T](func(_ context.Context, in source.Batch[T]) error {
		*b = in
		return nil
	})
}

func TestMap(t *testing.T) {
	var got source.Batch[int]
	s := sink.Map(keep(&got), strconv.Atoi)
	in := source.Batch[string]{
		From: "a", To: "b", Records: []string{"1", "2"}, Bytes: 2, More: true,
		AsOf: time.Unix(1, 0), Held: &source.Held{By: []string{"x"}},
		Guarantee: &source.Guarantee{Name: "all"}, Position: "id 2", Pending: 3,
	}
	require.NoError(t, s.Write(t.Context(), in))
	assert.Equal(t, source.Batch[int]{
		From: "a", To: "b", Records: []int{1, 2}, Bytes: 2, More: true, AsOf: in.AsOf, Held: in.Held,
		Guarantee: in.Guarantee, Position: "id 2", Pending: 3,
	}, got)

	got = source.Batch[int]{}
	err := s.Write(t.Context(), source.Batch[string]{Records: []string{"1", "two"}})
	assert.ErrorIs(t, err, sink.ErrRejected)
	assert.Empty(t, got, "nothing is written")
}

func TestFilter(t *testing.T) {
	var got source.Batch[int]
	s := sink.Filter(keep(&got), func(i int) bool { return i%2 == 0 })
	records := []int{1, 2, 3, 4}
	require.NoError(t, s.Write(t.Context(), source.Batch[int]{From: "a", To: "b", Records: records}))
	assert.Equal(t, source.Batch[int]{From: "a", To: "b", Records: []int{2, 4}}, got)
	assert.Equal(t, []int{1, 2, 3, 4}, records, "the caller may write them again")

	require.NoError(t, s.Write(t.Context(), source.Batch[int]{From: "b", To: "c", Records: []int{5}}))
	assert.Equal(t, source.Cursor("c"), got.To, "an empty batch still moves the cursor")
}

func TestErrorsOfTheWrappedSinkArePassedOn(t *testing.T) {
	full := errors.New("full")
	s := sink.Func[int](func(context.Context, source.Batch[int]) error { return full })
	assert.ErrorIs(t, sink.Filter(s, func(int) bool { return true }).Write(t.Context(), source.Batch[int]{}), full)
	assert.ErrorIs(t, sink.Map(s, func(i int) (int, error) { return i, nil }).Write(t.Context(), source.Batch[int]{}), full)
}

// Filter and Map change what a sink receives.
func Example() {
	print := sink.Func[string](func(_ context.Context, b source.Batch[string]) error {
		fmt.Println(b.Records)
		return nil
	})
	even := sink.Filter(
		sink.Map(print, func(i int) (string, error) { return fmt.Sprintf("<%d>", i), nil }),
		func(i int) bool { return i%2 == 0 },
	)
	_ = even.Write(context.Background(), source.Batch[int]{To: "4", Records: []int{1, 2, 3, 4}})
	// Output: [<2> <4>]
}

// The failure of a batch of which nothing is kept is not a success.
func TestFilterKeepsAFailure(t *testing.T) {
	failed := errors.New("no connection")
	for answer, want := range map[error]error{
		sink.Stored(0, failed): sink.Stored(0, failed),
		sink.Stored(0, nil):    sink.Stored(3, nil),
	} {
		out := sink.Filter(sink.Func[int](func(context.Context, source.Batch[int]) error { return answer }), func(int) bool { return false })
		assert.EqualError(t, out.Write(t.Context(), source.Batch[int]{Records: []int{1, 2, 3}}), want.Error())
	}
}
