//go:build linux

package faults

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
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

func (t *table) add(r row) {
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

Each row is a fault that was injected for real, while writers inserted rows and ` + "`dbtofile`" + ` copied them to files. Afterwards the
files were compared with the table. The test that injects it is ` + "`TestFaults/PART/FAULT/WHERE`" + `, with spaces as underscores, or the
one that the row names. To run one:

    go test ./poller/integration/faults -all -v -run 'TestFaults/network/reset/Postgres'

To repeat the table:

    go test ./poller/integration/faults -v -timeout 0 -table poller/integration/faults/FAULTS.md

*Seen after* is the time from the injection to the first line of the log, error in /status or end of the process, and
*recovered after* the time from the end of the fault until each row that was committed by then is in the files: p50, and the
greatest. Exit codes are those of each process that ended; 0 is the stop at the end of the test. Times are those of the machine
that ran it (%s, %d cores, shared with other work), and no test checks them.
`

const head = `| fault | how | where | times | rows | lost | twice | out of order | seen after p50, max | recovered after p50, max | exit codes |
|---|---|---|---|---|---|---|---|---|---|---|
`

func (r row) String() string {
	if r.note != "" {
		return fmt.Sprintf("| %s | %s | %s | %d | | | | | | %s | %s |", r.name, r.how, r.where, r.times, r.note, r.exit)
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %d | %d | %d | %d | %s | %s | %s |", r.name, r.how, r.where, r.times,
		r.rows, r.lost, r.twice, r.disorder, spread(r.seen), spread(r.recovered), r.exit)
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
