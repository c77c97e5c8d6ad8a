package row_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

func TestProject(t *testing.T) {
	t.Parallel()
	kinds := []row.Kind{row.Number, row.Text}
	columns := row.NewColumns([]string{"a", "b"}, kinds)
	var rows []row.Row
	for _, values := range [][]any{{int64(1), "x"}, {nil, ""}} {
		r, err := row.Of(columns, values...)
		require.NoError(t, err)
		rows = append(rows, r)
	}
	got := row.Project(rows, row.NewColumns([]string{"text", "gone", "number"}, []row.Kind{row.Text, row.Text, row.Number}), []int{1, -1, 0})
	require.Len(t, got, 2)
	assert.Equal(t, `{"text":"x","number":1}`, appendJSON(t, got[0]))
	assert.Equal(t, `{"text":"","number":null}`, appendJSON(t, got[1]))
	assert.True(t, got[0].IsUnchanged(1))
	assert.False(t, got[0].IsUnchanged(0))
	assert.Empty(t, row.Project(nil, columns, []int{0, 1}))
}
