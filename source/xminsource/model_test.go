package xminsource

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "replay this seed of TestModel alone")
	modelSeeds = flag.Uint64("model.seeds", 20_000, "how many seeds TestModel runs")
)

// fault is what a mutant of the reader does wrong.
type fault string

const (
	none            fault = ""
	visibleInstead  fault = "versions are taken by pg_visible_in_snapshot(xmin), which knows no subtransactions"
	lateSnapshot    fault = "X1 is read after the scan"
	subAsTop        fault = "the id of a subtransaction is taken for that of its transaction"
	inclusive       fault = "X1 itself belongs to the pass"
	exclusive       fault = "X0 itself does not belong to the pass"
	upToNext        fault = "X1 is the next id"
	noKey           fault = "the cursor has no key, and a restart begins the next pass"
	noKeyAgain      fault = "the cursor has no key, and a restart begins the pass again"
	freshX1         fault = "a restart takes a new X1 in the middle of a pass"
	notDurable      fault = "X1 is used before the log is on disk"
	noWait          fault = "what was read is delivered before the log is on disk"
	oldPlaces       fault = "places are used after the table was rewritten"
	unchecked       fault = "the version at a place is delivered, whatever its id is"
	noEpoch         fault = "ids are compared without their epoch"
	noWaitDelete    fault = "a delete is delivered before the log is on disk"
	oldLook         fault = "a key that was looked up before the server crashed is deleted"
	noLookUp        fault = "a key that the read of the keys has not shown is deleted without another look"
	onlySwept       fault = "only keys that a key pass has shown are known"
	forgetKept      fault = "a key that is there when it is looked up is forgotten"
	firstBelowAlone fault = "the first load leaves out versions that are older than half of the ring"
)

var faults = []fault{visibleInstead, lateSnapshot, subAsTop, inclusive, exclusive, upToNext, noKey, noKeyAgain, freshX1, notDurable, noWait, oldPlaces, unchecked, noEpoch, firstBelowAlone,
	noWaitDelete, oldLook, noLookUp, onlySwept, forgetKept}

// run lets a reader read a world, and returns what went wrong.
func run(seed uint64, f fault) error {
	w := newWorld(seed)
	r := &reader{world: w, fault: f}
	for range 150 + w.rand.IntN(250) {
		switch n := w.rand.IntN(20); {
		case n < 12:
			w.step()
		case n < 19:
			r.step()
		default:
			r.restart()
		}
		if r.wrong != nil {
			return fmt.Errorf("%w; replay with -model.seed=%d", r.wrong, seed)
		}
	}
	w.finish()
	for range 400 {
		r.step()
	}
	r.compare()
	if r.wrong != nil {
		return fmt.Errorf("%w; replay with -model.seed=%d", r.wrong, seed)
	}
	return nil
}

// TestModel lets the reader run against hostile schedules: nothing is lost, nothing comes twice, the order of each
// key is kept, and the end is the same, without the deleted rows.
func TestModel(t *testing.T) {
	if *modelSeed != 0 {
		require.NoError(t, run(*modelSeed, none))
		return
	}
	seeds := *modelSeeds
	if testing.Short() {
		seeds = min(seeds, 2_000)
	}
	var next atomic.Uint64
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for seed := next.Add(1); seed <= seeds && !t.Failed(); seed = next.Add(1) {
				assert.NoError(t, run(seed, none))
			}
		})
	}
	group.Wait()
}

// TestModelKillsMutants shows that the model finds each fault.
func TestModelKillsMutants(t *testing.T) {
	for _, f := range faults {
		t.Run(string(f), func(t *testing.T) {
			for seed := uint64(1); ; seed++ {
				if err := run(seed, f); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
				require.Less(t, seed, uint64(20_000), "the mutant survived")
			}
		})
	}
}
