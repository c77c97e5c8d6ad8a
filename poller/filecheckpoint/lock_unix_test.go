//go:build unix && !aix && !solaris

package filecheckpoint

import (
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A child that was forked while the lock was held has a copy of its file until it
// becomes another program. It does not hold the lock for that long.
func TestAForkedChildHoldsNoLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "c")
		f, err := Open(path, Options{})
		require.NoError(t, err)
		l, err := lock(t.Context(), path+lockSuffix)
		require.NoError(t, err)
		inherited, err := syscall.Dup(int(l.Fd()))
		require.NoError(t, err)
		defer syscall.Close(inherited)
		require.NoError(t, release(l))
		require.NoError(t, f.Rewind("a"))
	})
}
