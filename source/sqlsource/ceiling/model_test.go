package ceiling

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	modelAll   = flag.Bool("model.all", false, "explore the model for all triples of scripts, not for the short ones alone")
	modelSeed  = flag.Uint64("model.seed", 0, "replay this seed of TestModelAtRandom alone")
	modelSeeds = flag.Uint64("model.seeds", 0, "how many seeds TestModelAtRandom runs; 0 for 200,000, and 20,000 with -short")
)

// raceDetector reports whether the race detector is on, which makes the model ten times slower.
var raceDetector bool

// explorer goes through all schedules of a scene. It explores each state once, however it is
// reached.
type explorer struct {
	seen   map[[2]uint64]float64 // how many schedules begin at a state
	buffer []byte
}

// explore returns how many states and schedules a scene has, or the first
// schedule that goes wrong.
func explore(s scene) (states int, schedules float64, err error) {
	e := explorer{seen: map[[2]uint64]float64{}}
	w := newWorld(&s)
	n, steps, wrong := e.from(&w)
	if wrong != "" {
		err = fmt.Errorf("%s\n\tscene: %s\n\tschedule:%s", wrong, s, steps)
	}
	return len(e.seen), n, err
}

func (e *explorer) from(w *world) (schedules float64, steps, wrong string) {
	if w.allEnded() {
		drained := *w
		return 1, "", drained.drain()
	}
	var key [2]uint64
	key, e.buffer = w.hash(e.buffer)
	if n, ok := e.seen[key]; ok {
		return n, "", ""
	}
	for move := range moves {
		if !w.can(move) {
			continue
		}
		next := *w
		var n float64
		wrong := next.do(move)
		if wrong == "" {
			n, steps, wrong = e.from(&next)
		}
		if wrong != "" {
			return 0, " " + w.name(move) + steps, wrong
		}
		schedules += n
	}
	e.seen[key] = schedules
	return schedules, "", ""
}

// What writers do.
const (
	throughParent = "pd1icu"
	intoLeaf      = "2dicu"
	drawnAhead    = "dp1icu"       // nextval ahead of the INSERT
	drawnInPart   = "sdrp1icu"     // and in a part of the transaction that was rolled back
	partly        = "spd1irpd2icu" // rows rolled back to a savepoint, then others
	rolledBack    = "pd1ia"
	twoRows       = "pd1id2icu"
	twice         = "pd1icu2dicu" // two transactions in one message
	inPhases      = "pd1iPCu"     // PREPARE TRANSACTION, COMMIT PREPARED
	asynchronous  = "pdivu"
	overAgain     = "divudicu" // the second transaction may draw what the first lost
	locks         = "pa"

	// Without locks, for a reader that does not look at them.
	early   = "xdidicu" // the transaction id ahead of the rows
	quick   = "dicu"
	quickly = "divu"
)

// calm is a scene without a restart.
func calm(scripts ...string) scene {
	return scene{scripts: scripts, polls: 3, lowest: -2, noticed: true}
}

// onOld is one on a server that shows prepared transactions under another id.
func onOld(scripts ...string) scene {
	s := calm(scripts...)
	s.old = true
	return s
}

// restarted is one with a restart.
func restarted(scripts ...string) scene {
	s := calm(scripts...)
	s.restarts = 1
	return s
}

// unnoticed is one with a restart that cannot be told.
func unnoticed(scripts ...string) scene {
	s := restarted(scripts...)
	s.noticed = false
	return s
}

// crashed is one with a restart that loses what is not on disk.
func crashed(scripts ...string) scene {
	s := restarted(scripts...)
	s.async, s.polls = true, 2
	return s
}

// full is one in which as many fences wait as can, for a holder that is the
// third writer.
func full(scripts ...string) scene {
	s := calm(append(scripts, "")...)
	s.full = true
	return s
}

// byXID is a scene with the other strategy.
func byXID(of func(...string) scene) func(...string) scene {
	return func(scripts ...string) scene {
		s := of(scripts...)
		s.byXID = true
		return s
	}
}

// triples returns all ways to choose three of the scripts.
func triples(of func(...string) scene, scripts ...string) (all []scene) {
	for i := range scripts {
		for j := i; j < len(scripts); j++ {
			for k := j; k < len(scripts); k++ {
				all = append(all, of(scripts[i], scripts[j], scripts[k]))
			}
		}
	}
	return all
}

// scenes returns what is explored.
func scenes() []scene {
	if *modelAll {
		scripts := []string{throughParent, intoLeaf, drawnAhead, drawnInPart, partly, rolledBack, twoRows, twice, inPhases}
		return slices.Concat(triples(calm, scripts...), triples(onOld, scripts...), triples(restarted, scripts...), triples(unnoticed, scripts...),
			triples(crashed, asynchronous, drawnAhead, inPhases, overAgain), triples(byXID(calm), early, quick), triples(byXID(crashed), quickly, inPhases))
	}
	return slices.Concat(triples(calm, throughParent, intoLeaf, drawnAhead), triples(onOld, throughParent, inPhases), []scene{
		calm(drawnInPart, intoLeaf, rolledBack),
		calm(partly, intoLeaf, drawnAhead),
		full(throughParent, intoLeaf),
		restarted(intoLeaf, intoLeaf, inPhases),
		unnoticed(intoLeaf, intoLeaf, inPhases),
		unnoticed(intoLeaf, inPhases, inPhases),
		crashed(asynchronous, asynchronous, drawnAhead),
		crashed(overAgain, overAgain, locks),
		byXID(calm)(early, early, quick),
		byXID(calm)(early, quick, quick),
		byXID(crashed)(quickly, quickly, locks),
	})
}

