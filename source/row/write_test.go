package row_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// sizes is a writer that keeps the size of the largest part. Its Write fails once it has got
// limit bytes, if that is above 0.
type sizes struct {
	bytes.Buffer
	largest, limit int
}

var errSizes = errors.New("no space")

func (s *sizes) Write(p []byte) (int, error) {
	if s.limit > 0 && s.Len() >= s.limit {
		return 0, errSizes
	}
	s.largest = max(s.largest, len(p))
	return s.Buffer.Write(p)
}

// What is written in parts is what is appended, wherever the parts end.
func TestWrite(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, part := range []string{"x", "\"", "\x01", "é", "日本", "\xff", "\\n\r\n,", `{"a":"b"},`} {
		for _, size := range []int{0, 1, 1000, 48 << 10, 1 << 20} {
			long := strings.Repeat(part, size/len(part)+random.IntN(9))
			r := rowOf(t, []row.Kind{row.Text, row.Number, row.Bytes, row.JSONB}, long, int64(42), nil, []byte(`["`+strings.Repeat("b", size)+`"]`))
			require.GreaterOrEqual(t, r.Size(), len(long))

			want, err := r.AppendJSON(nil)
			require.NoError(t, err)
			var got sizes
			require.NoError(t, r.WriteJSON(&got))
			require.Equal(t, string(want), got.String())
			want, err = r.AppendCSV(nil)
			require.NoError(t, err)
			got = sizes{limit: 0}
			require.NoError(t, r.WriteCSV(&got))
			require.Equal(t, string(want), got.String())
		}
	}
	r := rowOf(t, []row.Kind{row.Text, row.Text}, strings.Repeat("\x01", 10<<20), strings.Repeat("\"", 10<<20))
	for _, write := range []func(*sizes) error{func(s *sizes) error { return r.WriteJSON(s) }, func(s *sizes) error { return r.WriteCSV(s) }} {
		var got sizes
		require.NoError(t, write(&got))
		require.Less(t, got.largest, 11<<20)
		require.ErrorIs(t, write(&sizes{limit: 1 << 20}), errSizes)
	}
	require.Error(t, row.Row{}.WriteJSON(&sizes{}))
	require.Error(t, row.Row{}.WriteCSV(&sizes{}))
	require.Zero(t, row.Row{}.Size())
	none := rowOf(t, nil)
	var got sizes
	require.NoError(t, none.WriteJSON(&got))
	require.Equal(t, "{}", got.String())
}

func rowOf(t *testing.T, kinds []row.Kind, values ...any) row.Row {
	t.Helper()
	names := []string{"a", "b", "c", "d"}[:len(values)]
	r, err := row.Of(row.NewColumns(names, kinds), values...)
	require.NoError(t, err)
	return r
}
