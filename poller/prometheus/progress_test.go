package prometheus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// A sink that stores a part of a batch, or finds it too large, makes no error for the
// metrics: no alert fires for a pipeline that works.
func TestProgressIsNotAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(100)
		p := w.poller()
		p.BatchSize = 100
		p.Sink = sink.Func[int](func(_ context.Context, b source.Batch[int]) error {
			switch {
			case len(b.Records) > 60:
				return sink.TooLarge(errors.New("more than 60"))
			case len(b.Records) > 20:
				return sink.Stored(20, nil)
			case len(b.Records) > 1:
				return sink.Stored(1, errors.New("503 Service Unavailable"))
			}
			return nil
		})
		require.NoError(t, p.Drain(t.Context()))
		all := w.gather(t)
		assert.Equal(t, 100.0, all["rows_written_total"])
		assert.Zero(t, all["polls_total{outcome=error}"])
		assert.Contains(t, all, "polls_total{outcome=error}")
		assert.Contains(t, all, "errors_total{class=transient,stage=write}")
		for name, value := range all {
			if strings.HasPrefix(name, "errors_total") || strings.HasPrefix(name, "retries_total") {
				assert.Zero(t, value, name)
			}
		}
	})
}
