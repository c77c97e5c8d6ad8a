package filesink_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

type measure struct {
	ID    int     `json:"id"`
	Value float64 `json:"value"`
}

func TestSinkContract(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]filesink.Options[measure]{
		"one segment":   {},
		"many segments": {SegmentRows: 2},
		"gzip":          {SegmentRows: 4, Encoder: filesink.Gzip(filesink.JSONLines[measure]())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, sinktest.TestSink(t.Context(), sinktest.Options[measure]{
				Open: func(context.Context) (sinktest.Opened[measure], error) {
					f, err := filesink.Open(dir, o)
					if err != nil {
						return sinktest.Opened[measure]{}, err
					}
					return sinktest.Opened[measure]{Sink: f, Checkpointer: f, Close: f.Close}, nil
				},
				Read: func(context.Context) (all []measure, err error) {
					for line := range strings.Lines(unzipped(t, dir)) {
						var m measure
						err = errors.Join(err, json.Unmarshal([]byte(line), &m))
						all = append(all, m)
					}
					return all, err
				},
				Record:    func(i int) measure { return measure{ID: i, Value: float64(i) / 4} },
				Poison:    func() measure { return measure{Value: math.NaN()} },
				Text:      func(m measure) string { b, _ := json.Marshal(m.ID); return string(b) },
				Exclusive: true,
			}))
		})
	}
}

func TestCheckpointerContract(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var last *filesink.Dir[measure]
	require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
		Open: func(context.Context) (pollertest.Opened, error) {
			f, err := filesink.Open(dir, filesink.Options[measure]{})
			if err != nil {
				return pollertest.Opened{}, err
			}
			last = f
			return pollertest.Opened{Checkpointer: f, Close: f.Close}, nil
		},
		Rewind:    func(_ context.Context, to source.Cursor) error { return last.Rewind(to) },
		Exclusive: true,
	}))
}
