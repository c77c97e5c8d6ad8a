//go:build linux

package faults

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// fault is something that goes wrong while a table is copied. It is injected several times
// into one copy. Each time the copy flows, the fault begins, the copy notices it, the fault
// ends, and the copy catches up.
type fault struct {
	part, name string
	how        string // how it is injected, for the table
	on         []engine
	times      int                              // how often; 0 is 3
	private    func(*testing.T) []dbtest.Option // of a server for this fault only; nil: the shared one
	prepare    func(w *world)                   // before the copy starts
	begin      func(w *world) (end func())      // injects it once
	quiet      time.Duration                    // the copy says nothing about it; end it after this time
	dies       bool                             // the copy may end, and is started again as a supervisor would
	slow       bool                             // only in the whole form, because it takes another build
}

// faults are the faults of all parts that are injected into a running copy.
func allFaults() []fault {
	var list []fault
	for _, part := range [][]fault{networkFaults(), serverFaults(), sessionFaults(), sqliteFaults(), fileFaults(), syscallFaults(), processFaults(), httpFaults()} {
		list = append(list, part...)
	}
	return list
}

// TestFaults injects the faults: all in the whole form, otherwise two of each part, or one with
// -short. Consecutive turns inject all but those that are slow.
func TestFaults(t *testing.T) {
	t.Parallel()
	byPart := map[string][]func(*testing.T){}
	for _, f := range allFaults() {
		for _, e := range f.on {
			if f.slow && !whole() {
				continue
			}
			byPart[f.part] = append(byPart[f.part], func(t *testing.T) {
				t.Run(strings.Join([]string{f.part, f.name, e.name}, "/"), func(t *testing.T) {
					t.Parallel()
					f.run(t, e)
				})
			})
		}
	}
	for _, part := range parts {
		for _, test := range chosen(byPart[part]) {
			test(t)
		}
	}
}

// chosen returns those of a part whose turn it is.
func chosen[T any](part []T) (now []T) {
	n := 2
	if testing.Short() {
		n = 1
	}
	if whole() || len(part) <= n {
		return part
	}
	for i := range n {
		now = append(now, part[(turn()*n+i)%len(part)])
	}
	return now
}

func (f fault) run(t *testing.T, e engine) {
	r := results.row(t, f, e.name)
	w := newWorld(t, f, e)
	if f.prepare != nil {
		f.prepare(w)
	}
	w.write()
	w.copy.start()
	for range cmp.Or(f.times, 3) {
		w.flows()
		began := time.Now()
		end := f.begin(w)
		if f.quiet > 0 {
			<-time.After(f.quiet)
		} else {
			w.eventually("the fault is noticed", func() bool { return w.copy.failing(began) })
			r.seen = append(r.seen, time.Since(began))
		}
		end()
		r.times++
		r.calls = w.calls
		healed := time.Now()
		w.catchesUp()
		r.recovered = append(r.recovered, time.Since(healed))
	}
	w.finish(r)
	if !f.dies {
		assert.Equal(t, "0", r.exit, "the copy ended during the fault")
	}
}

// The suite sees a loss: a copy without a ceiling misses a row that commits late, and both the
// judge and -verify say so.
func TestLossIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fault{}, postgres)
	w.copy.args = []string{"-ceiling", "none"}
	w.copy.start()
	commit := w.hold(`BEGIN; INSERT INTO items (note) VALUES ('late')`, `COMMIT`)
	w.insert(10)
	w.catchesUp()
	commit()
	var r row
	w.settle(&r)
	assert.Equal(t, verdict{rows: 11, lost: 1, example: "row 1 was not delivered"}, r.verdict)
	assert.Equal(t, "4", r.verify)
}
