package ceiling

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
	"time"

	"github.com/stretchr/testify/require"
)

var (
	stampSeed  = flag.Uint64("stamp.seed", 0, "replay this seed of TestStampModel alone")
	stampSeeds = flag.Uint64("stamp.seeds", 0, "how many seeds TestStampModel runs; 0 for 10,000, and 3,000 with -short")
)

// stampFault is a fault of a reader. The zero value is a correct reader.
type stampFault struct {
	noMargin    bool // the margin is 0
	listFirst   bool // the transactions are listed before the clock is read
	onlyXID     bool // only transactions with a transaction id are listed
	noPrepared  bool // prepared transactions are not listed
	noHeirs     bool // their new ids are not linked to a listed transaction
	unfenced    bool // no transaction is listed
	oneSnapshot bool // rows are read as they were when the clock was
}

// margin is in microseconds, as the clock of the model.
const margin = 6

// stampWriter is a session that works through its script:
//
//	n  the client takes a stamp before it begins, by a clock that may lag
//	b  begin: from now on the transaction is listed
//	s  the stamp is taken in the transaction
//	i  a row with the stamp is written, which needs a transaction id
//	P  PREPARE TRANSACTION
//	c  commit: the rows are visible
//	u  the transaction is not listed any more
//	a  rollback
type stampWriter struct {
	script      string
	at, local   int
	stamp, from int64 // from is when the transaction began
	open, xid   bool
	prepared    bool
	survivor    bool // of a restart
	rows        []stampRow
}

type stampRow struct {
	stamp, id int64
	outside   bool // the assumption does not cover it
}

// stampWorld is the database, and what its reader has seen. It is the Transactions of the Guard under test:
// each of its calls lets others work before and after.
type stampWorld struct {
	rng      *rand.Rand
	fault    stampFault
	unlisted bool // the database does not list transactions
	old      bool // it shows prepared transactions under another id
	restarts int

	clock     int64
	writers   []stampWriter
	visible   []stampRow // in order
	ids       int64
	list      map[string]*Holder // for listFirst
	snapshot  []stampRow
	cursor    stampRow
	delivered map[int64]bool
	outside   int // rows that may be lost
	steps     []string
	wrong     string
}

func newStampWorld(seed uint64, fault stampFault) *stampWorld {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &stampWorld{rng: rng, fault: fault, clock: 2e15, delivered: map[int64]bool{}, old: rng.IntN(2) == 0, unlisted: rng.IntN(4) == 0, restarts: rng.IntN(2)}
	for range 2 + rng.IntN(4) {
		var script strings.Builder
		for range 1 + rng.IntN(4) {
			script.WriteString([]string{"nbicu", "nbicu", "bsicu", "bsicu", "bsisicu", "bsnicu", "nbia", "bu", "bsiPcu", "nbiPcu", "bsiPa"}[rng.IntN(11)])
		}
		w.writers = append(w.writers, stampWriter{script: script.String()})
	}
	return w
}

// run lets the writers and the clock do a few steps.
func (w *stampWorld) run() {
	for range w.rng.IntN(4) {
		i := w.rng.IntN(len(w.writers) + 2)
		switch {
		case i < len(w.writers):
			w.step(i)
		case w.rng.IntN(40) == 0 && w.restarts > 0:
			w.restart()
		default:
			w.clock += int64(1 + w.rng.IntN(3))
			w.note("tick")
		}
	}
}

func (w *stampWorld) note(step string) { w.steps = append(w.steps, step) }

func (w *stampWorld) step(i int) {
	s := &w.writers[i]
	if s.at == len(s.script) {
		return
	}
	op := s.script[s.at]
	s.at++
	w.note(fmt.Sprintf("%d%c", i+1, op))
	switch op {
	case 'n':
		s.stamp = w.clock - int64(w.rng.IntN(margin/2))
	case 'b':
		s.open, s.from = true, w.clock
		s.local++
	case 's':
		s.stamp = w.clock
	case 'i':
		w.ids++
		s.xid = true
		s.rows = append(s.rows, stampRow{s.stamp, w.ids, s.stamp < s.from-margin})
	case 'P':
		s.prepared = true
	case 'c':
		for _, r := range s.rows {
			if w.unlisted {
				r.outside = r.stamp < w.clock-margin
			}
			w.show(r)
		}
		s.rows = nil
	case 'u', 'a':
		*s = stampWriter{script: s.script, at: s.at, local: s.local}
	}
}

func (w *stampWorld) show(r stampRow) {
	if r.outside {
		w.outside++
	} else if compareRows(r, w.cursor) <= 0 {
		w.wrong = fmt.Sprintf("row %d came up behind the cursor", r.id)
	}
	i, _ := slices.BinarySearchFunc(w.visible, r, compareRows)
	w.visible = slices.Insert(slices.Clone(w.visible), i, r)
}

func compareRows(a, b stampRow) int {
	if a.stamp != b.stamp {
		return int(a.stamp - b.stamp)
	}
	return int(a.id - b.id)
}

// restart ends every transaction that is not prepared. Its ids are given to others.
func (w *stampWorld) restart() {
	w.restarts--
	w.note("restart")
	for i := range w.writers {
		s := &w.writers[i]
		switch {
		case s.prepared:
			s.survivor = true
		case s.open:
			end := strings.IndexAny(s.script[s.at:], "ua") + 1
			*s = stampWriter{script: s.script, at: s.at + end}
		default:
			s.local = 0
		}
	}
}

func (w *stampWorld) Since() string { return "" }

