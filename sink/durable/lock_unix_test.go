//go:build unix && !aix && !solaris

package durable

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A child that was forked while the lock was held has a copy of its file until
// it becomes another program. It must not hold the lock for that long.
func TestAForkedChildHoldsNoLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, second := open(t, path), open(t, path)
	require.NoError(t, Lock(t.Context(), first))
	inherited, err := syscall.Dup(int(first.Fd()))
	require.NoError(t, err)
	defer syscall.Close(inherited)
	require.NoError(t, Unlock(first))
	ok, err := TryLock(second)
	require.NoError(t, err)
	require.True(t, ok)
}
