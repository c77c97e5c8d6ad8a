package main_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A report that cannot be written is an error, not a success.
func TestAReportThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	_, args := drawn(t, 5)
	for _, action := range [][]string{{"-check"}, {"-audit", "100ms"}} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		require.NoError(t, err)
		p := command(t, nil, append(args, action...)...)
		p.Stdout = full
		_ = p.Run()
		require.NoError(t, full.Close())
		require.Equal(t, 1, p.ProcessState.ExitCode())
		require.Contains(t, p.stderr.String(), "no space left on device")
	}
}