// TestModel explores, for three writers and a few polls, each order in which
// their steps and the reader's statements can come.
func TestModel(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("millions of states; the mutants and the random schedules are run")
	}
	all := scenes()
	var next, states atomic.Int64
	var mu sync.Mutex
	fewest := math.Inf(1)
	var wg sync.WaitGroup
	start := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(all); i = next.Add(1) - 1 {
				n, schedules, err := explore(all[i])
				assert.NoError(t, err)
				states.Add(int64(n))
				mu.Lock()
				fewest = min(fewest, schedules)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d scenes, %d states, at least %.0f schedules in each; %s", len(all), states.Load(), fewest, time.Since(start).Round(time.Second/10))
	require.Greater(t, states.Load(), int64(1_000_000), "less is explored than is claimed")
	require.Greater(t, fewest, 1e6, "less is explored than is claimed")
}

// TestModelAtRandom has more writers with longer scripts, pollers that restart and cursors that
// are set back.
func TestModelAtRandom(t *testing.T) {
	if *modelSeed != 0 {
		require.NoError(t, atRandom(*modelSeed, variant{byXID: *modelSeed%4 == 0}))
		return
	}
	total := *modelSeeds
	switch {
	case total != 0:
	case testing.Short() || raceDetector:
		total = 20_000
	default:
		total = 200_000
	}
	var next, read atomic.Uint64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1); seed <= total && failed.Load() == nil; seed = next.Add(1) {
				if err := atRandom(seed, variant{byXID: seed%4 == 0}); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
				read.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	t.Logf("%d schedules, %.0f a second", read.Load(), float64(read.Load())/time.Since(start).Seconds())
	require.Equal(t, total, read.Load())
}

// atRandom runs the schedule of a seed.
func atRandom(seed uint64, v variant) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := randomScene(rng, v)
	w := newWorld(&s)
	var weights [moveRewind + 1]int
	for i := range weights {
		weights[i] = 1 + rng.IntN(8)*rng.IntN(8)
	}
	more := map[int]int{moveReopen: rng.IntN(2), moveRewind: rng.IntN(2)}
	var steps []string
	var wrong string
	for wrong == "" && !w.allEnded() {
		move := pick(rng, &w, weights[:], more)
		steps = append(steps, w.name(move))
		wrong = w.do(move)
	}
	if wrong == "" {
		wrong = w.drain()
	}
	if wrong == "" {
		return nil
	}
	return fmt.Errorf("%s\n\tseed %d, replay: go test ./source/sqlsource/ceiling -run TestModelAtRandom -model.seed %d\n\tscene: %s\n\tschedule: %s",
		wrong, seed, seed, s, strings.Join(steps, " "))
}

func pick(rng *rand.Rand, w *world, weights []int, more map[int]int) int {
	can := func(move int) bool {
		if move >= moveReopen {
			return more[move] > 0
		}
		return move < moves && w.can(move)
	}
	sum := 0
	for move, weight := range weights {
		if can(move) {
			sum += weight
		}
	}
	at := rng.IntN(sum)
	for move, weight := range weights {
		if !can(move) {
			continue
		}
		if at -= weight; at < 0 {
			if more[move] > 0 {
				more[move]--
			}
			return move
		}
	}
	panic("the weights do not add up")
}

func randomScene(rng *rand.Rand, v variant) scene {
	s := scene{
		old: rng.IntN(2) == 0, async: rng.IntN(2) == 0, noticed: true,
		polls: math.MaxInt8, lowest: int64(rng.IntN(8)) - 4, variant: v,
	}
	s.restarts = int8(rng.IntN(3))
	s.full = rng.IntN(64) == 0
	if !s.async {
		s.noticed = rng.IntN(2) == 0
	}
	ids := maxIDs
	for range 2 + rng.IntN(maxSessions-1) {
		var b strings.Builder
		for range 1 + rng.IntN(3) {
			text := randomTransaction(rng, s.async)
			if n := strings.Count(text, string(opDraw)); n <= ids {
				ids -= n
				b.WriteString(text)
			}
		}
		s.scripts = append(s.scripts, b.String())
	}
	return s
}

func randomTransaction(rng *rand.Rand, async bool) string {
	var b strings.Builder
	one := func(all ...string) { b.WriteString(all[rng.IntN(len(all))]) }
	saved := false
	for range 1 + rng.IntN(3) {
		one("pd1i", "pd2i", "1di", "2di", "dp1i", "pdx2i", "xpd1i", "dd2i")
		switch rng.IntN(6) {
		case 0:
			one("s")
			saved = true
		case 1:
			if saved {
				one("r", "dr1i")
			}
		}
	}
	if async {
		one("vu", "vu", "cu", "a", "PCu")
	} else {
		one("cu", "cu", "a", "PCu", "PA")
	}
	return b.String()
}
