package filesink

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
)

func TestBufferIsReleasedWhenIdle(t *testing.T) {
	t.Parallel()
	f, err := Open(t.TempDir(), Options[string]{})
	require.NoError(t, err)
	defer f.Close()
	large := []string{strings.Repeat("x", 1<<20)}
	b := source.Batch[string]{To: "1", Records: large, More: true}
	require.NoError(t, f.Write(context.Background(), b))
	require.GreaterOrEqual(t, cap(f.buf), 1<<20, "more comes at once")
	b = source.Batch[string]{From: "1", To: "2", Records: large}
	require.NoError(t, f.Write(context.Background(), b))
	require.LessOrEqual(t, cap(f.buf), keepBuffer)
}
