package mysql

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// openFault is a list with a fault. The zero value has none.
type openFault struct {
	transactionsFirst bool // the transactions are listed before the statements
	onlyTransactions  bool // statements are not listed
	onlyStatements    bool // transactions are not listed
	noHeirs           bool // a transaction does not inherit the place of its statement
	forgotten         bool // a prepared transaction gets another name
}

// openThread works through a script:
//
//	q  a statement begins
//	a  it reads or writes a row: its transaction is open, and listed
//	c  the transaction is committed
//	e  the statement ends
//	x  the session ends, and its prepared transaction goes on without a thread
type openThread struct {
	script    string
	at        int
	running   bool
	event     int
	open      bool
	detached  bool
	began     int64 // when the transaction was open, or its statement began, whichever was earlier
	statement int64 // when the statement began
	started   int64 // in whole seconds
	id        int
}

// openWorld is a server, and a reader that sets fences.
type openWorld struct {
	rng     *rand.Rand
	fault   openFault
	events  bool // the server shows which statement a thread runs
	clock   int64
	ids     int
	threads []openThread
	names   names
	settled int64
	steps   []string
	wrong   string
}

func (w *openWorld) run() {
	for range w.rng.IntN(4) {
		if w.clock++; w.rng.IntN(3) > 0 {
			w.step(w.rng.IntN(len(w.threads)))
		}
	}
}

func (w *openWorld) step(i int) {
	s := &w.threads[i]
	if s.at == len(s.script) {
		return
	}
	op := s.script[s.at]
	s.at++
	w.steps = append(w.steps, fmt.Sprintf("%d%c", i+1, op))
	switch op {
	case 'q':
		s.running, s.statement = true, w.clock
		s.event++
	case 'a':
		if w.ids++; !s.open {
			s.open, s.began, s.started, s.id = true, s.statement, w.clock/8, w.ids
		}
	case 'c':
		if s.began <= w.settled {
			w.wrong = fmt.Sprintf("the transaction of thread %d was open at %d, and was not waited for", i+1, s.began)
		}
		s.open, s.detached = false, false
	case 'e':
		s.running = false
	case 'x':
		s.detached = true
	}
}

// statements is as server.statements lists them.
func (w *openWorld) statements(before map[string]*ceiling.Holder) map[string]*ceiling.Holder {
	all, hidden := map[string]*ceiling.Holder{}, map[string]bool{}
	for i, s := range w.threads {
		if !s.running || w.fault.onlyTransactions {
			continue
		}
		name := fmt.Sprint(i + 1)
		hidden[name] = !w.events
		if w.events {
			name += fmt.Sprint("/", s.event)
		}
		all[name] = &ceiling.Holder{Session: int64(i + 1)}
	}
	keepUnfinished(all, before, hidden)
	return all
}

func (w *openWorld) open() (all []trx) {
	for i, s := range w.threads {
		if s.open && !w.fault.onlyStatements {
			x := trx{id: fmt.Sprint(s.id), // it has written
				thread: int64(i + 1), started: fmt.Sprint(s.started)}
			if s.detached {
				x.thread = 0
			}
			all = append(all, x)
		}
	}
	return all
}

// list lists what is open, with work between its two parts.
func (w *openWorld) list(before map[string]*ceiling.Holder) map[string]*ceiling.Holder {
	open := w.open()
	w.run()
	all := w.statements(before)
	w.run()
	if !w.fault.transactionsFirst {
		open = w.open()
	}
	w.names = w.names.join(all, open, before)
	for _, h := range all {
		h.Inherits = h.Inherits && !w.fault.noHeirs
	}
	if w.fault.forgotten {
		w.names = nil
	}
	w.steps = append(w.steps, "list")
	w.run()
	return all
}

// openAtRandom runs the schedule of a seed.
func openAtRandom(seed uint64, fault openFault) error {
	w := &openWorld{rng: rand.New(rand.NewPCG(seed, 2)), fault: fault, clock: 1, settled: -1}
	w.events = w.rng.IntN(2) == 0
	for range 2 + w.rng.IntN(4) {
		var script strings.Builder
		for range 1 + w.rng.IntN(5) {
			script.WriteString([]string{"qace", "qace", "qaeqec", "qaeqaec", "qeqaec", "qe", "qaexc"}[w.rng.IntN(7)])
		}
		w.threads = append(w.threads, openThread{script: script.String()})
	}
	var fences ceiling.Fences[int64]
	for n := 0; n < 60 && w.wrong == ""; n++ {
		at := w.clock
		w.run()
		fences.Set(at, time.Time{}, w.list(maps.Clone(fences.Holders())))
		if high, _, ok := fences.Settle(); ok {
			w.settled = max(w.settled, high)
		}
	}
	for i := range w.threads {
		for w.threads[i].at < len(w.threads[i].script) && w.wrong == "" {
			w.step(i)
		}
	}
	at := w.clock
	for range 3 {
		fences.Set(at, time.Time{}, w.list(maps.Clone(fences.Holders())))
	}
	if high, _, _ := fences.Settle(); high < at && w.wrong == "" {
		w.wrong = "fences are not settled when all have ended"
	}
	if w.wrong == "" {
		return nil
	}
	return fmt.Errorf("%s\n\tseed %d\n\tsteps: %s", w.wrong, seed, strings.Join(w.steps, " "))
}

// TestOpenTransactions goes through random orders in which threads work and what is open is listed.
func TestOpenTransactions(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4_000) {
		require.NoError(t, openAtRandom(seed, openFault{}))
	}
	for name, fault := range map[string]openFault{
		"transactions first": {transactionsFirst: true}, "no statements": {onlyTransactions: true}, "no transactions": {onlyStatements: true}, "no heirs": {noHeirs: true}, "other names": {forgotten: true},
	} {
		seed, err := uint64(0), error(nil)
		for ; err == nil && seed < 10_000; seed++ {
			err = openAtRandom(seed, fault)
		}
		require.Error(t, err, "the mutant survived: %s", name)
		t.Logf("%s: %v", name, err)
	}
}
