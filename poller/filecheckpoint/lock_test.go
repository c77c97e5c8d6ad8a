package filecheckpoint

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A lock that a stopped process never releases does not make a person wait
// forever.
func TestLockHeldForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "c")
		f, err := Open(path, Options{})
		require.NoError(t, err)
		dir, err := openDirectory(filepath.Dir(path), false)
		require.NoError(t, err)
		defer dir.Close()
		unlock, err := dir.lock(t.Context(), "c"+lockSuffix)
		require.NoError(t, err)
		start := time.Now()
		require.ErrorContains(t, f.Rewind("a"), "waiting for the lock "+path+".lock, which another handle holds")
		_, err = f.History()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, time.Since(start), time.Minute)
		unlock()
		require.NoError(t, f.Rewind("a"))
	})
}
