package prometheus_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
)

// All hooks of one batch: fetch, write, save and the end of the poll.
func BenchmarkBatch(b *testing.B) {
	var h poller.Hooks
	prometheus.New().Attach(&h, named("orders"))
	ctx := b.Context()
	steps := []poller.StepInfo{{Op: poller.OpFetch}, {Op: poller.OpWrite}, {Op: poller.OpSave}}
	for i := range steps {
		steps[i].Records, steps[i].Bytes, steps[i].Duration = 5000, 1<<20, 7*time.Millisecond
	}
	turn := poller.PollInfo{Records: 5000, Bytes: 1 << 20, Duration: 20 * time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range steps {
			h.StepEnd(h.StepBegin(ctx, s), s)
		}
		h.Poll(turn)
	}
}

// A failed attempt of a step that is tried again.
func BenchmarkRetry(b *testing.B) {
	var h poller.Hooks
	prometheus.New().Attach(&h, named("orders"))
	ctx, s := b.Context(), poller.StepInfo{Op: poller.OpWrite, Records: 5000, Err: errOutage}
	b.ReportAllocs()
	for b.Loop() {
		h.StepEnd(h.StepBegin(ctx, s), s)
		h.Backoff(poller.BackoffInfo{Op: poller.OpWrite, Err: errOutage})
	}
}

// A scrape of a program with one pipeline, with the metrics of Go and of the
// process.
func BenchmarkScrape(b *testing.B) {
	m, registry := prometheus.New(), prom.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var h poller.Hooks
	m.Attach(&h, named("orders"))
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
	b.ReportAllocs()
	for b.Loop() {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		require.Equal(b, http.StatusOK, answer.Code)
	}
}
