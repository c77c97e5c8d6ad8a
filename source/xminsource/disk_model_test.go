package xminsource

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/disktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// TestKeysOnDisk runs the lists of keys of a pipeline on a disk that fails and loses power at any call. What a saved cursor
// knows must always be the keys of the copy.
func TestKeysOnDisk(t *testing.T) {
	t.Parallel()
	if *modelSeed != 0 {
		require.NoError(t, runOnDisk(*modelSeed, nil))
		return
	}
	seeds := *modelSeeds / 4
	if testing.Short() {
		seeds = min(seeds, 60)
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		require.NoError(t, runOnDisk(seed, nil))
	}
}

// TestKeysOnDiskKillsMutants shows that the model finds faults.
func TestKeysOnDiskKillsMutants(t *testing.T) {
	t.Parallel()
	for name, mutant := range map[string]func(*keyWorld){
		"keys are not synced":                                 func(w *keyWorld) { w.noSync = true },
		"names are not synced":                                func(w *keyWorld) { w.noDirSync = true },
		"a list goes on where it ends, not at the cursor":     func(w *keyWorld) { w.onward = true },
		"lists are removed when the next key pass has begun":  func(w *keyWorld) { w.early = true },
		"keys of a batch whose cursor was lost are forgotten": func(w *keyWorld) { w.noAdopt = true },
		"a key that was looked up and is there is dropped":    func(w *keyWorld) { w.dropKept = true },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); ; seed++ {
				if err := runOnDisk(seed, mutant); err != nil {
					t.Log(err)
					return
				}
				require.Less(t, seed, uint64(20_000), "the mutant survived")
			}
		})
	}
}

// keyWorld is a table of keys, a pipeline with a disk, and its copy.
type keyWorld struct {
	rand  *rand.Rand
	disk  *disktest.Disk
	d     *remover
	table map[sqlsource.Key]bool
	wrong error
	steps []string

	saved  keyCursor
	copied map[sqlsource.Key]bool
	maybe  map[sqlsource.Key]bool // of batches whose cursor was not saved
	late   *keyBatch              // of a process that died: it may be stored yet
	atomic bool                   // the copy stores the cursor with the records

	still                                               bool
	noSync, noDirSync, onward, early, dropKept, noAdopt bool
}

type keyCursor struct {
	known
	n int // moves with each batch
}

func (c keyCursor) text() source.Cursor { return source.Cursor(fmt.Sprint(c.String(), c.n)) }

type keyBatch struct {
	from, to keyCursor
	added    []sqlsource.Key
	gone     []sqlsource.Key
}

func runOnDisk(seed uint64, mutate func(*keyWorld)) error {
	r := rand.New(rand.NewPCG(seed, 2))
	w := &keyWorld{rand: r, disk: disktest.New(r), table: map[sqlsource.Key]bool{}, copied: map[sqlsource.Key]bool{},
		maybe: map[sqlsource.Key]bool{}, atomic: r.IntN(2) == 0}
	if mutate != nil {
		mutate(w)
	}
	rates := []float64{0, 0.01, 0.05}
	w.disk.Fails, w.disk.Dies = rates[r.IntN(3)], rates[r.IntN(3)]
	w.start()
	w.saved.known = w.d.start(timeOf(1))
	for range 20 + r.IntN(60) {
		w.change()
		w.cycle()
	}
	w.disk.Fails, w.disk.Dies = 0, 0
	w.restart(true)
	w.still = true
	for range 100 { // the table stands still
		w.cycle()
	}
	for k := range w.copied {
		if !w.table[k] {
			w.fail("the copy still has %v", k)
		}
	}
	if w.wrong != nil {
		return fmt.Errorf("seed %d: %w; replay with -run TestKeysOnDisk -model.seed=%d\n%s", seed, w.wrong, seed, strings.Join(w.steps[max(0, len(w.steps)-15):], "\n"))
	}
	return nil
}

func (w *keyWorld) fail(format string, args ...any) {
	if w.wrong == nil {
		w.wrong = fmt.Errorf(format, args...)
	}
}

func (w *keyWorld) note(format string, args ...any) {
	w.steps = append(w.steps, fmt.Sprintf(format, args...))
}

func (w *keyWorld) start() {
	s := &store{dir: keyDisk{w.disk, w}, path: "keys", table: "t", random: w.rand.Uint64}
	w.d = &remover{store: s}
	_ = s.sweepScratch()
}

