// Package prometheus has the metrics of pipelines for Prometheus.
//
//	metrics := prometheus.New()
//	metrics.Attach(&p.Hooks, p.Status) // before Run; one line for each pipeline
//	registry.MustRegister(metrics)
//	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
//
// All metrics begin with devotion_ and have a label pipeline, the Poller's Name.
// The README beside this file lists them, says what their labels can be, and
// what to alert on. Seconds and bytes are the only units. No label is ever made
// of a row, a cursor or an error's text, so the number of series is fixed: 155
// for each pipeline, and one for a step and class of error that is not expected.
//
// What a pipeline did is counted by hooks, for which an update costs some
// nanoseconds; how it is doing is asked of its Status when metrics are
// collected. Neither waits for a part of the pipeline: a pipeline that hangs, or
// is stopped, can be collected, and a slow scrape slows no pipeline.
package prometheus

import (
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/artifactofdevotion/devotion/poller"
)

// Metrics is a prometheus.Collector of the metrics of any number of pipelines.
// Make it with [New]. It is safe for concurrent use.
type Metrics struct {
	// Version of the program, for devotion_build_info. Defaults to that of the
	// main module. Set it before the Metrics are registered.
	Version string

	counts counts
	gauges []gauge
	state  *prometheus.Desc
	build  *prometheus.Desc

	mu        sync.Mutex
	pipelines map[string]func() poller.Status // by label
}

var _ prometheus.Collector = (*Metrics)(nil)

// New returns metrics without a pipeline.
func New() *Metrics {
	return &Metrics{
		counts:    newCounts(),
		gauges:    newGauges(),
		state:     describe("state", "1 for what the pipeline is about now, 0 for what it is not.", "pipeline", "state"),
		build:     describe("build_info", "1, with the program's version, the revision of its source and the version of Go as labels.", "version", "revision", "goversion"),
		pipelines: map[string]func() poller.Status{},
	}
}

// Attach adds a pipeline, given by its Status method, and joins the hooks that
// count to its own. Call it once for each pipeline, after its Name is set and
// before Run; it may run, stop and run again.
//
// Attach panics if the pipeline has no name or that of one attached before: their
// metrics could not be told apart. A name that is no valid UTF-8, which a label
// has to be, has its invalid bytes replaced by U+FFFD.
func (m *Metrics) Attach(hooks *poller.Hooks, status func() poller.Status) {
	name := strings.ToValidUTF8(status().Name, "\uFFFD")
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case name == "":
		panic("prometheus: Attach: the pipeline has no name: set the Poller's Name first")
	case m.pipelines[name] != nil:
		panic(fmt.Sprintf("prometheus: Attach: a pipeline with the name %q is attached already: give each a name of its own, and attach it once", name))
	}
	m.pipelines[name] = status
	*hooks = poller.JoinHooks(*hooks, m.counts.hooks(name))
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.counts.all() {
		c.Describe(to)
	}
	for _, g := range m.gauges {
		to <- g.desc
	}
	to <- m.state
	to <- m.build
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.counts.all() {
		c.Collect(to)
	}
	m.mu.Lock()
	pipelines := maps.Clone(m.pipelines)
	m.mu.Unlock()
	for name, status := range pipelines {
		s, now := status(), time.Now()
		for _, g := range m.gauges {
			if v, known := g.value(s, now); known {
				to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v, name)
			}
		}
		for _, state := range []poller.State{poller.Stopped, poller.Working, poller.Idle, poller.Held, poller.Backoff} {
			to <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, number(s.State == state), name, string(state))
		}
	}
	version, revision := m.built()
	to <- prometheus.MustNewConstMetric(m.build, prometheus.GaugeValue, 1, version, revision, runtime.Version())
}

// built returns the version of the program and the revision of its source.
func (m *Metrics) built() (version, revision string) {
	version, revision = "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		if i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" }); i >= 0 {
			revision = info.Settings[i].Value
		}
	}
	if m.Version != "" {
		version = strings.ToValidUTF8(m.Version, "\uFFFD")
	}
	return version, revision
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("devotion_"+name, help, labels, nil)
}
