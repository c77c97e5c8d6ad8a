package prometheus_test

import (
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
)

// All hooks of one batch: fetch, write and save, and the turn that ends.
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

// A failed attempt of a step, which is tried again.
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

func BenchmarkGather(b *testing.B) {
	m, registry := prometheus.New(), prom.NewRegistry()
	registry.MustRegister(m)
	var h poller.Hooks
	m.Attach(&h, named("orders"))
	b.ReportAllocs()
	for b.Loop() {
		_, err := registry.Gather()
		require.NoError(b, err)
	}
}
