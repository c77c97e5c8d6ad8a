package filecheckpoint

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/durable"
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
	disk   *disk
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
	w := &world{rng: rng, disk: &disk{rng: rng, now: names{}, durable: names{}, dieAt: dieAt}}
	if dieAt == 0 {
		w.disk.fails, w.disk.dies = rates[rng.IntN(3)], rates[rng.IntN(3)]
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
			w.disk.dead = true
		case 1:
			w.move("rewind", func(to source.Cursor) error { return w.file.Rewind(to) })
		default:
			w.move("save", func(to source.Cursor) error { return w.file.Save(context.Background(), w.cursor, to) })
		}
		w.load()
	}
	calls = w.disk.calls
	w.disk.fails, w.disk.dies, w.disk.dead = 0, 0, true
	w.start()
	for name := range w.disk.now {
		if name != "checkpoint" {
			panic(violation(name + " was left behind"))
		}
	}
	return calls, nil
}

// start is the end of a process or of the machine, and the next start.
func (w *world) start() {
	for {
		if w.disk.dead {
			cut := w.rng.IntN(2) == 0
			w.steps = append(w.steps, fmt.Sprintf("restart(%t)", cut))
			w.disk.restart(cut)
		}
		w.file = &File{path: "/disk/checkpoint", history: 3, open: func(string) (directory, error) { return w.disk, nil }}
		if w.check(w.file.check()) && w.check(w.file.lockedSoon(w.file.removeLeftovers)) {
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
		if w.disk.dead || w.rng.IntN(2) == 0 {
			break
		}
	}
	w.load(to)
}

// load expects the stored cursor, or one of those that a failed call was to store.
func (w *world) load(or ...source.Cursor) {
	for {
		if w.disk.dead {
			cut := w.rng.IntN(2) == 0
			w.steps = append(w.steps, fmt.Sprintf("restart(%t)", cut))
			w.disk.restart(cut)
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
	if err != nil && !errors.Is(err, errDisk) {
		panic(violation("an error without a fault of the disk: " + err.Error()))
	}
	return err == nil
}

var errDisk = errors.New("the disk failed")

// disk is a directory whose names and files are lost in a power cut unless they were
// synced. Each call may fail, with or without its effect, or be the last. A failed
// sync of a file drops some of its pages and marks all of them clean, as Linux does.
type disk struct {
	rng          *rand.Rand
	fails, dies  float64
	calls, dieAt int
	dead         bool
	now, durable names
	ops          []func(names) // between durable and now
}

type names map[string]*content

type content struct {
	text  []byte
	dirty bool // a power cut truncates the text
	lost  bool // a failed sync marked it clean: a power cut truncates it even after another sync
}

func (d *disk) call(effect func() error) error {
	if d.dead {
		return errDisk
	}
	d.calls++
	fail, die := d.rng.Float64() < d.fails, d.rng.Float64() < d.dies || d.calls == d.dieAt
	if d.dead = die; (fail || die) && d.rng.IntN(2) == 0 {
		return errDisk
	}
	if err := effect(); err != nil {
		return err
	}
	if fail || die {
		return errDisk
	}
	return nil
}

func (d *disk) restart(powerCut bool) {
	d.dead = false
	if !powerCut {
		return
	}
	for _, op := range d.ops {
		if d.rng.IntN(2) == 0 {
			op(d.durable)
		}
	}
	d.now, d.ops = maps.Clone(d.durable), nil
	for _, name := range slices.Sorted(maps.Keys(d.now)) {
		if c := d.now[name]; c.dirty || c.lost {
			c.text, c.dirty, c.lost = c.text[:d.rng.IntN(len(c.text)+1)], false, false
		}
	}
}

func (d *disk) change(op func(names)) error {
	op(d.now)
	d.ops = append(d.ops, op)
	return nil
}

func (d *disk) Create(name string) (durable.File, error) {
	c := &content{}
	return &handle{d, c}, d.call(func() error {
		if d.now[name] != nil {
			return fs.ErrExist
		}
		return d.change(func(n names) { n[name] = c })
	})
}

func (d *disk) Rename(from, to string) error {
	return d.call(func() error {
		c := d.now[from]
		return d.change(func(n names) { delete(n, from); n[to] = c })
	})
}

func (d *disk) Remove(name string) error {
	return d.call(func() error { return d.change(func(n names) { delete(n, name) }) })
}

func (d *disk) Sync() error {
	return d.call(func() error { d.durable, d.ops = maps.Clone(d.now), nil; return nil })
}

func (d *disk) ReadFile(name string) (text []byte, err error) {
	err = d.call(func() error {
		if d.now[name] == nil {
			return fs.ErrNotExist
		}
		text = slices.Clone(d.now[name].text)
		return nil
	})
	return text, err
}

func (d *disk) List() (all []string, err error) {
	err = d.call(func() error { all = slices.Sorted(maps.Keys(d.now)); return nil })
	return all, err
}

func (d *disk) Lstat(string) (fs.FileInfo, error) {
	return regular{}, d.call(func() error { return nil })
}

type regular struct{ fs.FileInfo }

func (regular) Mode() fs.FileMode { return 0 }

func (d *disk) lock(context.Context, string) (func(), error) {
	return func() {}, d.call(func() error { return nil })
}

func (d *disk) Close() error { return nil }

type handle struct {
	*disk
	c *content
}

func (h *handle) Write(p []byte) (int, error) {
	return len(p), h.call(func() error { h.c.text, h.c.dirty = append(h.c.text, p...), true; return nil })
}

func (h *handle) Sync() error {
	err := h.call(func() error { h.c.dirty = false; return nil })
	if err != nil && !h.dead && h.c.dirty {
		h.c.dirty, h.c.lost = false, true
	}
	return err
}

func (h *handle) Close() error { return h.call(func() error { return nil }) }