func (w *stampWorld) Clock(context.Context, Queryer) (time.Time, error) {
	w.run()
	w.list, w.snapshot = w.open(), w.visible
	w.run()
	w.run()
	now := time.UnixMicro(w.clock)
	w.note("clock")
	w.run()
	return now, nil
}

func (w *stampWorld) List(_ context.Context, _ Queryer, clock time.Time, _ map[string]*Holder) (time.Time, map[string]*Holder, error) {
	w.run()
	list := w.open()
	w.note("list")
	w.run()
	switch {
	case w.fault.listFirst:
		return clock, w.list, nil
	case w.rng.IntN(8) == 0:
		return clock, nil, nil // it is not new enough
	}
	return clock, list, nil
}

func (w *stampWorld) open() map[string]*Holder {
	list := map[string]*Holder{}
	for i, s := range w.writers {
		if !s.open || w.unlisted || w.fault.unfenced || w.fault.onlyXID && !s.xid || w.fault.noPrepared && s.prepared {
			continue
		}
		id, other := fmt.Sprintf("%d/%d", i, s.local), s.prepared && (w.old || s.survivor)
		if other {
			id = fmt.Sprintf("-1/%d.%d", i, s.at)
		}
		list[id] = &Holder{Session: int64(i), Prepared: s.prepared, Inherits: other && !w.fault.noHeirs}
	}
	return list
}

func (w *stampWorld) Describe(context.Context, Queryer, []*Holder) ([]string, error) { return nil, nil }

// end returns the last row.
func (w *stampWorld) end(context.Context, Queryer, bool) ([]string, error) {
	w.run()
	if len(w.visible) == 0 {
		return nil, nil
	}
	return w.visible[len(w.visible)-1].key(), nil
}

func (r stampRow) key() []string { return []string{fmt.Sprint(r.stamp), fmt.Sprint(r.id)} }

// poll asks the Guard, and reads some rows below the limit.
func (w *stampWorld) poll(g *stamp) error {
	var after []string
	if w.cursor.id > 0 {
		after = w.cursor.key()
	}
	l, err := g.Advance(context.Background(), nil, after)
	if err != nil || l.Nothing {
		return err
	}
	w.run()
	rows, limit := w.visible, l.Args[0].(int64)
	if w.fault.oneSnapshot {
		rows = w.snapshot
	}
	w.note("read")
	for n, most := 0, 1+w.rng.IntN(4); n < most; n++ {
		i := slices.IndexFunc(rows, func(r stampRow) bool { return compareRows(r, w.cursor) > 0 })
		if i < 0 || rows[i].stamp >= limit {
			break
		}
		w.cursor = rows[i]
		w.delivered[rows[i].id] = true
	}
	return nil
}

// stampAtRandom runs the schedule of a seed, and returns how many rows the assumption did not cover.
func stampAtRandom(seed uint64, fault stampFault) (outside int, err error) {
	w := newStampWorld(seed, fault)
	table := Table{SQL: fakeSQL{}, Label: "t", Key: []Column{{Name: "at", Ref: "t.at"}}, End: w.end}
	g := newStamp(table, margin*time.Microsecond)
	g.list, g.moments = w, unixLike(strconv.Itoa(2e15))
	if fault.noMargin {
		g.margin = 0
	}
	working := func(s stampWriter) bool { return s.at < len(s.script) }
	for n := 0; w.wrong == "" && err == nil && slices.ContainsFunc(w.writers, working); n++ {
		if err = w.poll(g); n > 1000 {
			w.wrong = "the writers do not end"
		}
	}
	for n := 0; n < 40 && w.wrong == "" && err == nil; n++ {
		w.clock += margin
		err = w.poll(g)
	}
	if left := slices.DeleteFunc(slices.Clone(w.visible), func(r stampRow) bool { return r.outside || w.delivered[r.id] }); len(left) > 0 && w.wrong == "" {
		w.wrong = fmt.Sprintf("rows are not read: %v", left)
	}
	if w.wrong != "" || err != nil {
		return 0, errors.Join(err, fmt.Errorf("%s\n\treplay: go test ./source/sqlsource/ceiling -run TestStampModel -stamp.seed %d\n\tsteps: %s", w.wrong, seed, strings.Join(w.steps, " ")))
	}
	return w.outside, nil
}

// TestStampModel runs the Guard of Stamp against a database whose writers work between each two of its statements.
func TestStampModel(t *testing.T) {
	t.Parallel()
	if *stampSeed != 0 {
		_, err := stampAtRandom(*stampSeed, stampFault{})
		require.NoError(t, err)
		return
	}
	total, outside := *stampSeeds, 0
	switch {
	case total != 0:
	case testing.Short() || raceDetector:
		total = 3_000
	default:
		total = 10_000
	}
	for seed := range total {
		n, err := stampAtRandom(seed+1, stampFault{})
		require.NoError(t, err)
		outside += n
	}
	require.Positive(t, outside, "some rows are outside of the margin")
}

// TestStampModelKillsMutants shows that the model finds faults of a reader.
func TestStampModelKillsMutants(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]stampFault{
		"no margin": {noMargin: true}, "listed before the clock is read": {listFirst: true}, "transactions with an id only": {onlyXID: true},
		"prepared transactions ignored": {noPrepared: true}, "prepared transactions do not inherit": {noHeirs: true},
		"no transactions": {unfenced: true}, "an old snapshot": {oneSnapshot: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed, err := uint64(0), error(nil)
			for ; err == nil && seed < 20_000; seed++ {
				_, err = stampAtRandom(seed+1, fault)
			}
			require.Error(t, err, "the mutant survived")
			t.Logf("seed %d: %v", seed, err)
		})
	}
}
