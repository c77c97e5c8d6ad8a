package ceiling

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// mutants are readers with a fault, each with a scene that brings it to light.
var mutants = []struct {
	name string
	variant
	scene
	rare bool // not to be found at random in a few thousand schedules
}{
	{name: "no fence",
		variant: variant{unfenced: true}, scene: calm(throughParent, throughParent)},
	{name: "the lock list is read before the greatest key",
		variant: variant{listFirst: true}, scene: calm(throughParent, throughParent, throughParent)},
	{name: "the lock list is that of the poll before",
		variant: variant{listBefore: true}, scene: calm(throughParent, throughParent)},
	{name: "locks of one partition only",
		variant: variant{watch: leaf1}, scene: calm(throughParent, throughParent)},
	{name: "locks of one partition and the table only",
		variant: variant{watch: leaf1 | parent}, scene: calm(throughParent, intoLeaf)},
	{name: "locks of all tables, not of the sequence",
		variant: variant{watch: leaf1 | leaf2 | parent}, scene: calm(throughParent, drawnAhead)},
	{name: "the snapshot is taken before the locks are listed",
		variant: variant{oneSnapshot: true}, scene: calm(throughParent, throughParent)},
	{name: "an xmin filter instead of locks",
		variant: variant{xmin: true}, scene: calm(throughParent, throughParent, throughParent)},
	{name: "a wait for the snapshot's xmin instead of locks",
		variant: variant{xminFence: true}, scene: calm(throughParent, throughParent)},
	{name: "the list is kept over a restart",
		variant: variant{listOnce: true}, scene: crashed(overAgain, overAgain, locks), rare: true},
	{name: "prepared transactions are forgotten",
		variant: variant{noPrepared: true}, scene: calm(throughParent, inPhases)},
	{name: "prepared transactions do not inherit",
		variant: variant{noHeirs: true}, scene: onOld(throughParent, inPhases)},
	{name: "prepared transactions inherit from vanished ids only",
		variant: variant{heirOfGone: true}, scene: unnoticed(intoLeaf, intoLeaf, inPhases), rare: true},
	{name: "rows are read that are not on disk",
		variant: variant{noWait: true}, scene: crashed(asynchronous, locks)},
	{name: "a ceiling that waits for the disk is kept over a restart",
		variant: variant{staleReach: true}, scene: crashed(overAgain, asynchronous, locks)},
	{name: "nothing settled is the key 0",
		variant: variant{zeroSettled: true}, scene: calm(throughParent, throughParent)},
	{name: "the newest of too many fences forgets who came since",
		variant: variant{stopAtMax: true}, scene: full(throughParent, throughParent), rare: true},
	{name: "transaction ids are read up to the next",
		variant: variant{byXID: true, toNext: true}, scene: calm(quick, quick)},
	{name: "transaction ids are read up to the oldest after the snapshot",
		variant: variant{byXID: true, lateXmin: true}, scene: calm(quick, quick)},
	{name: "transaction ids are read up to what was not there for the mark",
		variant: variant{byXID: true, rises: true}, scene: crashed(quickly, quickly)},
}

// TestModelKillsMutants shows that the model finds such faults, and that the fault is the
// mutant's: in the same scene the reader without a fault loses nothing.
func TestModelKillsMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			s := m.scene
			s.variant = m.variant
			_, _, err := explore(s)
			require.Error(t, err, "the mutant survived")
			t.Log(err)
			if m.rare { // its scene is one of TestModel's
				return
			}
			s.variant = variant{byXID: m.byXID}
			_, _, err = explore(s)
			require.NoError(t, err, "without the fault")
			for seed := uint64(1); ; seed++ {
				if err := atRandom(seed, m.variant); err != nil {
					t.Logf("at random: seed %d", seed)
					return
				}
				require.Less(t, seed, uint64(20_000), "the mutant survived at random")
			}
		})
	}
}

// TestSequenceLockAlone shows that the model kills no reader that is sound. The
// sequence's lock is held by all who drew from it; those of the tables are
// watched too since they cost nothing, and cover keys that are given by hand
// while the INSERT runs.
func TestSequenceLockAlone(t *testing.T) {
	for _, s := range []scene{calm(throughParent, intoLeaf, drawnAhead), calm(drawnInPart, partly), onOld(inPhases, intoLeaf)} {
		s.watch = sequence
		_, _, err := explore(s)
		require.NoError(t, err)
	}
}
