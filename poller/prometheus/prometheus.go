// Package prometheus exports the metrics of pipelines to Prometheus.
//
//	metrics := prometheus.New()
//	metrics.Attach(&p.Hooks, p.Status) // before Run; one line for each pipeline
//	registry.MustRegister(metrics)
//	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
//
// All metrics begin with devotion_ and have a label pipeline, the Poller's Name.
// The README lists them with the values of their labels. Units are seconds and
// bytes. No label value comes from a row, a cursor or an error text, so the
// number of series is bounded: at most 177 for each pipeline.
//
// dashboard.json, alerts.yml and alertmanager.yml are a Grafana dashboard, the
// alerting rules and their routing. RUNBOOK.md says what to do about each alert.
//
// Hooks count what a pipeline did, in nanoseconds per update. Its Status is read
// when metrics are collected. Neither waits for a part of the pipeline: a hanging
// or stopped pipeline can be collected, and a slow scrape delays no pipeline.
package prometheus

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/artifactofdevotion/devotion/poller"
)

// Metrics is a prometheus.Collector for any number of pipelines. Create it with
// [New]. It is safe for concurrent use.
type Metrics struct {
	// Version of the program, for devotion_build_info. Defaults to the version of
	// the main module. Set it before the Metrics are registered.
	Version string

	counts counts
	gauges []gauge
	state  *prometheus.Desc
	lossy  *prometheus.Desc
	build  *prometheus.Desc

	mu        sync.Mutex
	pipelines map[string]pipeline // by label
}

// pipeline is what Attach was given.
type pipeline struct {
	status    func() poller.Status
	objective *time.Duration // nil: the default
}

// Option changes how a pipeline is measured.
type Option func(*pipeline)

// LagObjective sets how far a pipeline may lag before an alert fires. It is
// exported as devotion_lag_objective_seconds, which the alerts compare the lag
// with. Defaults to 15 minutes, or to three times the Poller's Interval if that is
// longer, and to none while the source is lossy and has not set AsOf. With 0 or
// less the metric is absent and no alert on lag fires, which suits a source that
// never sets AsOf. The metric is also absent after Run has returned nil.
func LagObjective(d time.Duration) Option {
	return func(p *pipeline) { p.objective = &d }
}

// New returns metrics without a pipeline.
func New() *Metrics {
	return &Metrics{
		counts:    newCounts(),
		gauges:    newGauges(),
		state:     describe("state", "1 for the current state of the pipeline, 0 for the others.", "state"),
		lossy:     describe("lossy", "1 if the source can miss rows, 0 if it guarantees that it does not. Absent before the first batch, and if the source guarantees nothing.", "guarantee"),
		build:     prometheus.NewDesc("devotion_build_info", "1, with the version of the program, the revision of its source and the version of Go as labels.", []string{"version", "revision", "goversion"}, nil),
		pipelines: map[string]pipeline{},
	}
}

// Attach adds a pipeline, given by its Status method, and joins the hooks that
// count to its own. Call it once for each pipeline, after its Name is set and
// before Run. The pipeline may run, stop and run again.
//
// Attach panics if the pipeline has no name, or the name of a pipeline that is
// already attached, because their metrics could not be told apart. Invalid UTF-8
// in the name is replaced by U+FFFD, because a label must be valid UTF-8.
func (m *Metrics) Attach(hooks *poller.Hooks, status func() poller.Status, options ...Option) {
	name := strings.ToValidUTF8(status().Name, "\uFFFD")
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == "" {
		panic("prometheus: Attach: the pipeline has no name: set the Poller's Name first")
	}
	if _, attached := m.pipelines[name]; attached {
		panic(fmt.Sprintf("prometheus: Attach: a pipeline with the name %q is already attached: give each pipeline its own name, and attach it once", name))
	}
	p := pipeline{status: status}
	for _, o := range options {
		o(&p)
	}
	m.pipelines[name] = p
	*hooks = poller.JoinHooks(*hooks, m.counts.hooks(name))
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	m.counts.Describe(to)
	for _, g := range m.gauges {
		to <- g.desc
	}
	to <- m.state
	to <- m.lossy
	to <- m.build
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	m.counts.Collect(to)
	m.mu.Lock()
	pipelines := maps.Clone(m.pipelines)
	m.mu.Unlock()
	for name, p := range pipelines {
		r := reading{p, p.status(), time.Now()}
		for _, g := range m.gauges {
			if v := g.value(r); !math.IsNaN(v) {
				to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v, name)
			}
		}
		if r.Done { // a value of the label only
			r.State = "done"
		}
		for _, state := range []poller.State{poller.Stopped, poller.Standby, poller.Working, poller.Idle, poller.Held, poller.Backoff, poller.Restarting, "done"} {
			to <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, number(r.State == state), name, string(state))
		}
		if g := r.Guarantee; g != nil {
			to <- prometheus.MustNewConstMetric(m.lossy, prometheus.GaugeValue, number(g.Lossy), name, strings.ToValidUTF8(g.Name, "\uFFFD"))
		}
	}
	version, revision := m.built()
	to <- prometheus.MustNewConstMetric(m.build, prometheus.GaugeValue, 1, version, revision, runtime.Version())
}

// built returns the version of the program and the revision of its source.
func (m *Metrics) built() (version, revision string) {
	version, revision = "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = cmp.Or(info.Main.Version, version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return cmp.Or(strings.ToValidUTF8(m.Version, "\uFFFD"), version), revision
}

// describe describes a metric of a pipeline.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("devotion_"+name, help, append([]string{"pipeline"}, labels...), nil)
}
