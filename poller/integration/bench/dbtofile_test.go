//go:build unix

package bench

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/orders"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
)

var (
	benchRows    = flag.Int("bench.rows", 200_000, "rows to copy in BenchmarkPostgresToJSONLines")
	benchRounds  = flag.Int("bench.rounds", 7, "rounds of BenchmarkPostgresToJSONLines")
	benchRequire = flag.Bool("bench.require", os.Getenv("CI") == "true", "fail a benchmark if a figure misses its limit; the default is true with CI=true")
)

// Limits that -bench.require enforces.
const (
	minPsqlRatio  = 1.3 // of the speed of psql
	minNaiveRatio = 2.5 // of the speed of the naive loop
	maxMB         = 48  // of resident memory
)

// BenchmarkPostgresToJSONLines measures the time to copy a Postgres table to JSON Lines
// files, next to two ways without the library. Each round runs all three in turn on the
// same server, and only times of the same round are compared. The median ratio is reported,
// the lowest and highest are logged. The first two ways use two cores, ours most evenly, so
// other work on the machine slows ours most. Therefore -bench.require checks the median of
// quiet rounds or the ratios of the best times.
//
//   - ours: dbtofile -once, durable: each batch is fsynced and checkpointed
//   - psql: \copy (select row_to_json(t) from orders t) to a file, no fsync
//   - naive: a loop over sqlx MapScan and encoding/json, no fsync, no checkpoint
//
// The first two are processes, and their time includes the start; the third runs in this
// process. MB is the peak of dbtofile's resident memory.
func BenchmarkPostgresToJSONLines(b *testing.B) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		if os.Getenv("CI") == "true" {
			b.Fatal("no psql found: install the package postgresql-client")
		}
		b.Skip("no psql found: install the package postgresql-client")
	}
	rows := *benchRows
	binary := orders.Build(b)
	o, db := orders.Tables[0].Filled(b, rows)
	_, err = db.Exec("vacuum analyze orders") // or autovacuum might start during the measurement
	require.NoError(b, err)

	dir := b.TempDir()
	peak := 0.0
	ways := []func(out string) time.Duration{
		func(out string) time.Duration {
			cmd := o.Service(b, binary, out, "-once", "-log-level", "warn")
			began := time.Now()
			mb, text, err := runMeasured(cmd)
			took := time.Since(began)
			require.NoError(b, err, text)
			peak = max(peak, mb)
			return took
		},
		func(out string) time.Duration {
			cmd := exec.CommandContext(b.Context(), psql, "-Xqd", o.DSN, "-c", `\copy (select row_to_json(t) from orders t) to '`+out+`'`)
			began := time.Now()
			text, err := cmd.CombinedOutput()
			took := time.Since(began)
			require.NoError(b, err, string(text))
			return took
		},
		func(out string) time.Duration {
			began := time.Now()
			require.NoError(b, naive(db, out))
			return time.Since(began)
		},
	}

	var ours, ofPsql, ofNaive []float64
	best := [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}
	var quietPsql, quietNaive []float64
	for b.Loop() {
		for round := range *benchRounds + 1 { // the first round is a warm-up
			var took [3]time.Duration
			before := share(b)
			for i := range ways {
				w := (i + round) % len(ways) // the order changes with each round
				out := filepath.Join(dir, "out")
				took[w] = ways[w](out)
				if w == 0 && round == 0 {
					o.Compare(b, db, out, rows)
				}
				require.NoError(b, os.RemoveAll(out))
			}
			quiet := min(before, share(b)) >= quietShare
			for w := range ways {
				best[w] = min(best[w], took[w].Seconds())
			}
			if round > 0 {
				ours = append(ours, float64(rows)/took[0].Seconds()/1000)
				ofPsql = append(ofPsql, took[1].Seconds()/took[0].Seconds())
				ofNaive = append(ofNaive, took[2].Seconds()/took[0].Seconds())
				if quiet {
					quietPsql, quietNaive = append(quietPsql, ofPsql[round-1]), append(quietNaive, ofNaive[round-1])
				}
			}
		}
	}
	b.ReportMetric(median(ours), "krows/s")
	b.ReportMetric(median(ofPsql), "x-psql")
	b.ReportMetric(median(ofNaive), "x-naive")
	b.ReportMetric(best[1]/best[0], "x-psql-best")
	b.ReportMetric(best[2]/best[0], "x-naive-best")
	b.ReportMetric(peak, "peak-MB")
	b.ReportMetric(0, "ns/op") // hides the default metric
	b.Logf("%d rows, %d rounds, lowest to highest: %.0f to %.0f krows/s, %.2f to %.2f x psql, %.2f to %.2f x naive, %.0f MB at most; %d rounds were quiet",
		rows, *benchRounds, slices.Min(ours), slices.Max(ours), slices.Min(ofPsql), slices.Max(ofPsql), slices.Min(ofNaive), slices.Max(ofNaive), peak, len(quietNaive))
	if *benchRequire {
		require.LessOrEqual(b, peak, float64(maxMB), "MB")
	}
	if *benchRequire && len(quietNaive) == 0 {
		b.Logf("the ratios are not checked: in each round other work took more than %.0f%% of the machine", 100*(1-quietShare))
	} else if *benchRequire {
		require.GreaterOrEqual(b, max(median(quietPsql), best[1]/best[0]), minPsqlRatio, "times the speed of psql")
		require.GreaterOrEqual(b, max(median(quietNaive), best[2]/best[0]), minNaiveRatio, "times the speed of the naive loop")
	}
}

// quietShare is the share of the machine that must be available in a quiet round.
const quietShare = 0.9

// share returns the share of the machine's cores that this process gets when it tries to
// use all of them for a moment.
func share(b *testing.B) float64 {
	b.Helper()
	began, before, cores := time.Now(), cpuSeconds(b), runtime.NumCPU()
	var spinning sync.WaitGroup
	for range cores {
		spinning.Go(func() {
			for time.Since(began) < 100*time.Millisecond {
			}
		})
	}
	spinning.Wait()
	return (cpuSeconds(b) - before) / (time.Since(began).Seconds() * float64(cores))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// naive is the loop that one writes first: keyset pages, and a map for each row.
func naive(db *sqlx.DB, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	lines := json.NewEncoder(w)
	for after, more := int64(0), true; more; {
		if after, more, err = naivePage(db, lines, after); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func naivePage(db *sqlx.DB, lines *json.Encoder, after int64) (_ int64, more bool, err error) {
	rows, err := db.Queryx("select * from orders where id > $1 order by id limit 5000", after)
	if err != nil {
		return after, false, err
	}
	defer rows.Close()
	for rows.Next() {
		cells := map[string]any{}
		if err := rows.MapScan(cells); err != nil {
			return after, false, err
		}
		for name, cell := range cells { // otherwise jsonb becomes base64
			if text, ok := cell.([]byte); ok {
				cells[name] = json.RawMessage(text)
			}
		}
		if err := lines.Encode(cells); err != nil {
			return after, false, err
		}
		after, more = cells["id"].(int64), true
	}
	return after, more, rows.Err()
}

// runMeasured runs a command, and returns the peak of its resident memory in MB, or 0 if
// that is not available, and its output. The peak is read from /proc while the process
// runs, because the rusage of a child includes memory that it shared with its parent before
// exec.
func runMeasured(cmd *exec.Cmd) (peak float64, text string, err error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return peak, out.String(), err
		case <-tick.C:
			peak = max(peak, highWater(cmd.Process.Pid))
		}
	}
}

func highWater(pid int) (mb float64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 64)
			return kb / 1024
		}
	}
	return 0
}
