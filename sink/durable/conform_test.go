package durable_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/pollertest"
)

// The example keeps both contracts.
func TestExampleIsExactlyOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "totals.json")
	require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
		Open: func(context.Context) (pollertest.Opened, error) {
			return pollertest.Opened{Checkpointer: &Totals{Path: path}}, nil
		},
	}))
}
