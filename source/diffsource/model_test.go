package diffsource

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/disktest"
	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

var (
	modelSeed  = flag.Uint64("seed", 0, "replay this seed of TestModel alone")
	modelSeeds = flag.Uint64("seeds", 0, "how many seeds TestModel runs; 0 for 20,000, or 1,500 with -short")
)

// TestModel runs pipelines over random tables that change between and during passes, on a disk that
// fails and loses power at any call, and compares what a sink has with the table.
func TestModel(t *testing.T) {
	t.Parallel()
	if *modelSeed != 0 {
		require.NoError(t, explore(*modelSeed))
		return
	}
	total := *modelSeeds
	switch {
	case total > 0:
	case testing.Short():
		total = 1_500
	default:
		total = 20_000
	}
	var next atomic.Uint64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for seed := next.Add(1); seed <= total && failed.Load() == nil; seed = next.Add(1) {
				if err := explore(seed); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
}

type violation string

// explore runs one pipeline. The error says which rule it broke.
func explore(seed uint64) (err error) {
	w := newWorld(seed)
	defer func() {
		r := recover()
		if v, ok := r.(violation); ok {
			err = fmt.Errorf("model: seed %d: %s\n\treplay: go test ./source/diffsource -run TestModel -seed %d\n\tlast steps:\n\t%s",
				w.seed, string(v), w.seed, strings.Join(w.steps[max(0, len(w.steps)-25):], "\n\t"))
		} else if r != nil {
			panic(r)
		}
	}()
	w.run()
	return nil
}

// world is a table, a disk, a Source that may die, and a sink that stores a batch and the cursor in one step, or the
// cursor later.
type world struct {
	seed  uint64
	rng   *rand.Rand
	disk  *disktest.Disk
	table *fakeTable
	src   *Source
	steps []string

	copy   map[sqlsource.Key]string
	apart  bool                   // the sink stores the cursor later
	folds  bool                   // the sink takes keys that differ in case for the same
	unsure map[sqlsource.Key]bool // keys of batches that were not saved: the sink may have them
	cursor source.Cursor
	late   *source.Batch[row.Change] // of a process that died: it may be stored yet
	bad    map[sqlsource.Key]bool    // rows that could not be read: the sink may not have them
	vague  uint64                    // up to which pass a Fetch that failed may have left a batch
}

func newWorld(seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := &world{seed: seed, rng: rng, disk: disktest.New(rng), copy: map[sqlsource.Key]string{}, bad: map[sqlsource.Key]bool{},
		unsure: map[sqlsource.Key]bool{}, apart: rng.IntN(2) == 0}
	w.table = newFakeTable(rng, w.step)
	if w.folds = w.table.texts && rng.IntN(2) == 0; w.folds { // DESIGN.md names what can be lost then
		w.table.few, w.table.fresh = false, true
	}
	return w
}

func (w *world) step(format string, args ...any) {
	w.steps = append(w.steps, fmt.Sprintf(format, args...))
}

func (w *world) start() {
	r := w.rng
	w.src = &Source{Table: &sqlsource.Table{Name: "t", Key: []string{"k"}}, Dir: "state", table: w.table, keys: fakeKeys{w.table},
		tuning: tuning{pageRows: 1 + r.IntN(4), window: 1 + r.IntN(5), lookup: 1 + r.IntN(3), scanFor: -1, random: r.Uint64}}
	if r.IntN(2) == 0 {
		w.src.tuning.scanFor = 1 << 40
	}
	w.src.store = &store{dir: modelDisk{w.disk}, path: "state", table: "t", random: r.Uint64}
}

func (w *world) run() {
	rates := []float64{0, 0.01, 0.05}
	w.disk.Fails, w.disk.Dies = rates[w.rng.IntN(3)], rates[w.rng.IntN(3)]
	w.table.fails = rates[w.rng.IntN(3)]
	w.table.busy = w.rng.IntN(3)
	w.start()
	for range 20 + w.rng.IntN(80) {
		if w.rng.IntN(4) == 0 {
			w.table.change()
		}
		w.fetch()
	}
	// When the table stands still and nothing fails, the sink becomes equal.
	w.disk.Fails, w.disk.Dies, w.table.fails, w.table.busy = 0, 0, 0, 0
	w.restart(false)
	w.table.still, w.src.tuning.scanFor = true, 1<<40
	for n := 0; ; n++ {
		before := w.cursor
		w.fetch()
		if w.cursor == before && !w.disk.Dead {
			break
		}
		if n > 1000 {
			panic(violation("a table that stands still is delivered for ever"))
		}
	}
	w.compare()
}

// compare requires that the sink has the table's rows.
func (w *world) compare() {
	for _, k := range w.table.keys() {
		if text := w.table.rows[k]; !strings.HasPrefix(text, "bad") && w.copy[k] != text {
			panic(violation(fmt.Sprintf("the sink has %q of %v, the table %q", w.copy[k], k, text)))
		}
	}
	for k := range w.copy {
		if _, ok := w.table.rows[k]; !ok {
			panic(violation(fmt.Sprintf("the sink has %v, the table does not", k)))
		}
	}
}

func (w *world) restart(powerCut bool) {
	w.step("restart, power cut %v", powerCut)
	w.disk.Restart(powerCut)
	w.start()
}

// fetch fetches a batch and stores it, or does not.
func (w *world) fetch() {
	b, err := w.src.Fetch(context.Background(), w.cursor, 1+w.rng.IntN(6))
	var bad *source.BadRecord
	if w.disk.Dead || err != nil && !errors.As(err, &bad) {
		w.failed()
	}
	switch {
	case errors.As(err, &bad):
		w.step("bad record %s", bad.Key)
		w.bad[keyOfText(bad.Key)] = true
		b.To = bad.To
	case w.disk.Dead:
		w.restart(w.rng.IntN(2) == 0)
		return
	case errors.Is(err, ErrState):
		panic(violation("the state of a saved cursor is lost: " + err.Error()))
	case err != nil:
		w.step("failed: %v", err)
		if !errors.Is(err, errTable) && !errors.Is(err, disktest.ErrDisk) {
			panic(violation("an error of its own: " + err.Error()))
		}
		return
	}
	if b.From != w.cursor || len(b.Records) > 0 && b.To == b.From || b.More && b.To == b.From {
		panic(violation(fmt.Sprintf("%d records, from %q to %q", len(b.Records), b.From, b.To)))
	}
	w.step("fetched %d to %s", len(b.Records), w.src.Position(b.To))
	switch n := w.rng.IntN(10); {
	case w.table.still:
	case n == 0: // a crash before it is saved, and perhaps the predecessor's commit lands later
		if w.abandon(b); !w.apart && w.rng.IntN(2) == 0 {
			w.late = &b
		}
		w.restart(w.rng.IntN(2) == 0)
		return
	case n == 1: // it is not saved, and fetched again
		w.abandon(b)
		return
	case n == 2: // the next batch is fetched ahead, and then this one is not saved
		if ahead, err := w.src.Fetch(context.Background(), b.To, 1+w.rng.IntN(6)); err == nil {
			w.unsaved(ahead)
		} else {
			w.failed()
		}
		if w.rng.IntN(2) == 0 {
			w.abandon(b)
			w.restart(w.rng.IntN(2) == 0)
			return
		}
	}
	if w.late != nil && w.late.From == w.cursor && !w.table.still && w.rng.IntN(2) == 0 {
		w.step("the batch of the process before is stored")
		w.unsaved(b)
		b = *w.late
	}
	w.late = nil
	w.store(b)
	if w.disk.Dead {
		w.restart(w.rng.IntN(2) == 0)
	}
}

// failed notes that a Fetch failed, which may have written its batch.
func (w *world) failed() { w.vague = max(w.vague, w.pass(w.cursor)+2) }

func (w *world) pass(c source.Cursor) uint64 {
	at, err := decode(c, identity(w.src.Table))
	if err != nil {
		panic(violation(err.Error()))
	}
	return at.pass
}

// unsaved notes that a batch was fetched and is not saved.
func (w *world) unsaved(b source.Batch[row.Change]) {
	for _, c := range b.Records {
		w.unsure[keyOf(c.Key)] = true
	}
}

// abandon does not save a batch. The sink may have stored some of its changes.
func (w *world) abandon(b source.Batch[row.Change]) {
	w.unsaved(b)
	if w.apart {
		b.Records = b.Records[:w.rng.IntN(len(b.Records)+1)]
		w.apply(b)
	}
}

// store applies a batch, and stores its cursor.
func (w *world) store(b source.Batch[row.Change]) {
	w.cursor = b.To
	w.apply(b)
}

func (w *world) apply(b source.Batch[row.Change]) {
	for _, c := range b.Records {
		k := keyOf(c.Key)
		had, ok := w.copy[k]
		w.step("  %v %v", c.Op, k)
		exact := !w.folds && !w.table.reordered && !w.unsure[k] && w.pass(b.To) > w.vague // an order that changed can deliver a row again
		switch {
		case exact && (c.Op == row.Delete && !ok && !w.bad[k] || c.Op == row.Insert && ok || c.Op == row.Update && !ok):
			panic(violation(fmt.Sprintf("%v of %v, which the sink has: %v", c.Op, k, ok)))
		case c.Op == row.Delete:
			w.remove(k)
			continue
		case c.Op == row.Update && had == c.Row.Text(1) && exact:
			panic(violation(fmt.Sprintf("an update of %v that changes nothing", k)))
		}
		w.remove(k)
		w.copy[k] = c.Row.Text(1)
	}
}

// remove removes the row that the sink has for a key.
func (w *world) remove(k sqlsource.Key) {
	delete(w.copy, k)
	for other := range w.copy {
		if w.folds && strings.EqualFold(string(other), string(k)) {
			delete(w.copy, other)
		}
	}
}

// modelDisk is a model of a disk as a directory.
type modelDisk struct{ *disktest.Disk }

func (d modelDisk) Read(name string) (statedir.File, error) {
	f, err := d.Open(name, 0)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (modelDisk) Close() error { return nil }

// List returns the names in one order, so that a seed can be replayed.
func (d modelDisk) List() ([]string, error) {
	names, err := d.Disk.List()
	slices.Sort(names)
	return names, err
}
