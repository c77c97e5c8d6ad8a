package filesink

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/disktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

var (
	crashSeed  = flag.Uint64("seed", 0, "replay this seed of TestCrashModel alone")
	crashSeeds = flag.Uint64("seeds", 0, "how many seeds TestCrashModel runs; 0 for 50,000, or 5,000 with -short, or 1,000 with -race")
)

// raceDetector says that the race detector is on, which makes seeds ten times as
// slow.
var raceDetector bool

// TestCrashModel runs pipelines on a disk that fails and loses power at any call,
// and checks what a consumer sees.
func TestCrashModel(t *testing.T) {
	t.Parallel()
	if *crashSeed != 0 {
		if _, err := explore(*crashSeed); err != nil {
			t.Fatal(err)
		}
		return
	}
	total := *crashSeeds
	switch {
	case total > 0:
	case raceDetector: // each run uses one goroutine
		total = 1_000
	case testing.Short():
		total = 5_000
	default:
		total = 50_000
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // twice the seeds in the same time
	start := time.Now()
	var next atomic.Uint64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1); seed <= total && failed.Load() == nil; seed = next.Add(1) {
				if _, err := explore(seed); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	t.Logf("%d seeds, %.0f a second", total, float64(total)/time.Since(start).Seconds())
}

func TestCrashModelReplays(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 50; seed++ {
		a, err := explore(seed)
		require.NoError(t, err)
		b, err := explore(seed)
		require.NoError(t, err)
		require.Equal(t, a.steps, b.steps)
		require.Equal(t, a.disk.Calls, b.disk.Calls)
		require.Equal(t, a.collected, b.collected)
	}
}

// TestKilledAtEachCall runs a pipeline on a disk that works, and again once for each
// call of the disk, which is then the last before the process or the machine dies.
func TestKilledAtEachCall(t *testing.T) {
	t.Parallel()
	seeds := uint64(10)
	if testing.Short() || raceDetector {
		seeds = 2
	}
	runs := 0
	for n := range seeds {
		seed := 16 + n // the first two write gzip and footers
		w := newWorld(seed)
		require.NoError(t, w.explore())
		for at := 1; at <= w.calls; at++ {
			w := newWorld(seed)
			w.disk.DieAt = at
			require.NoError(t, w.explore(), "killed at call %d", at)
			runs++
		}
	}
	require.Greater(t, runs, 100*int(seeds))
	t.Logf("%d runs", runs)
}

// explore runs one pipeline on a disk that fails at random. The error says which
// rule it broke.
func explore(seed uint64) (*world, error) {
	w := newWorld(seed)
	rates := []float64{0, 0.01, 0.03, 0.1}
	w.disk.Fails, w.disk.Dies = rates[w.rng.IntN(4)], rates[w.rng.IntN(4)]
	return w, w.explore()
}

func newWorld(seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	return &world{
		seed: seed, rng: rng, disk: disktest.New(rng),
		settings:  settings{name: "n", rows: []int64{0, 3, 6}[rng.IntN(3)], bytes: []int64{0, 40, 150}[rng.IntN(3)]},
		columns:   []*row.Columns{row.NewColumns([]string{"a"}, nil), row.NewColumns([]string{"b"}, nil)},
		collected: map[string]string{},
	}
}

// explore runs the pipeline.
func (w *world) explore() (err error) {
	defer func() {
		if v, ok := recover().(violation); ok {
			err = fmt.Errorf("crash model: seed %d: %s\n\treplay: go test ./sink/filesink -run TestCrashModel -seed %d\n\tlast steps: %s",
				w.seed, string(v), w.seed, strings.Join(w.steps[max(0, len(w.steps)-12):], ", "))
		}
	}()
	w.run()
	return nil
}

type world struct {
	seed     uint64
	rng      *rand.Rand
	disk     *disktest.Disk
	settings settings
	columns  []*row.Columns
	shape    int // of the records to come
	file     *Dir[record]
	steps    []string
	calls    int // of the disk, before finish

	cursor  int      // committed
	lines   []string // committed, in order
	pending *move    // may be committed or not

	collected map[string]string // what the consumer has seen of each sealed segment
	announced uint64            // number of the last segment that OnSeal has accepted
}

type move struct {
	to    int
	lines []string
}

type record struct {
	id      int
	columns *row.Columns
}

func (r record) Columns() *row.Columns { return r.columns }
func (r record) line() string          { return fmt.Sprintf("%s%d", r.columns.Name(0), r.id) }
func (r record) AppendJSON(dst []byte) ([]byte, error) {
	return append(dst, r.line()...), nil
}

func at(n int) source.Cursor {
	if n == 0 {
		return ""
	}
	return source.Cursor(strconv.Itoa(n))
}

func (w *world) step(format string, args ...any) {
	w.steps = append(w.steps, fmt.Sprintf(format, args...))
}

func (w *world) run() {
	w.start()
	for range 15 + w.rng.IntN(20) {
		switch w.rng.IntN(20) {
		default:
			w.write()
		case 0, 1:
			w.step("seal")
			w.seal()
		case 2:
			w.move("save", w.cursor+1, nil, func(from, to source.Cursor) error {
				return w.file.Save(context.Background(), from, to)
			})
		case 3:
			if to := w.rng.IntN(w.cursor + 10); to != w.cursor {
				w.move("rewind", to, nil, func(_, to source.Cursor) error { return w.file.Rewind(to) })
				w.load()
			}
		case 4:
			w.step("close")
			w.check(w.file.Close())
			w.restart()
		case 5:
			w.restart()
		case 6, 7:
			w.consume()
		case 8, 9:
			w.announce()
		}
		if w.disk.Dead {
			w.restart()
		}
	}
	w.finish()
}

// write writes a batch. After an error it writes the same batch again, or the
// records after those that turn out to be committed.
func (w *world) write() {
	var b source.Batch[record]
	m := move{to: w.cursor}
	for range 1 + w.rng.IntN(4) {
		if w.rng.IntN(10) == 0 {
			w.shape = 1 - w.shape
		}
		m.to++
		r := record{m.to, w.columns[w.shape]}
		b.Records = append(b.Records, r)
		m.lines = append(m.lines, r.line())
	}
	w.move("write", m.to, m.lines, func(from, to source.Cursor) error {
		b.From, b.To = from, to
		return w.file.Write(context.Background(), b)
	})
}

// move does what moves the cursor, several times while it fails.
func (w *world) move(what string, to int, lines []string, do func(from, to source.Cursor) error) {
	w.pending = &move{to, lines}
	for try := 0; ; try++ {
		w.step("%s %d-%d", what, w.cursor, to)
		err := do(at(w.cursor), at(to))
		w.check(err)
		if err == nil {
			w.commit()
			return
		}
		if w.disk.Dead || try == 3 || w.rng.IntN(3) == 0 {
			break
		}
	}
	w.load()
}

func (w *world) commit() {
	w.cursor, w.lines, w.pending = w.pending.to, append(w.lines, w.pending.lines...), nil
}

// load loads the cursor, which shows whether the pending move was committed.
func (w *world) load() {
	for {
		if w.disk.Dead {
			w.restart()
			return
		}
		w.step("load")
		c, err := w.file.Load(context.Background())
		w.check(err)
		if err == nil {
			w.resolve(c)
			return
		}
	}
}

func (w *world) resolve(c source.Cursor) {
	switch {
	case c == at(w.cursor):
		w.pending = nil
	case w.pending != nil && c == at(w.pending.to):
		w.commit()
	case w.pending != nil:
		violate("the cursor is %q, not %d or %d", c, w.cursor, w.pending.to)
	default:
		violate("the cursor is %q, not %d", c, w.cursor)
	}
}

// restart is the death of the process or the machine, and the next start.
func (w *world) restart() {
	cut := w.rng.IntN(2) == 0
	w.step("restart(%t)", cut)
	w.disk.Restart(cut)
	w.start()
}

func (w *world) start() {
	for {
		w.step("open")
		f, err := w.openDir()
		w.check(err)
		switch {
		case err == nil:
			w.file = f
			w.load()
			return
		case w.disk.Dead:
			w.disk.Restart(w.rng.IntN(2) == 0)
		}
	}
}

func (w *world) openDir() (*Dir[record], error) {
	o := Options[record]{
		Name: w.settings.name, Encoder: w.encoder(), SegmentRows: w.settings.rows, SegmentBytes: w.settings.bytes,
		SegmentAge: -1, // no timer of a Dir that died
		OnSeal:     w.onSeal, Logger: slog.New(slog.DiscardHandler),
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	now := func() time.Time { return time.Unix(1e9, 0) }
	return openDir("/disk", o, system{
		openDir: func() (directory, error) { return modelDir{w.disk}, nil },
		now:     now,
		spawn:   func(*sync.WaitGroup, func()) {}, // announce is a step
	})
}

// check accepts only the errors of the disk.
func (w *world) check(err error) {
	if err != nil && !errors.Is(err, disktest.ErrDisk) && !errors.Is(err, disktest.ErrDead) {
		violate("an error without a fault of the disk: %v", err)
	}
}

// consume checks the sealed segments, and removes some of them.
func (w *world) consume() {
	w.step("consume")
	for _, name := range w.disk.Names() {
		if !isSealed(name) {
			continue
		}
		content, err := decode(name, w.disk.Content(name))
		if err != nil {
			violate("%s is not complete: %v", name, err)
		}
		if seen, ok := w.collected[name]; ok && seen != content {
			violate("%s was sealed with %q and is %q now", name, seen, content)
		}
		w.collected[name] = content
		if w.rng.IntN(2) == 0 {
			w.disk.Take(name)
		}
	}
}

func (w *world) finish() {
	w.disk.Fails, w.disk.Dies, w.calls = 0, 0, w.disk.Calls
	w.restart()
	w.step("finish")
	w.seal()
	for w.file.Pending().Segments > 0 {
		w.announce()
	}
	w.check(w.file.Close())
	w.consume()
	var got []string
	for _, name := range slices.Sorted(maps.Keys(w.collected)) {
		if _, n, _ := parseSegment(name); n > w.announced {
			violate("%s was never announced", name)
		}
		lines := strings.Split(strings.TrimSuffix(w.collected[name], "\n"), "\n")
		for _, line := range lines {
			if line == "" || line[0] != lines[0][0] {
				violate("%s has lines of other columns: %q", name, lines)
			}
		}
		got = append(got, lines...)
	}
	if !slices.Equal(got, w.lines) {
		violate("the segments hold\n%q, not\n%q", got, w.lines)
	}
	for _, name := range w.disk.Names() {
		if name != checkpointName && !isSealed(name) {
			violate("%s was left behind", name)
		}
	}
}
