package filesink_test

import (
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
	crashed, sealed := filepath.Join(t.TempDir(), "crashed"), 0
	f := open(t, dir, filesink.Options[order]{Name: "orders", SegmentRows: 4, OnSeal: func(s filesink.Segment) {
		if sealed++; sealed == 2 { // as before it got its final name
			require.NoError(t, os.CopyFS(crashed, os.DirFS(dir)))
			name := filepath.Join(crashed, filepath.Base(s.Path))
			require.NoError(t, os.Rename(name, name+".open"))
		}
	}})
	require.Empty(t, committed(t, dir))
	for i := range 11 {
		require.NoError(t, f.Write(ctx, batch(i, i+1)))
		require.Equal(t, lines(0, i+1), committed(t, dir))
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
