//go:build linux

package faults

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var lastingDir struct {
	sync.Mutex
	path string
}

// lasting returns a directory that lasts as long as the test process, and that every user
// can read.
func lasting(tb testing.TB) string {
	tb.Helper()
	lastingDir.Lock()
	defer lastingDir.Unlock()
	if lastingDir.path == "" {
		dir, err := os.MkdirTemp("", "faults-")
		require.NoError(tb, err)
		require.NoError(tb, os.Chmod(dir, 0o755))
		lastingDir.path = dir
	}
	return lastingDir.path
}

func removeLasting() {
	if lastingDir.path != "" {
		os.RemoveAll(lastingDir.path)
	}
}
