package durable

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, second := open(t, path), open(t, path)
	ok, err := TryLock(first)
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = TryLock(second)
	require.NoError(t, err)
	require.False(t, ok)
	_, err = first.WriteString("held by anna")
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err, "others can read the file")
	require.Equal(t, "held by anna", string(text))

	require.NoError(t, Unlock(first))
	require.ErrorIs(t, Unlock(first), os.ErrClosed)
	ok, err = TryLock(second)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, second.Close(), "releases it too")
	require.NoError(t, Lock(t.Context(), open(t, path)))
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lock")
		first, second := open(t, path), open(t, path)
		require.NoError(t, Lock(t.Context(), first))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, Lock(ctx, second), context.DeadlineExceeded)

		time.AfterFunc(time.Hour, func() { require.NoError(t, Unlock(first)) })
		began := time.Now()
		require.NoError(t, Lock(t.Context(), second))
		require.InDelta(t, time.Hour.Seconds(), time.Since(began).Seconds(), 0.1)

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		third := open(t, filepath.Join(t.TempDir(), "free"))
		require.ErrorIs(t, Lock(ended, third), context.Canceled)
	})
}

func TestLockOfAClosedFile(t *testing.T) {
	t.Parallel()
	f := open(t, filepath.Join(t.TempDir(), "lock"))
	require.NoError(t, f.Close())
	_, err := TryLock(f)
	require.Error(t, err)
	require.NotErrorIs(t, err, errors.ErrUnsupported)
}
