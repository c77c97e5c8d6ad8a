package filesink_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/filesink"
)

// committed returns what a reader sees that takes no lock.
func committed(t *testing.T, dir string) string {
	t.Helper()
	parts, err := filesink.Committed(dir)
	require.NoError(t, err)
	var all strings.Builder
	for i, p := range parts {
		require.Equal(t, dir, filepath.Dir(p.Path))
		require.False(t, p.Open && i < len(parts)-1)
		r, err := p.Reader(0)
		require.NoError(t, err)
		n, err := io.Copy(&all, r)
		require.NoError(t, err)
		require.Equal(t, p.Bytes, n)
		require.NoError(t, r.Close())
	}
	return all.String()
}

func TestCommitted(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	_, err := filesink.Committed(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	crashed, sealed, copied := filepath.Join(t.TempDir(), "crashed"), 0, make(chan struct{})
	f := open(t, dir, filesink.Options[order]{Name: "orders", SegmentRows: 4, OnSeal: func(_ context.Context, s filesink.Segment) error {
		if sealed++; sealed == 2 {
			<-copied
		}
		return nil
	}})
	require.Empty(t, committed(t, dir))
	for i := range 11 {
		require.NoError(t, f.Write(ctx, batch(i, i+1)))
		require.Equal(t, lines(0, i+1), committed(t, dir))
		if i == 7 { // as before the second segment got its final name
			require.NoError(t, os.CopyFS(crashed, os.DirFS(dir)))
			name := filepath.Join(crashed, "orders-0000000002.jsonl")
			require.NoError(t, os.Rename(name, name+".open"))
			close(copied)
		}
	}
	require.Equal(t, lines(0, 8), committed(t, crashed))

	// Bytes that are not committed are left out.
	openName := filepath.Join(dir, "orders-0000000003.jsonl.open")
	text, err := os.ReadFile(openName)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(openName, append(text, "uncommitted"...), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "orders-0000000004.jsonl.open"), []byte("uncommitted"), 0o600))
	require.Equal(t, lines(0, 11), committed(t, dir))
	require.NoError(t, os.WriteFile(openName, text, 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, "orders-0000000004.jsonl.open")))

	// A segment that is sealed between the two calls is found under its final name.
	parts, err := filesink.Committed(dir)
	require.NoError(t, err)
	require.Len(t, parts, 3)
	require.True(t, parts[2].Open)
	require.Equal(t, uint64(3), parts[2].Number)
	require.NoError(t, f.Seal(ctx))
	r, err := parts[2].Reader(9)
	require.NoError(t, err)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, lines(9, 11), string(rest))
	for _, offset := range []int64{-1, parts[2].Bytes + 1} {
		_, err = parts[2].Reader(offset)
		require.ErrorContains(t, err, "is not in the")
	}

	// A consumer takes a segment.
	require.NoError(t, os.Remove(parts[0].Path))
	_, err = parts[0].Reader(0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, lines(4, 11), committed(t, dir))
}

func TestReadContents(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	_, err := filesink.ReadContents(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	f := open(t, dir, filesink.Options[order]{SegmentRows: 3, SegmentAge: -1})
	for i := range 8 {
		require.NoError(t, f.Write(ctx, batch(i, i+1)))
		c, err := filesink.ReadContents(dir)
		require.NoError(t, err)
		require.Equal(t, cursor(i+1), c.Cursor)
		require.Len(t, c.Parts, i/3+1)
		require.EqualValues(t, i/3+1, c.Count)
		require.Empty(t, c.Rewinds)
	}
	c, err := filesink.ReadContents(dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(c.Parts[0].Path))
	require.NoError(t, f.Rewind(cursor(2)))
	c, err = filesink.ReadContents(dir)
	require.NoError(t, err)
	require.Equal(t, []filesink.Rewind{{Segment: 4, From: cursor(8), To: cursor(2)}}, c.Rewinds)
	require.Equal(t, cursor(2), c.Cursor)
	require.Len(t, c.Parts, 2)
	require.EqualValues(t, 3, c.Count)
	_, err = f.Load(ctx)
	require.NoError(t, err)
	require.NoError(t, f.Write(ctx, batch(2, 4)))
	c, err = filesink.ReadContents(dir)
	require.NoError(t, err)
	require.Len(t, c.Rewinds, 1)

	// Two rewinds without a record between them are one, also if the cursor has moved.
	for range 60 {
		require.NoError(t, f.Rewind(cursor(1)))
		_, err = f.Load(ctx)
		require.NoError(t, err)
		require.NoError(t, f.Save(ctx, cursor(1), cursor(3)))
		require.NoError(t, f.Rewind(cursor(2)))
		c, err = filesink.ReadContents(dir)
		require.NoError(t, err)
		require.Equal(t, filesink.Rewind{Segment: c.Count + 1, From: cursor(4), To: cursor(2)}, c.Rewinds[len(c.Rewinds)-1])
		_, err = f.Load(ctx)
		require.NoError(t, err)
		require.NoError(t, f.Write(ctx, batch(2, 4)))
	}
	require.Len(t, c.Rewinds, 50)
	history, err := f.History()
	require.NoError(t, err)
	require.Equal(t, history[len(history)-1].Time, c.Created)
}
