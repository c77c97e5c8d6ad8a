package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTurnsMayTakeLongOrBeRare(t *testing.T) {
	for _, b := range []behaviour{unhurried, rarely} {
		within(t, func(t *testing.T, w *world) {
			w.behaves["1.0.0"] = b
			w.release("1.1.0", b, "")
			require.NoError(t, w.run())
			w.runs("1.1.0")
		})
	}
}

func TestAClockThatIsSetDuringADeployIsNotTheReleasesFault(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		within(t, func(t *testing.T, w *world) {
			w.release("1.1.0", good, "")
			w.kill = func(_ int, step string) bool {
				if step == "restart" {
					w.ahead = by
				}
				return false
			}
			require.NoError(t, w.run())
			w.runs("1.1.0")
		})
	}
}

// The outage ends while the old release is being watched, which then does well:
// that does not put the blame on the new one.
func TestAnOutageThatEndsDuringTheRollbackIsNotTheReleasesFault(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.kill = func(_ int, step string) bool {
			if step == "restart" && !w.outage {
				w.outage, w.outageEnds = true, time.Now().Add(4*time.Minute)
			}
			return false
		}
		require.ErrorIs(t, w.run(), errDeferred)
		w.runs("1.0.0")
		require.Empty(t, w.memory().Quarantined)
		w.kill = nil
		require.NoError(t, w.run())
		w.runs("1.1.0")
	})
}

func TestARollbackThatHasNowhereToGo(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", crashes, "")
		u := w.updater()
		u.step = func(step string, do func() error) error {
			if step == "restart" {
				require.NoError(t, os.RemoveAll(filepath.Dir(u.binary("1.0.0"))))
			}
			return do()
		}
		require.ErrorContains(t, u.update(t.Context()), "no way back")
		require.Nil(t, w.memory().Pending)
		time.Sleep(time.Minute)
		w.release("1.2.0", good, "")
		require.NoError(t, w.run())
		w.runs("1.2.0")
	})
}

func TestAFixReachesWhatNeverGetsReady(t *testing.T) {
	s := unitState{Active: "activating", Sub: "start", Restarts: 3}
	require.True(t, s.dead(), "systemd has started it again and again")
	s.Restarts = 0
	require.False(t, s.dead())
}