func (w *keyWorld) restart(powerCut bool) {
	w.note("restart, power cut %v", powerCut)
	w.disk.Restart(powerCut)
	w.start()
}

func (w *keyWorld) key() sqlsource.Key { return sqlsource.Key(fmt.Sprintf("i%d;", w.rand.IntN(12))) }

func (w *keyWorld) change() {
	for range w.rand.IntN(4) {
		if w.still {
			return
		}
		if k := w.key(); w.rand.IntN(2) == 0 {
			w.table[k] = true
		} else {
			delete(w.table, k)
		}
	}
}

// cycle fetches a batch and stores it, or does not.
func (w *keyWorld) cycle() {
	if w.wrong != nil {
		return
	}
	b, err := w.fetch(w.saved)
	switch {
	case w.disk.Dead:
		w.restart(w.rand.IntN(2) == 0)
		return
	case errors.Is(err, ErrKeys):
		w.fail("the list of a saved cursor is lost: %w", err)
		return
	case err != nil:
		if !errors.Is(err, disktest.ErrDisk) {
			w.fail("an error of its own: %w", err)
		}
		return
	}
	w.note("from %v to %v: added %v, gone %v", b.from, b.to, b.added, b.gone)
	switch n := w.rand.IntN(10); {
	case n == 0: // a crash before it is stored, and perhaps the commit of the process that died lands later
		if w.rand.IntN(2) == 0 {
			w.late = b
		}
		w.unsaved(b)
		w.restart(w.rand.IntN(2) == 0)
		return
	case n == 1: // it is fetched again
		w.unsaved(b)
		return
	case n == 2: // the next batch is fetched ahead
		_, _ = w.fetch(b.to)
		if w.rand.IntN(2) == 0 {
			w.restart(w.rand.IntN(2) == 0)
			return
		}
	}
	if w.late != nil && w.late.from == w.saved && w.rand.IntN(2) == 0 {
		w.note("the batch of the process before is stored")
		b = w.late
		defer w.restart(false)
	}
	w.late = nil
	w.store(b)
	if w.disk.Dead {
		w.restart(w.rand.IntN(2) == 0)
	}
}

// unsaved stores a batch, or not, and loses the cursor: not each sink stores both together.
func (w *keyWorld) unsaved(b *keyBatch) {
	if w.atomic || w.rand.IntN(2) == 0 {
		return
	}
	w.note("it is stored, and its cursor is lost")
	w.late = nil
	w.apply(b)
}

func (w *keyWorld) store(b *keyBatch) {
	w.saved = b.to
	w.apply(b)
	for _, k := range slices.Concat(b.added, b.gone) {
		delete(w.maybe, k)
	}
	w.compare()
}

func (w *keyWorld) apply(b *keyBatch) {
	for _, k := range b.added {
		w.copied[k] = true
	}
	for _, k := range b.gone {
		if !w.copied[k] && !w.maybe[k] {
			w.fail("%v was deleted, which the copy does not have", k)
		}
		delete(w.copied, k)
	}
}

// compare requires that the saved cursor knows the keys of the copy.
func (w *keyWorld) compare() {
	fails, dies := w.disk.Fails, w.disk.Dies
	w.disk.Fails, w.disk.Dies = 0, 0
	defer func() { w.disk.Fails, w.disk.Dies = fails, dies }()
	if w.disk.Dead {
		return
	}
	keys, k := map[sqlsource.Key]bool{}, w.saved.known
	for i, end := range []listPlace{k.keys, k.gone} {
		r, err := w.d.store.open(listID{k.lineage, k.pass}, end)
		if err != nil {
			w.fail("%w", err)
			return
		}
		n := uint64(0)
		err = r.each(func(key []byte) error {
			if n++; i == 0 || n > k.taken {
				keys[keyText(key)] = true
			}
			return nil
		})
		if err != nil || i == 0 && n != k.entries || i == 1 && n != k.missing {
			w.fail("a list has %d keys, the cursor says %d and %d: %w", n, k.entries, k.missing, err)
		}
	}
	for key := range w.copied {
		if !keys[key] {
			w.fail("the list lacks %v, which the copy has", key)
		}
		delete(keys, key)
	}
	for key := range keys {
		if w.maybe[key] {
			continue
		}
		w.fail("the list has %v, which the copy does not have", key)
	}
}
