//go:build linux

package faults

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// row is a row of the table: what one fault did to one copy.
type row struct {
	fault
	verdict
	where           string
	times           int
	calls           int // system calls that strace made fail or held up
	seen, recovered []time.Duration
	exit            string
	verify          string // exit code of dbtofile -verify; empty: it did not run
	test            string
	note            string // the figure measured instead of rows, or an explanation
	result          string // ok, FAILED or skipped
}

// table collects the rows of all tests.
type table struct {
	mu   sync.Mutex
	rows []row
	err  error // of writing it
}

var results table

// row begins a row, which the test fills. It is added when the test ends, however it ends.
func (t *table) row(test *testing.T, f fault, where string) *row {
	r := &row{fault: f, where: where, test: test.Name()}
	test.Cleanup(func() {
		r.result = "ok"
		if test.Failed() {
			r.result = strings.TrimSpace("FAILED " + r.example)
		} else if test.Skipped() {
			r.result = "skipped"
		}
		test.Log(r)
		t.add(*r)
	})
	return r
}

// add adds a row, and writes the table as far as it is known.
func (t *table) add(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
	t.write(unfinished)
}

// finish writes the whole table. A run without a row leaves the file alone.
func (t *table) finish() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) > 0 {
		t.write("")
	}
	return t.err
}

func (t *table) write(state string) {
	if *tablePath != "" {
		t.err = os.WriteFile(*tablePath, []byte(t.markdown(state)), 0o644)
	}
}

// parts is the order of the table.
var parts = []string{"network", "databases", "files", "process", "input", "secrets", "HTTP", "soak"}

func (t *table) markdown(state string) string {
	slices.SortStableFunc(t.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(slices.Index(parts, a.part), slices.Index(parts, b.part)), cmp.Compare(a.name, b.name), cmp.Compare(a.where, b.where))
	})
	var b strings.Builder
	fmt.Fprintf(&b, intro, state, command(), runtime.Version(), runtime.NumCPU())
	for i, r := range t.rows {
		if i == 0 || r.part != t.rows[i-1].part {
			fmt.Fprintf(&b, "\n## %s%s\n\n%s", strings.ToUpper(r.part[:1]), r.part[1:], head)
		}
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// command returns the command that writes this table.
func command() string {
	c := "go test ./poller/integration/faults -v -timeout 0 -soak.for " + strings.Replace(soakTime().String(), "m0s", "m", 1)
	if *kills != defaultKills {
		c += fmt.Sprintf(" -kills %d", *kills)
	}
	if *cutStep != 1 {
		c += fmt.Sprintf(" -cut.step %d", *cutStep)
	}
	return c + " -table FAULTS.md"
}

const unfinished = "**The run that writes this table has not ended.**\n\n"

const intro = `# Fault table

%sEach row is a fault that was injected, and what it did. Most rows are about a running copy: while writers insert rows, ` + "`dbtofile`" + `
copies them to files, and a supervisor starts it again when it ends. As often as *times* says, the fault begins, the copy notices it or
a fixed time passes, the fault ends, and the copy catches up. At the end the test compares the files with the table, and so does ` + "`dbtofile -verify`" + `. Other rows have
no such copy: where the exit code is "none: in the test", a pipeline in the test process copies from table to table, and the test alone
compares them. After a refused history the table is copied again by -rewind, so rows are twice in the files. The parts Input and
Secrets have no writers, and say under *result* what was measured. Without -table or -all the command injects a turn: two faults of
each part.

Run one row by the name of its test, or all to write this table again. FAULTS.md is then in the directory of the package, where
the test runs, and has each row as soon as it is known:

    go test ./poller/integration/faults -all -v -timeout 0 -run '^TestFaults$/^network$/^reset$/^Postgres$'
    %s

- *times*: how often it was injected; for faults of system calls also how many calls strace made fail or held up.
- *-verify*: the exit code of ` + "`dbtofile -verify`" + `: 0 for equal, 4 for rows that are missing, 5 for other differences, "-" where it did not run.
- *seen after*: p50 and maximum of the time from the injection to a warning in the log, an error in /status or the end of the process.
  It is "-" for a fault that lasts for a fixed time.
- *recovered after*: p50 and maximum of the time from the end of the fault until each row that was committed by then is in the files.
- *exit codes*: those of all processes that ended. 0 is the stop at the end of the test.
- *result*: "FAILED" if the test failed, whatever the figures, and what else was measured.

The times are those of the machine that wrote the table (%s, %d cores, shared with other work). No test checks them.
`

const head = `| fault | how | where | times | rows | lost | twice | out of order | -verify | seen after | recovered after | exit codes | result | test |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

func (r row) String() string {
	figures := "- | - | - | -"
	if r.rows > 0 {
		figures = fmt.Sprintf("%d | %d | %d | %d", r.rows, r.lost, r.twice, r.disorder)
	}
	times := fmt.Sprint(r.times)
	if r.calls > 0 {
		times += fmt.Sprintf(" (%d calls)", r.calls)
	}
	result := r.result
	if r.note != "" {
		result += ": " + r.note
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | `%s` |", r.name, r.how, r.where, times, figures,
		cmp.Or(r.verify, "-"), spread(r.seen), spread(r.recovered), cmp.Or(r.exit, "-"), result, pattern(r.test))
}

// pattern returns the value of -run that runs one test and no other, quoted for a shell.
func pattern(test string) string {
	parts := strings.Split(test, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return "'" + strings.Join(parts, "/") + "'"
}

// A row of a test that fails says so, with the figures that were measured.
func TestRow(t *testing.T) {
	t.Parallel()
	r := row{fault: fault{part: "network", name: "reset", how: "by hand"}, where: "Postgres", times: 2, calls: 7, verdict: verdict{rows: 9, lost: 1}, verify: "4", exit: "0",
		result: "FAILED row 3 was not delivered", test: "TestFaults/network/clock_+1_h/Postgres"}
	assert.Equal(t, "| reset | by hand | Postgres | 2 (7 calls) | 9 | 1 | 0 | 0 | 4 | - | - | 0 | FAILED row 3 was not delivered | `'^TestFaults$/^network$/^clock_\\+1_h$/^Postgres$'` |", r.String())
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

// A run that would leave a table without all rows, or without an end, is refused at once, and
// leaves the file alone.
func TestTableIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "FAULTS.md")
	require.NoError(t, os.WriteFile(file, []byte("earlier"), 0o600))
	for want, args := range map[string][]string{
		"leave out -run":             {"-table", file, "-test.run", "TestJudge"},
		"leave out -short":           {"-table", file, "-test.short"},
		"add -timeout 0":             {"-table", file, "-test.timeout", "10m"},
		"no such file or directory":  {"-table", filepath.Join(file+"-none", "FAULTS.md")},
		"relative to poller/integra": {"-table", filepath.Join(file+"-none", "FAULTS.md")},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "-test.list", "^$")...) // which ends it if it is not refused
		text, _ := cmd.CombinedOutput()
		assert.Equal(t, 2, codeOf(cmd), "%s", text)
		assert.Contains(t, string(text), want)
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "earlier", string(text))
}
