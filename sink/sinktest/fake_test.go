package sinktest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

func batch(from, to source.Cursor, records ...int) source.Batch[int] {
	return source.Batch[int]{From: from, To: to, Records: records}
}

func TestFakeKeepsItsOwnCopy(t *testing.T) {
	t.Parallel()
	var out sinktest.Fake[int]
	b := batch("", "2", 1, 2)
	require.NoError(t, out.Write(t.Context(), b))
	b.Records[0] = 7
	require.Equal(t, []int{1, 2}, out.Records())
	require.NoError(t, out.Write(t.Context(), batch("2", "5")))
	require.Equal(t, source.Cursor("5"), out.Batches()[1].To)
}

func TestTransactionalFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	down := errors.New("down")
	var out sinktest.Transactional[int]

	out.FailNext(1, down)
	require.ErrorIs(t, out.Write(ctx, batch("", "2", 1, 2)), down)
	require.Empty(t, out.Records())
	require.NoError(t, out.Write(ctx, batch("", "1", 1)), "a shorter one: nothing was stored")

	out.LoseNext(1, down)
	require.ErrorIs(t, out.Write(ctx, batch("1", "2", 2)), down)
	require.Equal(t, source.Cursor("2"), out.Stored())
	require.ErrorIs(t, out.Write(ctx, batch("1", "3", 2, 3)), poller.ErrConflict, "a longer one: the shorter one was stored")
	require.NoError(t, out.Write(ctx, batch("1", "2", 2)))
	require.Equal(t, []int{1, 2}, out.Records())

	other := out.Open()
	_, err := other.Load(ctx)
	require.NoError(t, err)
	require.NoError(t, other.Write(ctx, batch("2", "3", 3)))
	require.ErrorIs(t, out.Write(ctx, batch("2", "3", 3)), poller.ErrConflict)
	require.Error(t, other.Write(ctx, batch("3", "\n", 4)))
	require.Equal(t, []int{1, 2, 3}, out.Records())

	other.Rewind("1")
	require.ErrorIs(t, other.Save(ctx, "3", "4"), poller.ErrConflict)
	at, err := out.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, source.Cursor("1"), at)
	require.Len(t, out.Calls(), 7)
	require.Equal(t, down, out.Calls()[0].Err)
}

func TestTransactionalIsACheckpointer(t *testing.T) {
	t.Parallel()
	var out sinktest.Transactional[int]
	require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
		Open: func(context.Context) (pollertest.Opened, error) {
			return pollertest.Opened{Checkpointer: out.Open()}, nil
		},
		Rewind: func(_ context.Context, to source.Cursor) error { out.Rewind(to); return nil },
	}))
}
