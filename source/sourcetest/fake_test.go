package sourcetest_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

func TestFakeZeroValue(t *testing.T) {
	t.Parallel()
	var src sourcetest.Fake[int]
	b, err := src.Fetch(t.Context(), "", 10)
	require.NoError(t, err)
	require.Empty(t, b.Records)
	require.Equal(t, source.Cursor(""), b.To)
	require.False(t, b.More)
	require.WithinDuration(t, time.Now(), b.AsOf, time.Minute)

	src.Append(1, 2, 3)
	b, err = src.Fetch(t.Context(), "", 2)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, b.Records)
	require.True(t, b.More)
	require.Zero(t, b.AsOf)

	_, err = src.Fetch(t.Context(), "4", 1)
	require.EqualError(t, err, `sourcetest: cursor "4" is after the last of 3 records`)
	for _, c := range []source.Cursor{"0", "-1", "01", "+1", "x", "1 "} {
		_, err = src.Fetch(t.Context(), c, 1)
		require.ErrorContains(t, err, "is not a cursor of this source", c)
	}
	_, err = src.Fetch(t.Context(), "", 0)
	require.EqualError(t, err, "sourcetest: limit is 0 and must be at least 1")
}

func TestFakeHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var src sourcetest.Fake[int]
		src.Append(1, 2)
		src.Hold(source.Held{By: []string{"pid 7"}})
		began := time.Now()

		b, err := src.Fetch(t.Context(), "", 10)
		require.NoError(t, err)
		require.Nil(t, b.Held, "nothing is after the ceiling yet")

		time.Sleep(time.Minute)
		src.Append(3)
		b, err = src.Fetch(t.Context(), "", 10)
		require.NoError(t, err)
		require.Equal(t, []int{1, 2}, b.Records)
		require.False(t, b.More)
		require.Equal(t, &source.Held{Since: began, By: []string{"pid 7"}}, b.Held)
		require.Equal(t, began, b.AsOf)

		src.End()
		b, err = src.Fetch(t.Context(), "2", 10)
		require.NoError(t, err, "not the end: a record is held back")
		require.Empty(t, b.Records)

		src.Release()
		b, err = src.Fetch(t.Context(), "2", 10)
		require.NoError(t, err)
		require.Equal(t, []int{3}, b.Records)
		_, err = src.Fetch(t.Context(), "3", 10)
		require.ErrorIs(t, err, source.ErrEnd)
	})
}

func TestFakeFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down, reset := errors.New("down"), errors.New("reset")
		var src sourcetest.Fake[int]
		src.Append(1)
		fetch := func() error {
			b, err := src.Fetch(t.Context(), "", 1)
			if err != nil {
				require.Empty(t, b.Records)
			}
			return err
		}
		src.Fail(down)
		require.ErrorIs(t, fetch(), down)
		require.ErrorIs(t, fetch(), down)
		src.Heal()
		require.NoError(t, fetch())

		src.FailNext(1, reset)
		require.ErrorIs(t, fetch(), reset)
		require.NoError(t, fetch())

		src.FailFunc(func(c fault.Call, p fault.Point) error {
			if c.N == 7 && p == fault.Before {
				return down
			}
			return nil
		})
		require.NoError(t, fetch())
		require.ErrorIs(t, fetch(), down)
		require.NoError(t, fetch())

		src.Delay(time.Hour)
		began := time.Now()
		require.NoError(t, fetch())
		require.Equal(t, time.Hour, time.Since(began))
		src.Heal()

		calls := src.Calls()
		require.Len(t, calls, 9)
		require.Equal(t, fault.Call{Op: "Fetch", N: 9, From: "", To: "1", Limit: 1, Records: 1, Done: true}, calls[8])
		require.Equal(t, fault.Call{Op: "Fetch", N: 1, From: "", Limit: 1, Done: true, Err: down}, calls[0])
	})
}

func TestFakeWhileAWriterAppends(t *testing.T) {
	t.Parallel()
	var src sourcetest.Fake[int]
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 1000 {
			src.Append(i)
		}
		src.End()
	})
	var got []int
	for after := source.Cursor(""); ; {
		b, err := src.Fetch(t.Context(), after, 10)
		if errors.Is(err, source.ErrEnd) {
			break
		}
		require.NoError(t, err)
		got, after = append(got, b.Records...), b.To
	}
	writer.Wait()
	require.Len(t, got, 1000)
	for i, n := range got {
		require.Equal(t, i, n)
	}
}
