package diffsource

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// Each pair of values, by the kinds of their columns.
func TestSameValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind  row.Kind
		a     any
		other row.Kind
		b     any
		same  bool
	}{
		{row.Auto, nil, row.Text, nil, true},
		{row.Auto, nil, row.Text, "", false},
		{row.Text, "a", row.Text, "a", true},
		{row.Text, "a", row.Text, "A", false},
		{row.Text, "a", row.Text, "a ", false},
		{row.Text, "1.0", row.Text, "1.00", false},
		{row.Number, "1.0", row.Number, "1.00", true},
		{row.Number, "1e2", row.Number, "100", true},
		{row.Number, "-0", row.Number, "0.0", true},
		{row.Number, "1.00", row.Auto, int64(1), true},
		{row.Number, "1.01", row.Auto, int64(1), false},
		{row.Number, "9007199254740993", row.Number, "9007199254740992", false},
		{row.Number, "0.1", row.Auto, 0.1, true},
		{row.Number, "1e999999999", row.Number, "2e999999999", false},
		{row.Text, "1.50", row.Auto, 1.5, true},
		{row.Auto, true, row.Number, "1", true},
		{row.Auto, false, row.Number, "0", true},
		{row.Auto, true, row.Number, "0", false},
		{row.Auto, true, row.Text, "x", false},
		{row.Number, "NaN", row.Number, "NaN", true},
		{row.Number, "NaN", row.Number, "1", false},
		{row.Bytes, []byte{0, 255}, row.Auto, []byte{0, 255}, true},
		{row.Bytes, []byte{0, 255}, row.Text, "AP8=", false},
		{row.Auto, "AP8=", row.Auto, []byte{0, 255}, false},
		{row.Bytes, []byte("1"), row.Number, "1", false},
		{row.TimestampTZ, "2026-01-02T03:04:05Z", row.Timestamp, "2026-01-02T03:04:05", true},
		{row.TimestampTZ, "2026-01-02T03:04:05Z", row.Text, "2026-01-02 04:04:05.000+01:00", true},
		{row.TimestampTZ, "2026-01-02T03:04:05Z", row.Text, "2026-01-02 04:04:05+01", true},
		{row.TimestampTZ, "2026-01-02T03:04:05Z", row.Timestamp, "2026-01-02T03:04:05.000001", false},
		{row.Text, "2026-01-02 03:04:05", row.Text, "2026-01-02T03:04:05", false},
		{row.Date, "2026-01-02", row.Text, "2026-01-02", true},
		{row.Date, "2026-01-02", row.Date, "2026-01-03", false},
		{row.Time, "03:04", row.Time, "03:04:00", true},
		{row.JSONB, `{"a": 1.0, "b": [null]}`, row.JSON, `{"b":[null],"a":1}`, true},
		{row.JSONB, `{"a": 1}`, row.Text, `{"a":1}`, true},
		{row.JSONB, `{"a": "1"}`, row.JSON, `{"a":1}`, false},
		{row.JSONB, `[1, 2]`, row.JSON, `[2,1]`, false},
		{row.JSONB, `[1]`, row.JSON, `[1,1]`, false},
	} {
		one := func(kind row.Kind, v any) row.Row {
			r, err := row.Of(row.NewColumns([]string{"v"}, []row.Kind{kind}), v)
			require.NoError(t, err)
			return r
		}
		r, s := one(c.kind, c.a), one(c.other, c.b)
		require.Equal(t, c.same, sameValue(r, 0, s, 0), "%v %v and %v %v", c.kind, c.a, c.other, c.b)
		require.Equal(t, c.same, sameValue(s, 0, r, 0), "%v %v and %v %v", c.other, c.b, c.kind, c.a)
		require.True(t, sameValue(r, 0, r, 0))
	}
}
