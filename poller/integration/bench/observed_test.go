//go:build unix

package bench

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/orders"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// The lowest accepted ratio of the throughput with metrics and a status page to that
// without, with -bench.require.
const minUnobservedRatio = 0.98

// BenchmarkObserved measures what metrics and a status page cost. The same pipeline copies
// a Postgres table to files at full throughput, once with both attached and fetched at the
// start and then each second, and once with neither. Use enough -bench.rows for several
// seconds, or fetches are more frequent than that. Each round measures both, in alternating
// order, by wall-clock time and by the CPU time of this process, which does everything but
// the database's work. The medians of the ratios and the ratios of the best are reported.
// With -bench.require it fails only if all four are too low: a real cost shows in each of
// them, while other work on the machine slows one of the copies, mostly by wall-clock time.
func BenchmarkObserved(b *testing.B) {
	_, db := orders.Tables[0].Filled(b, *benchRows)
	_, err := db.Exec("vacuum analyze orders") // or autovacuum might start during the measurement
	require.NoError(b, err)
	rounds := 3 * *benchRounds // the cost is smaller than the variation between two rounds
	best := [2]float64{math.Inf(1), math.Inf(1)}
	least := best // lowest CPU times
	var clock, cpu []float64
	scrapes := 0
	ways := []func(*poller.Poller[row.Row]) (scrape func(context.Context)){
		func(*poller.Poller[row.Row]) func(context.Context) { return func(context.Context) {} },
		func(p *poller.Poller[row.Row]) func(context.Context) { return watch(b, p, &scrapes) },
	}
	for b.Loop() {
		for round := range rounds + 1 { // the first round is a warm-up
			var took, cpuTime [2]float64
			for i := range ways {
				w := (i + round) % 2
				took[w], cpuTime[w] = copyTable(b, db, ways[w])
				best[w], least[w] = min(best[w], took[w]), min(least[w], cpuTime[w])
			}
			if round > 0 {
				clock, cpu = append(clock, took[0]/took[1]), append(cpu, cpuTime[0]/cpuTime[1])
			}
		}
	}
	require.GreaterOrEqual(b, scrapes, rounds, "metrics and page were fetched")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(clock), "x-unobserved")
	b.ReportMetric(best[0]/best[1], "x-unobserved-best")
	b.ReportMetric(median(cpu), "x-unobserved-cpu")
	b.ReportMetric(least[0]/least[1], "x-unobserved-cpu-best")
	b.ReportMetric(float64(*benchRows)/best[1]/1000, "krows/s-best")
	b.Logf("%d rows, %d rounds, %d scrapes: %.3f to %.3f x the unobserved copy by the clock, %.3f to %.3f by CPU time",
		*benchRows, rounds, scrapes, slices.Min(clock), slices.Max(clock), slices.Min(cpu), slices.Max(cpu))
	if *benchRequire {
		require.GreaterOrEqual(b, max(median(clock), best[0]/best[1], median(cpu), least[0]/least[1]), minUnobservedRatio,
			"times the throughput of an unobserved copy, or its rows in a second of CPU time")
	}
}

// copyTable copies the table orders to a new directory, and returns the wall-clock time and
// the CPU time in seconds.
func copyTable(b *testing.B, db *sqlx.DB, observe func(*poller.Poller[row.Row]) (scrape func(context.Context))) (took, cpuTime float64) {
	b.Helper()
	quiet := slog.New(slog.DiscardHandler)
	dir := filepath.Join(b.TempDir(), "out")
	files, err := filesink.Open(dir, filesink.Options[row.Row]{Name: "orders", Logger: quiet})
	require.NoError(b, err)
	p := &poller.Poller[row.Row]{
		Name:         "orders",
		Source:       &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Logger: quiet},
		Sink:         files,
		Checkpointer: files,
		Logger:       quiet,
	}
	scrape := observe(p)
	runtime.GC() // so that earlier garbage is not collected during the measurement
	began, before := time.Now(), cpuSeconds(b)
	ctx, cancel := context.WithCancel(b.Context())
	var watching sync.WaitGroup
	watching.Go(func() { scrape(ctx) })
	require.NoError(b, p.Drain(ctx))
	cancel()
	watching.Wait()
	took, cpuTime = time.Since(began).Seconds(), cpuSeconds(b)-before
	require.EqualValues(b, *benchRows, p.Status().Records)
	require.NoError(b, files.Close())
	require.NoError(b, os.RemoveAll(dir))
	return took, cpuTime
}

func cpuSeconds(b *testing.B) float64 {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// watch attaches metrics and a status page to a pipeline, and serves them. The returned
// function fetches them at once and then each second until ctx ends, and counts that in
// scrapes.
func watch(b *testing.B, p *poller.Poller[row.Row], scrapes *int) func(ctx context.Context) {
	var page status.Page
	page.Attach(&p.Hooks, p.Status)
	metrics, registry := prometheus.New(), prom.NewRegistry()
	metrics.Attach(&p.Hooks, p.Status)
	registry.MustRegister(metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("/", &page)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := httptest.NewServer(mux)
	b.Cleanup(server.Close)

	return func(ctx context.Context) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			for _, path := range []string{"/metrics", "/status", "/readyz", "/"} {
				if err := visit(ctx, server, path); err != nil {
					if ctx.Err() == nil {
						b.Error(err)
					}
					return
				}
			}
			*scrapes++
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

func visit(ctx context.Context, server *httptest.Server, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
	if err != nil {
		return err
	}
	response, err := server.Client().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
