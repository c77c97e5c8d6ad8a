package pollertest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/poller"
)

// kind is the kind of a fault.
type kind string

const (
	crashBefore kind = "crash before"
	crashAfter  kind = "crash after the effect of"
	answerLost  kind = "answer lost of"

	// Faults of a write of more than one record.
	tooLarge    kind = "too many records in"
	crashWithin kind = "crash within" // half of the records are stored
	partly      kind = "error within" // half of the records are stored, and the sink says so
)

// crash reports whether the process ends with the fault.
func (k kind) crash() bool { return k == crashBefore || k == crashAfter || k == crashWithin }

// call is the nth call of a method in one process. Processes are counted from 0,
// calls from 1.
type call struct {
	process int
	op      poller.Op
	n       int
	several bool // a write of more than one record
}

// strike is a fault of a call.
type strike struct {
	kind
	call
}

// scenario is the faults of one run, in order.
type scenario []strike

func (s scenario) String() string {
	if len(s) == 0 {
		return "without any fault"
	}
	var b strings.Builder
	for i, f := range s {
		if i > 0 {
			b.WriteString(", then ")
		}
		fmt.Fprintf(&b, "%s %s #%d", f.kind, opName(f.op), f.n)
		if f.process > 0 {
			fmt.Fprintf(&b, " of process %d", f.process+1)
		}
	}
	return b.String()
}

func opName(op poller.Op) string {
	if op == poller.OpDeadLetter {
		return "DeadLetter.Write"
	}
	return strings.ToUpper(string(op[:1])) + string(op[1:])
}

// extend returns the scenarios with one more fault, after the last of s, given the
// calls made in a run of s. A sink that promises exactly once stores all of a batch
// or none. Of the others, only one that reports its progress does not get the half
// that it has stored again.
func (s scenario) extend(calls []call, exactlyOnce, reports bool) []scenario {
	var more []scenario
	for _, c := range s.later(calls) {
		kinds := []kind{crashBefore, crashAfter}
		if c.op != poller.OpLoad && c.op != poller.OpFetch {
			kinds = append(kinds, answerLost)
		}
		if c.several {
			kinds = append(kinds, tooLarge)
			if !exactlyOnce {
				kinds = append(kinds, crashWithin)
			}
			if reports {
				kinds = append(kinds, partly)
			}
		}
		for _, k := range kinds {
			more = append(more, append(s[:len(s):len(s)], strike{k, c}))
		}
	}
	return more
}

// later returns the calls after the last fault. After a crash these are the calls
// of later processes. After another fault the process goes on, and the next fault
// may happen in it, but not at a fetch: it runs concurrently with the other calls
// and is neither before nor after them. For the same reason the list is sorted: it
// must be the same in every run.
func (s scenario) later(calls []call) []call {
	last := strike{call: call{process: -1}}
	if len(s) > 0 {
		last = s[len(s)-1]
	}
	var later []call
	after := false
	for _, c := range calls {
		switch {
		case c.process > last.process:
			later = append(later, c)
		case c == last.call:
			after = true
		case after && !last.kind.crash() && c.process == last.process && c.op != poller.OpFetch:
			later = append(later, c)
		}
	}
	slices.SortFunc(later, func(a, b call) int {
		return cmp.Or(cmp.Compare(a.process, b.process), cmp.Compare(a.n, b.n),
			cmp.Compare(slices.Index(ops, a.op), slices.Index(ops, b.op)))
	})
	return later
}

// ops are the steps in the order of the loop.
var ops = []poller.Op{poller.OpLoad, poller.OpFetch, poller.OpWrite, poller.OpDeadLetter, poller.OpSave}
