package lease_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/lease"
)

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "orders.lock")
	first, second := &lease.File{Path: path}, &lease.File{Path: path}
	never := func(context.Context) error { t.Error("both are active"); return nil }
	for range 2 {
		assert.Equal(t, errDown, first.Hold(t.Context(), func(ctx context.Context) error {
			err := second.Hold(ctx, never)
			assert.ErrorIs(t, err, poller.ErrStandby)
			assert.ErrorContains(t, err, path)
			return errDown
		}), "the result of active")
		first, second = second, first
	}
	assert.Panics(t, func() { _ = first.Hold(t.Context(), func(context.Context) error { panic("seven") }) })
	require.NoError(t, second.Hold(t.Context(), func(context.Context) error { return nil }))

	ctx, cancel := context.WithCancelCause(t.Context())
	require.NoError(t, first.Hold(ctx, func(held context.Context) error {
		cancel(errDown)
		<-held.Done()
		assert.Equal(t, errDown, context.Cause(held))
		assert.ErrorIs(t, second.Hold(t.Context(), never), poller.ErrStandby, "the lock is kept until the replica has ended")
		return nil
	}))
}

// A lock on a file that was removed does not keep the others away, so it is lost.
func TestAFileThatIsRemovedOrReplaced(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced": func(path string) error {
			if err := os.Rename(path, path+".old"); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o600)
		},
		"directory removed": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "locks", "orders.lock")
			require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
			l := &lease.File{Path: path}
			require.NoError(t, l.Hold(t.Context(), func(held context.Context) error {
				require.NoError(t, change(path))
				<-held.Done()
				assert.ErrorIs(t, context.Cause(held), poller.ErrLeaseLost)
				assert.ErrorContains(t, context.Cause(held), path)
				return nil
			}))
		})
	}
}

func TestAFileThatCannotBeLocked(t *testing.T) {
	t.Parallel()
	err := (&lease.File{Path: filepath.Join(t.TempDir(), "missing", "orders.lock")}).Hold(t.Context(), nil)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.NotErrorIs(t, err, poller.ErrStandby)
	assert.Error(t, (&lease.File{}).Hold(t.Context(), nil))
}
