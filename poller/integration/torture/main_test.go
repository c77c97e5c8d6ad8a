// Package torture shows that no row is missed while hostile writers write, with
// real Postgres and MariaDB servers.
package torture

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

var (
	rowsFlag = flag.Int("torture.rows", 0, "rows to commit in each of TestLockFence, TestTransactionID and TestDirtyProbe, in rounds of at most a million; 0 is 200,000, or 20,000 with -short")
	forFlag  = flag.Duration("torture.for", 0, "longest time that each of these tests writes; 0: no limit")
	seedFlag = flag.Uint64("torture.seed", 0, "seed of what the writers do; 0 draws one")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // it prints every lost connection
		panic(err)
	}
	if *seedFlag == 0 {
		*seedFlag = rand.Uint64()
	}
	code := dbtest.Run(m)
	board.print()
	os.Exit(code)
}

// long reports whether this is the long form.
func long() bool { return *rowsFlag > 0 || *forFlag > 0 }

// rows returns how many rows to commit.
func rows() int {
	if testing.Short() || lab.Race() { // the race detector does not need rare orders of commits
		return cmp.Or(*rowsFlag, 20_000)
	}
	return cmp.Or(*rowsFlag, 200_000)
}

// notShort skips a case that takes too long for -short. The remaining cases are sufficient
// for the race detector: they run all readers and writers over thousands of rows.
func notShort(t *testing.T) {
	if testing.Short() || lab.Race() {
		t.Skip("takes up to half a minute: not with -short, nor with the race detector")
	}
}

// board collects the results of all tests for the table at the end.
var board scores

type scores struct {
	mu    sync.Mutex
	lines []line
}

type line struct {
	scenario string
	hostile.Result
}

// add records results. Results of the same scenario and reader are summed up; the delays
// are those of the worst round.
func (s *scores) add(scenario string, results ...hostile.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
next:
	for _, r := range results {
		for i := range s.lines {
			if l := &s.lines[i]; l.scenario == scenario && l.Reader == r.Reader {
				l.Committed += r.Committed
				l.Delivered += r.Delivered
				l.Lost += r.Lost
				l.Duplicates += r.Duplicates
				l.OutOfOrder += r.OutOfOrder
				l.Phantom += r.Phantom
				l.Delay = worse(l.Delay, r.Delay)
				l.AddedDelay = worse(l.AddedDelay, r.AddedDelay)
				continue next
			}
		}
		s.lines = append(s.lines, line{scenario, r})
	}
}

func worse(a, b hostile.Quantiles) hostile.Quantiles {
	return hostile.Quantiles{P50: max(a.P50, b.P50), P99: max(a.P99, b.P99)}
}

func (s *scores) print() {
	if len(s.lines) == 0 || !testing.Verbose() && !long() {
		return
	}
	table := hostile.MarkdownHead
	for _, l := range s.lines {
		table += l.Markdown(l.scenario)
	}
	fmt.Printf("\nseed %d\n\n%s\n", *seedFlag, table)
}

// trial runs a trial and records its results. The rows of each reader are also written to files,
// in which package verify must miss rows if and only if the ledger says that some were lost.
func trial(t *testing.T, scenario string, h hostile.Trial) (*hostile.Ledger, map[string]hostile.Result) {
	t.Helper()
	copies := make([]*lab.Copy, len(h.Readers))
	for i := range copies {
		copies[i] = lab.NewCopy(t)
		h.Readers[i].Copy = copies[i]
	}
	ledger, results := runTrial(t, scenario, h)
	board.add(scenario, results...)
	byName := map[string]hostile.Result{}
	for i, r := range results {
		byName[r.Reader] = r
		report := copies[i].Verify(t, h.Readers[i].Source.(*sqlsource.Table))
		require.NotEmpty(t, report.Parts, "%s", report)
		require.Empty(t, report.Unknown)
		require.Equal(t, r.Lost > 0, report.Missing() > 0, "%s: lost %d\n%s", r.Reader, r.Lost, report)
	}
	return ledger, byName
}

// runTrial runs a trial without recording its results.
func runTrial(t *testing.T, scenario string, h hostile.Trial) (*hostile.Ledger, []hostile.Result) {
	t.Helper()
	t.Logf("%s: to repeat it, except for its timing: go test ./poller/integration/torture -run '^%s$' -torture.seed %d -torture.rows %d",
		scenario, strings.ReplaceAll(t.Name(), "/", "$/^"), h.Writers.Seed, h.Writers.Rows)
	begun := time.Now()
	var mu sync.Mutex
	said := begun
	also := h.Writers.Progress
	h.Writers.Progress = func(c hostile.Counts) {
		if also != nil {
			also(c)
		}
		mu.Lock()
		defer mu.Unlock()
		if long() && time.Since(said) > 10*time.Second {
			said = time.Now()
			fmt.Printf("%s %s: %d rows in %d transactions committed after %v\n", t.Name(), scenario, c.Committed, c.Transactions, time.Since(begun).Round(time.Second))
		}
	}
	ledger, results, err := h.Run(t.Context())
	require.NoError(t, err)
	for _, r := range results {
		t.Logf("%s: %s: committed %d, delivered %d, lost %d, twice %d, out of order %d, not committed %d, delay %s, added %s", scenario, r.Reader,
			r.Committed, r.Delivered, r.Lost, r.Duplicates, r.OutOfOrder, r.Phantom, r.Delay, r.AddedDelay)
	}
	t.Logf("%s: %+v in %v, acts %v", scenario, ledger.Counts(), time.Since(begun).Round(100*time.Millisecond), ledger.Acts())
	return ledger, results
}

// requireSound requires that the reader delivered every row once and in order.
func requireSound(t *testing.T, l *hostile.Ledger, r hostile.Result) {
	t.Helper()
	if r.Sound() {
		return
	}
	for _, token := range r.LostTokens[:min(len(r.LostTokens), 10)] {
		t.Logf("lost: %s", l.Describe(token))
	}
	t.Errorf("%s: lost %d, twice %d, out of order %d, never committed %d, of %d rows", r.Reader, r.Lost, r.Duplicates, r.OutOfOrder, r.Phantom, r.Committed)
}

// requireLoss requires that the reader lost rows. Otherwise the scenario shows nothing.
func requireLoss(t *testing.T, r hostile.Result) {
	t.Helper()
	require.Positive(t, r.Lost, "%s lost none of %d rows, so the test shows nothing", r.Reader, r.Committed)
}
