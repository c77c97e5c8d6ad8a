package prometheus_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/source"
)

// named is a pipeline that has nothing but a name.
func named(name string) func() poller.Status {
	return func() poller.Status { return poller.Status{Name: name, State: poller.Stopped} }
}

func TestTwoPipelinesWithOneName(t *testing.T) {
	m := prometheus.New()
	var a, b poller.Hooks
	m.Attach(&a, named("orders"))
	assert.PanicsWithValue(t, `prometheus: Attach: a pipeline with the name "orders" is already attached: give each pipeline its own name, and attach it once`,
		func() { m.Attach(&b, named("orders")) })
	assert.Nil(t, b.Poll, "nothing of it is attached")
	assert.Panics(t, func() { m.Attach(&a, named("orders")) }, "it would count twice")
	assert.PanicsWithValue(t, "prometheus: Attach: the pipeline has no name: set the Poller's Name first", func() { m.Attach(&b, named("")) })
	m.Attach(&b, named("payments"))

	registry := prom.NewPedanticRegistry()
	registry.MustRegister(m)
	a.Poll(poller.PollInfo{Records: 3})
	b.Poll(poller.PollInfo{Records: 4})
	for name, want := range map[string]float64{"orders": 3, "payments": 4} {
		assert.Equal(t, want, value(t, registry, "devotion_rows_written_total", name))
	}
}

// value returns a counter or gauge of a pipeline.
func value(t *testing.T, g prom.Gatherer, metric, pipeline string) float64 {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == metric && l.GetName() == "pipeline" && l.GetValue() == pipeline {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	require.Fail(t, "not gathered", "%s of %q", metric, pipeline)
	return 0
}

func TestNamesOfInvalidUTF8(t *testing.T) {
	m := prometheus.New()
	m.Version = "1.0\xff"
	var h poller.Hooks
	m.Attach(&h, named("caf\xe9\n\"x\""))
	assert.Panics(t, func() { m.Attach(&h, named("caf\xe8\n\"x\"")) }, "the labels are the same")
	h.StepEnd(t.Context(), poller.StepInfo{Pipeline: "caf\xe9\n\"x\"", Op: poller.OpFetch, Records: 2})
	registry := prom.NewPedanticRegistry()
	registry.MustRegister(m)
	assert.Equal(t, 2.0, value(t, registry, "devotion_rows_read_total", "caf\uFFFD\n\"x\""))
}

// Hooks that were set before are still called, including StepBegin.
func TestAttachJoins(t *testing.T) {
	type key struct{}
	w := newWorld(3)
	p := w.poller()
	polls := 0
	p.Hooks = poller.JoinHooks(p.Hooks, poller.Hooks{
		StepBegin: func(ctx context.Context, _ poller.StepInfo) context.Context {
			return context.WithValue(ctx, key{}, "here")
		},
		Poll: func(poller.PollInfo) { polls++ },
	})
	other := prometheus.New()
	other.Attach(&p.Hooks, p.Status)
	src := p.Source
	p.Source = source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
		assert.Equal(t, "here", ctx.Value(key{}))
		return src.Fetch(ctx, after, max)
	})
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, 1, polls)
	assert.Equal(t, 3.0, w.gather(t)["rows_written_total"])
	registry := prom.NewPedanticRegistry()
	registry.MustRegister(other)
	assert.Equal(t, 3.0, value(t, registry, "devotion_rows_written_total", "shop"), "each Metrics counts separately")
}

func TestWithoutAPipeline(t *testing.T) {
	m := prometheus.New()
	m.Version = "1.2.3"
	assert.Equal(t, 1, testutil.CollectAndCount(m))
	registry := prom.NewPedanticRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	require.NoError(t, err)
	labels := families[0].GetMetric()[0].GetLabel()
	assert.Equal(t, "goversion", labels[0].GetName())
	assert.Equal(t, runtime.Version(), labels[0].GetValue())
	assert.Equal(t, "revision", labels[1].GetName())
	assert.NotEmpty(t, labels[1].GetValue())
	assert.Equal(t, "version", labels[2].GetName())
	assert.Equal(t, "1.2.3", labels[2].GetValue())
}

// Pipelines are attached, work and are collected concurrently, for the race
// detector. Counters never decrease.
func TestConcurrentUse(t *testing.T) {
	metrics, registry := prometheus.New(), prom.NewPedanticRegistry()
	registry.MustRegister(metrics)
	names := []string{"a", "b", "c", "d"}
	var working sync.WaitGroup
	for _, name := range names {
		working.Go(func() {
			w := newWorld(500)
			w.metrics = metrics
			w.src.FailNext(3, errOutage)
			w.out.FailNext(3, errOutage)
			assert.NoError(t, w.called(name).Drain(t.Context()))
			for i := range 10 {
				metrics.Attach(&poller.Hooks{}, named(fmt.Sprint(name, i)))
			}
		})
	}
	done := make(chan struct{})
	go func() { working.Wait(); close(done) }()
	total := func() (sum float64) {
		families, err := registry.Gather()
		assert.NoError(t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "devotion_rows_written_total" {
					sum += m.GetCounter().GetValue()
				}
			}
		}
		return sum
	}
	last := 0.0
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		now := total()
		assert.GreaterOrEqual(t, now, last)
		last = now
	}
	assert.Equal(t, 2000.0, last)
	for _, name := range names {
		assert.Equal(t, 500.0, value(t, registry, "devotion_rows_written_total", name))
	}
}
