package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The program prints its spans, and the service sees the traces of the batches.
func TestRun(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	count := map[string]int{}
	for spans := json.NewDecoder(strings.NewReader(out.String())); spans.More(); {
		var span struct{ Name string }
		require.NoError(t, spans.Decode(&span))
		count[span.Name]++
	}
	assert.Equal(t, map[string]int{"load": 1, "batch": 3, "fetch": 3, "write": 3, "save": 3}, count)
}
