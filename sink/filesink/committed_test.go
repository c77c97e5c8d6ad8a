package filesink_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/filesink"
)

// committed returns the records that are committed, and the numbers of their segments.
func committed(t *testing.T, dir string) (c filesink.Contents, text string, numbers []uint64) {
	t.Helper()
	c, err := filesink.Committed(dir)
	require.NoError(t, err)
	for _, s := range c.Segments {
		f, err := s.Open()
		require.NoError(t, err)
		b, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		text += string(b)
		numbers = append(numbers, s.Number)
	}
	return c, text, numbers
}

func TestCommitted(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	_, err := filesink.Committed(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)

	f := open(t, dir, filesink.Options[order]{Name: "orders", SegmentRows: 3, SegmentAge: -1})
	c, _, _ := committed(t, dir)
	require.Empty(t, c.Segments)
	for n := range 8 {
		require.NoError(t, f.Write(ctx, batch(n, n+1)))
		c, text, _ := committed(t, dir)
		require.Equal(t, lines(0, n+1), text)
		require.Equal(t, cursor(n+1), c.Cursor)
		require.False(t, c.Rewound)
	}

	// Bytes that are not committed, a segment that a consumer took, one of another name,
	// and one that is sealed after it was listed.
	tail, err := os.OpenFile(filepath.Join(dir, "orders-0000000003.jsonl.open"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = tail.WriteString("not committed\n")
	require.NoError(t, err)
	require.NoError(t, tail.Close())
	require.NoError(t, os.Remove(filepath.Join(dir, "orders-0000000001.jsonl")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other-0000000001.jsonl"), []byte("{}\n"), 0o600))
	c, text, numbers := committed(t, dir)
	require.Equal(t, lines(3, 8), text)
	require.Equal(t, []uint64{2, 3}, numbers)
	require.EqualValues(t, 3, c.Count)
	require.NoError(t, os.Rename(c.Segments[1].Path+".open", c.Segments[1].Path))
	last, err := c.Segments[1].Open()
	require.NoError(t, err)
	b, err := io.ReadAll(last)
	require.NoError(t, err)
	require.NoError(t, last.Close())
	require.Equal(t, lines(6, 8), string(b))
	require.NoError(t, os.Remove(c.Segments[1].Path))
	_, err = c.Segments[1].Open()
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestCommittedAfterARewind(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	f := open(t, dir, filesink.Options[order]{Name: "orders"})
	require.NoError(t, f.Write(ctx, batch(0, 5)))
	require.NoError(t, f.Rewind(cursor(2)))
	c, text, _ := committed(t, dir)
	require.True(t, c.Rewound)
	require.Equal(t, cursor(2), c.Cursor)
	require.Equal(t, lines(0, 5), text)
	_, err := f.Load(ctx)
	require.NoError(t, err)
	require.NoError(t, f.Write(ctx, batch(2, 4)))
	c, text, numbers := committed(t, dir)
	require.False(t, c.Rewound)
	require.Equal(t, lines(0, 5)+lines(2, 4), text)
	require.Equal(t, []uint64{1, 2}, numbers)
}
