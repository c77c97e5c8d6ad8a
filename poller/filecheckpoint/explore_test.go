package filecheckpoint_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// A pipeline with its checkpoint in a file crashes at every call. Each crash causes
// at most one batch to be delivered twice.
func TestPipelineIsAtLeastOnce(t *testing.T) {
	t.Parallel()
	limit := 200
	if testing.Short() {
		limit = 30
	}
	expected := []int{1, 2, 3, 4, 5}
	n, err := pollertest.Explore(t.Context(), pollertest.Exploration[int]{
		Expected: expected,
		Limit:    limit,
		New: func(context.Context) (pollertest.Machine[int], error) {
			dir, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				return pollertest.Machine[int]{}, err
			}
			var src sourcetest.Fake[int]
			src.Append(expected...)
			var out sinktest.Fake[int]
			var file *filecheckpoint.File
			return pollertest.Machine[int]{
				Start: func(context.Context) (*poller.Poller[int], error) {
					file, err = filecheckpoint.Open(filepath.Join(dir, "checkpoint"), filecheckpoint.Options{})
					return &poller.Poller[int]{Name: "test", Source: &src, Sink: &out, Checkpointer: file, BatchSize: 2}, err
				},
				Kill:      func() error { return file.Close() },
				Delivered: func(context.Context) ([]int, error) { return out.Records(), nil },
				Remove:    func() error { return os.RemoveAll(dir) },
			}, nil
		},
	})
	require.NoError(t, err)
	require.Greater(t, n, limit/2)
	t.Logf("%d scenarios", n)
}
