package conform_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sourcetest/conform"
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

func TestViolations(t *testing.T) {
	t.Parallel()
	v := conform.Violations{Suite: "mytest"}
	require.NoError(t, v.Err())
	v.Add("one is one", "it is %d", 2)
	v.Add("two is two", "it is %d", 3)
	v.Add("one is one", "it is %d", 4)
	require.EqualError(t, v.Err(), "mytest: one is one: it is 2 (and 1 more)\nmytest: two is two: it is 3")
}

func TestTrip(t *testing.T) {
	t.Parallel()
	ctx, tripped, cancel := conform.Trip(t.Context(), 3)
	defer cancel()
	require.NoError(t, ctx.Err())
	done := ctx.Done()
	require.False(t, tripped())
	require.ErrorIs(t, ctx.Err(), context.Canceled, "the third look")
	require.True(t, tripped())
	<-done
}
