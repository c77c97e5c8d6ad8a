package filesink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// TestPipelineIsExactlyOnce crashes a whole pipeline at every call it makes.
func TestPipelineIsExactlyOnce(t *testing.T) {
	t.Parallel()
	limit := 200
	if testing.Short() {
		limit = 30
	}
	expected := batch(0, 7).Records
	n, err := pollertest.Explore(t.Context(), pollertest.Exploration[order]{
		Expected:    expected,
		ExactlyOnce: true,
		Limit:       limit,
		New: func(context.Context) (pollertest.Machine[order], error) {
			dir, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				return pollertest.Machine[order]{}, err
			}
			var src sourcetest.Fake[order]
			src.Append(expected...)
			var files *filesink.Dir[order]
			return pollertest.Machine[order]{
				Start: func(context.Context) (*poller.Poller[order], error) {
					files, err = filesink.Open(dir, filesink.Options[order]{SegmentRows: 3})
					return &poller.Poller[order]{Name: "test", Source: &src, Sink: files, Checkpointer: files, BatchSize: 2}, err
				},
				Kill:      func() error { return files.Close() },
				Delivered: func(context.Context) ([]order, error) { return decode(content(t, dir)) },
				Remove:    func() error { return os.RemoveAll(dir) },
			}, nil
		},
	})
	require.NoError(t, err)
	require.Greater(t, n, limit/2)
	t.Logf("%d scenarios", n)
}

func decode(text string) (all []order, err error) {
	for line := range bytes.Lines([]byte(text)) {
		var o order
		if err := json.Unmarshal(line, &o); err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}
