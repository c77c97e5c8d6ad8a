//go:build linux

package faults

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// row is a row of the table: what one fault did to one copy.
type row struct {
	fault
	verdict
	where           string
	times           int
	seen, recovered []time.Duration
	exit            string
	test            string
	note            string // instead of times, for a fault that no copy runs through
}

// table collects the rows of all tests.
type table struct {
	mu   sync.Mutex
	rows []row
}

var results table

func (t *table) add(test *testing.T, r row) {
	test.Helper()
	r.test = test.Name()
	test.Log(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

// parts is the order of the table.
var parts = []string{"network", "databases", "files", "process", "input", "secrets", "HTTP", "soak"}

func (t *table) markdown() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(t.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(slices.Index(parts, a.part), slices.Index(parts, b.part)), cmp.Compare(a.name, b.name), cmp.Compare(a.where, b.where))
	})
	var b strings.Builder
	fmt.Fprintf(&b, intro, runtime.Version(), runtime.NumCPU())
	for i, r := range t.rows {
		if i == 0 || r.part != t.rows[i-1].part {
			fmt.Fprintf(&b, "\n## %s%s\n\n%s", strings.ToUpper(r.part[:1]), r.part[1:], head)
		}
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

const intro = `# Fault table

Each row is a fault that was injected for real. While writers insert rows, ` + "`dbtofile`" + ` copies them to files, and a supervisor starts
it again when it ends. Several times the fault begins, the copy notices it, the fault ends, and the copy catches up. At the end the
files are compared with the table, by the test and by ` + "`dbtofile -verify`" + `. Run one row by the name of its test, or all to write this
table again:

    go test ./poller/integration/faults -all -v -run TestFaults/network/reset/Postgres
    go test ./poller/integration/faults -v -timeout 0 -soak.for 10m -table FAULTS.md

- *times*: how often it was injected.
- *seen after*: p50 and maximum of the time from the injection to a warning in the log, an error in /status or the end of the process.
  It is "-" for a fault that lasts for a fixed time.
- *recovered after*: p50 and maximum of the time from the end of the fault until each row that was committed by then is in the files.
- *exit codes*: those of all processes that ended. 0 is the stop at the end of the test.

The times are those of the machine that wrote the table (%s, %d cores, shared with other work). No test checks them.
`

const head = `| fault | how | where | times | rows | lost | twice | out of order | seen after | recovered after | exit codes | test |
|---|---|---|---|---|---|---|---|---|---|---|---|
`

func (r row) String() string {
	figures := fmt.Sprintf("%d | %d | %d | %d | %s | %s", r.rows, r.lost, r.twice, r.disorder, spread(r.seen), spread(r.recovered))
	if r.note != "" { // no copy runs through it
		figures = "- | - | - | - | - | " + r.note
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %s | %s | `%s` |", r.name, r.how, r.where, r.times, figures, r.exit, regexp.QuoteMeta(r.test))
}

// spread returns the median and the maximum.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "-"
	}
	d = slices.Sorted(slices.Values(d))
	return short(d[len(d)/2]) + ", " + short(d[len(d)-1])
}

// short rounds to two or three digits.
func short(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
