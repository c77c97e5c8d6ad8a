package conform_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/conform"
)

func TestCall(t *testing.T) {
	t.Parallel()
	var kept context.Context
	n, err := conform.Call(t.Context(), func(ctx context.Context) (int, error) {
		kept = ctx
		return 3, ctx.Err()
	})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.ErrorIs(t, kept.Err(), context.Canceled, "the context of a call ends with it")

	_, err = conform.Call(t.Context(), func(context.Context) (int, error) { panic("seven") })
	require.ErrorIs(t, err, conform.ErrPanic)
	require.ErrorContains(t, err, "panic: seven\ngoroutine")
	require.ErrorContains(t, err, "conform_test.go", "the stack says where")
}

func TestCallThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		defer close(free)
		began := time.Now()
		_, err := conform.Call(t.Context(), func(context.Context) (int, error) { <-free; return 0, nil })
		require.ErrorIs(t, err, conform.ErrStuck)
		require.Equal(t, conform.Limit+conform.Soon, time.Since(began))

		slow := errors.New("slow")
		_, err = conform.Call(t.Context(), func(ctx context.Context) (int, error) {
			<-ctx.Done()
			time.Sleep(conform.Soon - time.Second)
			return 0, slow
		})
		require.Equal(t, slow, err, "late, but soon enough")
	})
}

func TestRun(t *testing.T) {
	t.Parallel()
	require.NoError(t, conform.Run(t.Context(), "mytest", func(*conform.Suite) {}))
	closed := ""
	err := conform.Run(t.Context(), "mytest", func(s *conform.Suite) {
		require.Equal(t, t.Context(), s.Ctx)
		c := &conform.Checkpoint{Suite: s}
		for _, want := range []string{"A", "B", "C"} {
			h := c.Handle(nil, "it can be closed", func() error {
				closed += want
				if want == "B" {
					return errors.New("B is busy")
				}
				return nil
			})
			require.Equal(t, want, h.Name)
			if want == "A" {
				h.Close()
			}
		}
		c.Handle(nil, "it can be closed", nil)
		s.Watch("Write", nil)
		s.Watch("Write", errors.New("an ordinary error"))
		s.Add("one is one", "it is %d", 2)
		s.Add("two is two", "it is %d", 3)
		s.Add("one is one", "it is %d", 4)
		s.Stop("three is three", "it is %d", 4)
		t.Error("the suite goes on after Stop")
	})
	require.EqualError(t, err, "mytest: one is one: it is 2 (and 1 more)\nmytest: two is two: it is 3\n"+
		"mytest: three is three: it is 4\nmytest: it can be closed: B is busy")
	require.Equal(t, "ABC", closed)
	require.PanicsWithValue(t, "a bug of the suite", func() {
		_ = conform.Run(t.Context(), "mytest", func(*conform.Suite) { panic("a bug of the suite") })
	})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	err := conform.Run(t.Context(), "mytest", func(s *conform.Suite) {
		s.Watch("Write", conform.Do(s.Ctx, func(context.Context) error { panic("seven") }))
	})
	require.ErrorContains(t, err, "mytest: Write does not panic: panic: seven")
	err = conform.Run(t.Context(), "mytest", func(s *conform.Suite) {
		s.Watch("Write", fmt.Errorf("the first: %w", conform.ErrStuck))
	})
	require.EqualError(t, err, "mytest: Write returns soon after its context ends: the first: did not return")
}

func TestDifference(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		got, want []string
		text      string
	}{
		{nil, nil, ""},
		{[]string{"a", "b"}, []string{"a", "b"}, ""},
		{[]string{"a"}, []string{"a", "b", "c"}, "1 records, missing from b on, the last 2 of 3"},
		{[]string{"a", "b", "c"}, []string{"a"}, "2 records too many, from b on"},
		{[]string{"a", "c"}, []string{"a", "b"}, "record 1 is c, want b"},
	} {
		require.Equal(t, c.text, conform.Difference(c.got, c.want))
	}
}

func TestTrips(t *testing.T) {
	t.Parallel()
	var ended []int // the check at which each call ended
	for _, trip := range conform.Trips(10) {
		ctx := trip.On(t.Context())
		done := ctx.Done()
		for check := 2; check <= 4; check++ {
			if ctx.Err() != nil {
				ended = append(ended, check)
				<-done
				break
			}
		}
	}
	require.Equal(t, []int{2, 2, 3, 4}, ended, "the first call is interrupted at Done, and the fifth not at all")
	calls := 0
	for _, trip := range conform.Trips(1) {
		calls++
		ctx := trip.On(t.Context())
		<-ctx.Done()
		require.Error(t, ctx.Err())
	}
	require.Equal(t, 1, calls)
}
