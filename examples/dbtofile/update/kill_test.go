package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// within runs a test in a bubble of time, with a world.
func within(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

// TestKilledAtEveryStep kills the first run at its 1st, 2nd, ... step, and requires
// that the next one mends it, whatever the release is like.
func TestKilledAtEveryStep(t *testing.T) {
	for _, b := range append(bad, good, slow) {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			points := 0
			for at := 1; points == at-1; at++ {
				within(t, func(t *testing.T, w *world) {
					w.release("1.1.0", b, "")
					w.kill = func(n int, _ string) bool { return n == at }
					first := w.run()
					if errors.Is(first, errKilled) {
						points = at
					}
					w.kill = nil
					second := w.run()
					if b == good || b == slow {
						require.NoError(w.t, second, "killed at step %d\n%s", at, &w.log)
						w.runs("1.1.0")
						require.Empty(w.t, w.memory().Quarantined)
					} else {
						require.True(w.t, errors.Is(first, errRolledBack) || second == nil || errors.Is(second, errRolledBack), "killed at step %d: %v\n%s", at, second, &w.log)
						require.NoError(w.t, w.run(), "%s", &w.log)
						w.runs("1.0.0")
						require.Len(w.t, w.memory().Quarantined, 1, "killed at step %d\n%s", at, &w.log)
						require.EqualValues(w.t, 1, w.memory().Rollbacks)
					}
					require.Nil(w.t, w.memory().Pending)
					w.tidy()
				})
			}
			require.Greater(t, points, 20, "steps at which a run was killed")
			t.Logf("killed at each of %d steps", points)
		})
	}
}

// TestRandomSchedules lets bad things happen in any order: kills of the updater,
// outages of the database, full disks, releases good and bad, units that are stopped. When they
// cease, a few runs must bring the newest good release about.
func TestRandomSchedules(t *testing.T) {
	const name = "DBTOFILE_UPDATE_TEST_SEED"
	first, count := uint64(time.Now().UnixNano()), uint64(40)
	if text := os.Getenv(name); text != "" {
		var err error
		first, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		count = 1
	}
	for seed := first; seed < first+count; seed++ {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			within(t, func(t *testing.T, w *world) { schedule(w, rand.New(rand.NewPCG(seed, 0))) })
		})
		if !ok {
			t.Fatalf("again with: %s=%d go test -run TestRandomSchedules ./dbtofile/update", name, seed)
		}
	}
}

func schedule(w *world, r *rand.Rand) {
	best := "1.0.0"
	minor := 0
	disturbed := map[string]bool{} // releases that an outage or kills may have put into quarantine
	for range 12 {
		switch r.IntN(6) {
		case 0, 1:
			minor++
			version, b := fmt.Sprintf("1.%d.0", minor), good
			if r.IntN(2) == 0 {
				b = bad[r.IntN(len(bad))]
			} else {
				best = version
			}
			w.release(version, b, "")
		case 2:
			w.outage = !w.outage
		case 3:
			if p := w.units[otherOne]; p.stopped {
				w.start(otherOne)
			} else {
				w.stop(otherOne)
			}
		}
		at, flip := 1+r.IntN(60), 1+r.IntN(60)
		w.kill = func(n int, _ string) bool {
			if n == flip {
				w.outage = !w.outage
			}
			return n == at
		}
		full := 1 + r.IntN(120) // a step that fails, if there are as many
		w.fail = func(n int, _ string) error {
			if n == full {
				return syscall.ENOSPC
			}
			return nil
		}
		before := w.outage
		err := w.run()
		if p := w.memory().Pending; p != nil {
			disturbed[p.To] = true
		}
		if before || w.outage {
			for version := range w.behaves {
				disturbed[version] = true
			}
		}
		if errors.Is(err, errRolledBack) {
			w.tidy()
		}
		time.Sleep(time.Duration(r.IntN(1000)) * time.Second)
	}

	w.kill, w.fail, w.outage = nil, nil, false
	if w.units[otherOne].stopped {
		w.start(otherOne)
	}
	for range 2 + minor {
		_ = w.run()
	}
	require.NoError(w.t, w.run(), "%s", &w.log)
	require.Nil(w.t, w.memory().Pending)
	w.tidy()
	for _, q := range w.memory().Quarantined {
		require.True(w.t, w.behaves[q.Version] != good || disturbed[q.Version], "good release %s is in quarantine\n%s", q.Version, &w.log)
	}
	require.Equal(w.t, good, w.behaves[w.current()], "%s", &w.log)
	w.runs(w.current())
	if _, bad := w.memory().quarantined(best); !bad {
		assert.Equal(w.t, best, w.current(), "%s", &w.log)
	}
}
