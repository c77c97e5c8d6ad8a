package filecheckpoint

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/disktest"
	"github.com/artifactofdevotion/devotion/source"
)

var (
	crashSeed  = flag.Uint64("seed", 0, "replay this seed of TestCrashModel alone")
	crashSeeds = flag.Uint64("seeds", 0, "how many seeds TestCrashModel runs; 0 for 5,000, and 1,000 with -short")
)

// TestCrashModel uses checkpoints on a disk that fails, is killed and loses power at
// any call. A stored cursor must never be lost, and never come back once it was
// replaced.
func TestCrashModel(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), *crashSeeds
	switch {
	case *crashSeed != 0:
		first, last = *crashSeed, *crashSeed
	case last > 0:
	case testing.Short():
		last = 1_000
	default:
		last = 5_000
	}
	for seed := first; seed <= last; seed++ {
		if _, err := explore(seed, 0); err != nil {
			t.Fatalf("crash model: seed %d: %v\n\treplay: go test ./poller/filecheckpoint -run TestCrashModel -seed %d", seed, err, seed)
		}
	}
}

// TestKilledAtEachCall uses a checkpoint on a disk that works, and again once for
// each call of the disk, which is then the last before a kill or a power cut.
func TestKilledAtEachCall(t *testing.T) {
	t.Parallel()
	seeds := uint64(10)
	if testing.Short() {
		seeds = 3
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		calls, err := explore(seed, -1)
		require.NoError(t, err)
		require.Greater(t, calls, 50)
		for at := 1; at <= calls; at++ {
			_, err := explore(seed, at)
			require.NoError(t, err, "seed %d, killed at call %d", seed, at)
		}
	}
}

type world struct {
	rng    *rand.Rand
	disk   *disktest.Disk
	file   *File
	cursor source.Cursor
	made   int
	steps  []string
}

// violation is the panic value that ends a run.
type violation string

// explore returns the number of calls. The disk fails at random if dieAt is 0.
// Otherwise it works until it dies at that call.
func explore(seed uint64, dieAt int) (calls int, err error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	rates := []float64{0, 0.02, 0.1}
	w := &world{rng: rng, disk: disktest.New(rng)}
	w.disk.DieAt = dieAt
	if dieAt == 0 {
		w.disk.Fails, w.disk.Dies = rates[rng.IntN(3)], rates[rng.IntN(3)]
	}
	defer func() {
		if v, ok := recover().(violation); ok {
			err = fmt.Errorf("%s\n\tsteps: %s", v, strings.Join(w.steps, ", "))
		}
	}()
	w.start()
	for range 5 + rng.IntN(20) {
		switch rng.IntN(6) {
		case 0:
			w.disk.Dead = true
		case 1:
			w.move("rewind", func(to source.Cursor) error { return w.file.Rewind(to) })
		default:
			w.move("save", func(to source.Cursor) error { return w.file.Save(context.Background(), w.cursor, to) })
		}
		w.load()
	}
	calls = w.disk.Calls
	w.disk.Fails, w.disk.Dies, w.disk.Dead = 0, 0, true
	w.start()
	for _, name := range w.disk.Names() {
		if name != "checkpoint" {
			panic(violation(name + " was left behind"))
		}
	}
	return calls, nil
}

// start is the end of a process or of the machine, and the next start.
func (w *world) start() {
	for {
		if w.disk.Dead {
			cut := w.rng.IntN(2) == 0
			w.steps = append(w.steps, fmt.Sprintf("restart(%t)", cut))
			w.disk.Restart(cut)
		}
		w.file = &File{path: "/disk/checkpoint", history: 3, open: func(string, bool) (directory, error) { return modelDir{w.disk}, nil }}
		if w.check(w.file.start()) {
			break
		}
	}
	w.load()
}

// move does what moves the cursor, sometimes again after an error.
func (w *world) move(what string, do func(to source.Cursor) error) {
	w.made++
	to := source.Cursor(strconv.Itoa(w.made))
	for {
		w.steps = append(w.steps, fmt.Sprintf("%s %s-%s", what, w.cursor, to))
		if w.check(do(to)) {
			w.cursor = to
			return
		}
		if w.disk.Dead || w.rng.IntN(2) == 0 {
			break
		}
	}
	w.load(to)
}

// load expects the stored cursor, or one of those that a failed call was to store.
func (w *world) load(or ...source.Cursor) {
	for {
		if w.disk.Dead {
			cut := w.rng.IntN(2) == 0
			w.steps = append(w.steps, fmt.Sprintf("restart(%t)", cut))
			w.disk.Restart(cut)
			w.file = &File{path: w.file.path, history: 3, open: w.file.open}
		}
		w.steps = append(w.steps, "load")
		c, err := w.file.Load(context.Background())
		if !w.check(err) {
			continue
		}
		if c != w.cursor && !slices.Contains(or, c) {
			panic(violation(fmt.Sprintf("the cursor is %q, not %q or one of %q", c, w.cursor, or)))
		}
		w.cursor = c
		return
	}
}

// check accepts only the errors of the disk.
func (w *world) check(err error) bool {
	if err != nil && !errors.Is(err, disktest.ErrDisk) && !errors.Is(err, disktest.ErrDead) {
		panic(violation("an error without a fault of the disk: " + err.Error()))
	}
	return err == nil
}

// modelDir is a model of a disk as a directory.
type modelDir struct{ *disktest.Disk }

func (d modelDir) lock(context.Context, string) (func(), error) { return func() {}, d.Call() }
func (d modelDir) Close() error                                 { return nil }
