package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAReleaseThatNeverLetsADeployEndIsGivenUp(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.kill = func(_ int, step string) bool { return step == "restart" && w.current() == "1.1.0" }
		for range tries {
			require.ErrorIs(t, w.run(), errKilled)
		}
		w.kill = nil
		require.ErrorIs(t, w.run(), errRolledBack)
		w.runs("1.0.0")
		require.Contains(t, w.memory().Quarantined[0].Reason, "ended 3 times")
	})
}

func TestAFullDiskDoesNotKeepFromRollingBack(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", crashes, "")
		restarted := false
		w.fail = func(_ int, step string) error {
			restarted = restarted || step == "restart"
			if restarted && step == "write state.json" {
				return syscall.ENOSPC
			}
			return nil
		}
		err := w.run()
		require.ErrorIs(t, err, errRolledBack)
		require.ErrorIs(t, err, syscall.ENOSPC)
		w.runs("1.0.0")
		w.fail = nil
		require.ErrorIs(t, w.run(), errRolledBack)
		w.runs("1.0.0")
		require.Len(t, w.memory().Quarantined, 1)
	})
}

func TestAFullDiskDoesNotKeepFromTheLock(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		require.NoError(t, os.Symlink("/dev/full", filepath.Join(w.updater().config.state, "lock")))
		require.NoError(t, w.run())
	})
}

func TestAKilledRollbackDoesNotTryTheBadReleaseAgain(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", crashes, "")
		restarts := 0
		w.kill = func(_ int, step string) bool {
			if step == "restart" {
				restarts++
			}
			return restarts > 4 // before and after that of two units
		}
		require.ErrorIs(t, w.run(), errKilled)
		w.kill = nil
		require.ErrorIs(t, w.run(), errRolledBack)
		require.Equal(t, []string{"1.0.0", "1.1.0", "1.0.0"}, w.units[theUnit].ran)
		require.NotEmpty(t, w.memory().Quarantined[0].Reason)
	})
}

func TestStoppedInTheMiddle(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		require.ErrorContains(t, w.updater().update(ctx), "the next run goes on")
		require.Equal(t, 0, w.memory().Pending.Tries)
		require.NoError(t, w.run())
		w.runs("1.1.0")
	})
}

func TestAReleaseMadeCurrentByOthersWins(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.kill = func(_ int, step string) bool { return step == "restart" }
		require.ErrorIs(t, w.run(), errKilled)
		w.kill = nil
		w.install("1.5.0")
		for name := range w.units {
			w.start(name)
		}
		require.NoError(t, w.run())
		w.runs("1.5.0")
		require.Nil(t, w.memory().Pending)
	})
}

func TestAReleaseThatWasChangedInTheMiddleIsNotRun(t *testing.T) {
	for _, spoil := range []func(path string) error{os.Remove, func(path string) error { return os.WriteFile(path, []byte("other"), 0o755) }} {
		within(t, func(t *testing.T, w *world) {
			w.release("1.1.0", good, "")
			w.kill = func(_ int, step string) bool { return step == "link" }
			require.ErrorIs(t, w.run(), errKilled)
			require.NoError(t, spoil(w.updater().binary("1.1.0")))
			u := w.updater()
			u.step = nil
			require.ErrorIs(t, u.update(t.Context()), errRolledBack)
			w.runs("1.0.0")
			require.NotContains(t, w.units[theUnit].ran, "1.1.0")
		})
	}
}

func TestAStagedReleaseThatWasChangedIsNotRun(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.outage = true
		require.ErrorIs(t, w.run(), errDeferred)
		w.outage = false
		require.NoError(t, os.WriteFile(w.updater().binary("1.1.0"), []byte("other"), 0o755))
		w.index.Releases[0].File = "none"
		w.publish()
		require.ErrorContains(t, w.updater().update(t.Context()), "other bytes")
		require.Equal(t, "1.0.0", w.current())
	})
}
