package sqlsource

import (
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func TestPending(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ after, greatest, want int64 }{
		{5, 7, 2}, {7, 7, 0}, {9, 7, 0}, {-5, 3, 8}, {-5, -3, 2}, {0, math.MaxInt64, math.MaxInt64},
		{5, 0, 0}, {math.MinInt64, math.MaxInt64, 0}, {math.MaxInt64, math.MinInt64, 0},
	} {
		w := window{Limit: ceiling.Limit{Greatest: c.greatest}}
		one := dialect.Value{Tag: dialect.Int, Text: strconv.FormatInt(c.after, 10)}
		require.Equal(t, c.want, w.pending([]dialect.Value{one}), "%d to %d", c.after, c.greatest)
		require.Zero(t, w.pending([]dialect.Value{one, one}), "several rows can share a value")
		require.Zero(t, w.pending(nil), "rows can have keys below 1")
	}
	w := window{Limit: ceiling.Limit{Greatest: 7}}
	require.Zero(t, w.pending([]dialect.Value{{Tag: dialect.Text, Text: "a"}}))
}
