package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDeploy(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		require.NoError(t, w.run())
		w.runs("1.1.0")
		assert.EqualValues(t, 1, w.memory().Deploys)
		assert.Contains(t, w.log.String(), "level=INFO msg=deployed from=1.0.0 to=1.1.0 took=3")

		w.log.Reset()
		require.NoError(t, w.run())
		assert.Contains(t, w.log.String(), `msg="up to date" version=1.1.0`)
		assert.EqualValues(t, 1, w.memory().Deploys)
		assert.Equal(t, []string{"1.0.0", "1.1.0"}, w.units[theUnit].ran)
	})
}

func TestBadReleasesAreRolledBackAndNotTriedAgain(t *testing.T) {
	for _, b := range bad {
		t.Run(string(b), func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				w.release("1.1.0", b, "")
				err := w.run()
				require.ErrorIs(t, err, errRolledBack)
				require.Equal(t, 4, code(err))
				w.runs("1.0.0")
				require.NoError(t, w.run())
				require.Equal(t, []string{"1.0.0", "1.1.0", "1.0.0"}, w.units[theUnit].ran)
				require.Equal(t, "1.1.0", w.memory().Quarantined[0].Version)
				require.NotEmpty(t, w.memory().Quarantined[0].Reason)
				t.Log(w.memory().Quarantined[0].Reason)

				w.release("1.2.0", good, "")
				require.NoError(t, w.run())
				w.runs("1.2.0")
				require.Empty(t, w.memory().Quarantined, "it is too old to be looked at")
			})
		})
	}
}

func TestQuarantineIsOfTheVersionWhateverItsBytes(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", crashes, "")
		require.ErrorIs(t, w.run(), errRolledBack)
		w.replace("1.1.0", []byte("mended"))
		require.NoError(t, w.run())
		w.runs("1.0.0")
		require.Contains(t, w.log.String(), "give them a new version")

		w.replace("1.1.0", binary("1.1.0"))
		w.behaves["1.1.0"] = good
		require.NoError(t, w.run())
		w.runs("1.0.0")
		require.NoError(t, w.run(func(c *config) { c.unquarantine = "1.1.0" }))
		require.NoError(t, w.run())
		w.runs("1.1.0")
		require.ErrorContains(t, w.run(func(c *config) { c.unquarantine = "1.1.0" }), "not in quarantine")
	})
}

func TestDeferredWhileTheDatabaseIsDown(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.outage = true
		err := w.run()
		require.ErrorIs(t, err, errDeferred)
		require.Equal(t, 3, code(err))
		assert.Equal(t, []string{"1.0.0"}, w.units[theUnit].ran)
		assert.Equal(t, []string{"1.0.0", "1.1.0"}, w.installed(), "it is ready to be deployed")
		assert.EqualValues(t, 1, w.memory().Deferrals)
		assert.EqualValues(t, 0, w.memory().Failures)
		assert.Equal(t, "1.1.0", w.memory().Available)

		w.outage = false
		delete(w.files, "1.1.0")
		require.NoError(t, w.run())
		w.runs("1.1.0")
		assert.Empty(t, w.memory().Available)
	})
}

func TestAnOutageInTheMiddleIsNotTheReleasesFault(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.kill = func(_ int, step string) bool { w.outage = w.outage || step == "restart"; return false }
		require.ErrorIs(t, w.run(), errDeferred)
		w.runs("1.0.0")
		require.Empty(t, w.memory().Quarantined)
		require.Nil(t, w.memory().Pending)

		w.outage, w.kill = false, nil
		require.NoError(t, w.run())
		w.runs("1.1.0")
	})
}

func TestForce(t *testing.T) {
	force := func(c *config) { c.force = true }
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.behaves["1.0.0"] = notPolling
		w.behaves["1.0.0"] = unwell
		require.ErrorIs(t, w.run(), errDeferred)
		require.NoError(t, w.run(force))
		w.runs("1.1.0")
	})
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.stop(theUnit)
		w.stop(otherOne)
		require.ErrorContains(t, w.run(), "no unit is running")
		require.NoError(t, w.run(force))
		require.Equal(t, "1.1.0", w.current())
		require.Equal(t, []string{"1.0.0"}, w.units[theUnit].ran)
	})
}

func TestAFixReachesWhatCrashes(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.behaves["1.0.0"] = crashes
		w.release("1.1.0", good, "")
		require.NoError(t, w.run())
		w.runs("1.1.0")
	})
	within(t, func(t *testing.T, w *world) { // but what does not help either is not blamed
		w.behaves["1.0.0"] = crashes
		w.release("1.1.0", crashes, "")
		require.ErrorIs(t, w.run(), errDeferred)
		w.runs("1.0.0")
		require.Empty(t, w.memory().Quarantined)
	})
}

func TestStoppedUnitsStayStopped(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.stop(otherOne)
		w.release("1.1.0", good, "")
		require.NoError(t, w.run())
		require.Equal(t, "1.1.0", w.units[theUnit].version)
		require.True(t, w.units[otherOne].stopped)
	})
	within(t, func(t *testing.T, w *world) { // also those stopped in the middle
		w.release("1.1.0", good, "")
		w.kill = func(n int, step string) bool {
			if step == "restart" && !w.units[otherOne].restart.IsZero() {
				w.stop(theUnit)
				w.stop(otherOne)
			}
			return false
		}
		require.ErrorIs(t, w.run(), errDeferred)
		require.NotNil(t, w.memory().Pending, "it goes on when one is started")
		w.kill = nil
		w.start(theUnit)
		require.NoError(t, w.run())
		require.Equal(t, "1.1.0", w.units[theUnit].version)
		require.True(t, w.units[otherOne].stopped)
	})
}

func TestAUnitThatRunsAnOldReleaseIsRestarted(t *testing.T) {
	within(t, func(t *testing.T, w *world) { // as the prototype left it: swapped, and not restarted
		w.release("1.1.0", good, "")
		w.install("1.1.0")
		w.start(otherOne)
		require.NoError(t, w.run())
		w.runs("1.1.0")
	})
	within(t, func(t *testing.T, w *world) { // the package has brought a newer one than there is
		w.release("1.1.0", good, "")
		w.install("1.2.0")
		require.NoError(t, w.run())
		require.Equal(t, "1.2.0", w.current())
		require.Equal(t, []string{"1.0.0"}, w.units[theUnit].ran)
		require.Contains(t, w.log.String(), "another release is current than runs")
	})
}

func TestTheProcessMustRunTheNewFileWhateverItSays(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.pinned = true
		require.ErrorIs(t, w.run(), errRolledBack)
		require.Contains(t, w.memory().Quarantined[0].Reason, "it runs "+w.root+"/opt/releases/1.0.0/dbtofile")
	})
}

func TestPrune(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		for _, version := range []string{"1.1.0", "1.2.0", "1.3.0", "1.4.0"} {
			w.release(version, good, "")
			require.NoError(t, w.run(func(c *config) { c.keep = 1 }))
		}
		require.Equal(t, []string{"1.2.0", "1.3.0", "1.4.0"}, w.installed())
		w.tidy()
	})
}
