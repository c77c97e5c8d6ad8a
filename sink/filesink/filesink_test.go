package filesink_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
)

var (
	_ sink.Sink[order]    = (*filesink.Dir[order])(nil)
	_ poller.Checkpointer = (*filesink.Dir[order])(nil)
)

type order struct {
	ID   int    `json:"id"`
	Note string `json:"note,omitempty"`
}

func cursor(n int) source.Cursor {
	if n == 0 {
		return ""
	}
	return source.Cursor(fmt.Sprint(n))
}

// batch returns the orders after from, up to to.
func batch(from, to int) source.Batch[order] {
	b := source.Batch[order]{From: cursor(from), To: cursor(to)}
	for i := from + 1; i <= to; i++ {
		b.Records = append(b.Records, order{ID: i})
	}
	return b
}

// lines returns what batch writes.
func lines(from, to int) string {
	var b strings.Builder
	for i := from + 1; i <= to; i++ {
		fmt.Fprintf(&b, "{\"id\":%d}\n", i)
	}
	return b.String()
}

func open(t *testing.T, dir string, o filesink.Options[order]) *filesink.Dir[order] {
	t.Helper()
	f, err := filesink.Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// segments returns the names of the segments in dir, sorted, open ones too.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != "checkpoint" {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}

// content returns the segments of dir one after the other, open ones too.
func content(t *testing.T, dir string) string {
	t.Helper()
	var all []byte
	for _, name := range segments(t, dir) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		all = append(all, text...)
	}
	return string(all)
}

func TestWriteSealReopen(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "a", "b")
	f := open(t, dir, filesink.Options[order]{Name: "orders"})
	c, err := f.Load(ctx)
	require.NoError(t, err)
	require.Empty(t, c)
	require.Empty(t, segments(t, dir), "no rows, no segment")

	require.NoError(t, f.Write(ctx, batch(0, 3)))
	require.NoError(t, f.Save(ctx, "", "3"))
	require.Equal(t, []string{"orders-0000000001.jsonl.open"}, segments(t, dir))
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Write(ctx, batch(3, 4)), os.ErrClosed)

	f = open(t, dir, filesink.Options[order]{}) // keeps the name that it has
	c, err = f.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, source.Cursor("3"), c)
	require.NoError(t, f.Write(ctx, batch(3, 5)))
	require.NoError(t, f.Seal(ctx))
	require.NoError(t, f.Seal(ctx), "nothing to seal")
	require.Equal(t, []string{"orders-0000000001.jsonl"}, segments(t, dir))
	require.NoError(t, f.Write(ctx, batch(5, 6)))
	require.Equal(t, []string{"orders-0000000001.jsonl", "orders-0000000002.jsonl.open"}, segments(t, dir))
	require.Equal(t, lines(0, 6), content(t, dir))
}
