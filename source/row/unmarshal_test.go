package row_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

func TestUnmarshalJSON(t *testing.T) {
	t.Parallel()
	columns := row.NewColumns(
		[]string{"id", "note", "price", "doc", "raw", "bin", "none", "ok", "id", "ä\"\n"},
		[]row.Kind{row.Number, row.Text, row.Number, row.JSON, row.Text, row.Bytes})
	for _, values := range [][]any{
		{int64(9223372036854775807), "ä \u2028\"\\\n<&>", "1.10", `{"a": [1, 2.50, null]}`, "\xff\xfe", []byte{0, 1}, nil, true, "x", 1e300},
		{uint64(18446744073709551615), "", "-0.00001", `"text"`, "", []byte{}, nil, false, " y ", "NaN"},
		{nil, nil, nil, nil, nil, nil, nil, nil, nil, nil},
	} {
		r, err := row.Of(columns, values...)
		require.NoError(t, err)
		var again row.Row
		require.NoError(t, json.Unmarshal([]byte(appendJSON(t, r)), &again))
		assert.Equal(t, appendJSON(t, r), appendJSON(t, again))
		if values[3] != `"text"` { // JSON text is a string, which CSV does not quote as JSON
			assert.Equal(t, appendCSV(t, r), appendCSV(t, again))
		}
		assert.Equal(t, string(r.AppendCSVHeader(nil)), string(again.AppendCSVHeader(nil)))
	}
	var empty row.Row
	require.NoError(t, json.Unmarshal([]byte(" {} "), &empty))
	assert.Equal(t, "{}", appendJSON(t, empty))
}

func TestUnmarshalJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`[]`, `1`, `null`, `"secret"`} {
		var r row.Row
		require.EqualError(t, r.UnmarshalJSON([]byte(text)), "row: a row is one JSON object", text)
		assert.Nil(t, r.Columns())
	}
	for _, text := range []string{``, `{`, `{"a"`, `{"a":secret}`, `{"a":1`, `{"a":"\x"}`} {
		var r row.Row
		require.EqualError(t, r.UnmarshalJSON([]byte(text)), "row: a row is one JSON object", text)
	}
}
