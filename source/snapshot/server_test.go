package snapshot

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The time of a moment is noted after prepare's statements and before begun. What takes the moment must not be one of
// the statements: a commit between it and the note would count as read.
func TestMomentIsNotedBeforeItIsTaken(t *testing.T) {
	t.Parallel()
	statements, err := mysql{}.prepare(t.Context(), nil, nil)
	require.NoError(t, err)
	for _, s := range statements {
		require.False(t, strings.HasPrefix(s, "START TRANSACTION"), s)
	}
}
