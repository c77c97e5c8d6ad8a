// Package prometheus has the metrics of pipelines for Prometheus.
//
//	metrics := prometheus.New()
//	metrics.Attach(&p.Hooks, p.Status) // before Run
//	registry.MustRegister(metrics)
package prometheus

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/artifactofdevotion/devotion/poller"
)

// Metrics is a prometheus.Collector of the metrics of any number of pipelines.
type Metrics struct{}

// New returns metrics without a pipeline.
func New() *Metrics { return &Metrics{} }

// Attach adds a pipeline, given by its Status method, and joins the hooks that
// count to its own. Call it before Run.
func (m *Metrics) Attach(hooks *poller.Hooks, status func() poller.Status) {}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(chan<- prometheus.Metric) {}
