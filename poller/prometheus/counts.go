package prometheus

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// counts are the metrics that hooks update.
type counts struct {
	*prometheus.Registry                                                        // of all of them
	polls, rowsRead, rowsWritten, rowsDead, bytes, errors, retries, checkpoints *prometheus.CounterVec
	pollSeconds, stageSeconds, batchRows                                        *prometheus.HistogramVec
	inFlight, lastDead                                                          *prometheus.GaugeVec
}

func newCounts() counts {
	registry := prometheus.NewRegistry()
	new := promauto.With(registry)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return new.NewCounterVec(prometheus.CounterOpts{Namespace: "devotion", Name: name, Help: help}, append([]string{"pipeline"}, labels...))
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return new.NewHistogramVec(prometheus.HistogramOpts{Namespace: "devotion", Name: name, Help: help, Buckets: buckets}, append([]string{"pipeline"}, labels...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return new.NewGaugeVec(prometheus.GaugeOpts{Namespace: "devotion", Name: name, Help: help}, []string{"pipeline"})
	}
	seconds := []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 60}
	return counts{
		Registry:     registry,
		polls:        counter("polls_total", "Polls that succeeded, by what they found, and failed attempts of a step.", "outcome"),
		rowsRead:     counter("rows_read_total", "Rows fetched from the source. A batch that is fetched twice counts twice."),
		rowsWritten:  counter("rows_written_total", "Rows that the sink has written and whose checkpoint is saved."),
		rowsDead:     counter("rows_dead_lettered_total", "Rows that the sink refused and the dead-letter sink accepted."),
		bytes:        counter("written_bytes_total", "Approximate size of the rows written, as the source counts it."),
		errors:       counter("errors_total", "Failed attempts of a step, by step and class of error.", "stage", "class"),
		retries:      counter("retries_total", "Failed attempts after which the step is tried again.", "stage", "class"),
		checkpoints:  counter("checkpoints_total", "Cursors saved."),
		pollSeconds:  histogram("poll_duration_seconds", "Time of a poll that succeeded, from the start of its fetch to the end of its save. It includes the wait for the previous batch.", seconds),
		stageSeconds: histogram("stage_duration_seconds", "Time of an attempt of a step, including failed attempts.", seconds, "stage"),
		batchRows:    histogram("batch_rows", "Rows of a batch that was written and saved. Empty batches do not count.", []float64{1, 10, 100, 1000, 2500, 5000, 10000, 50000}),
		inFlight:     gauge("in_flight_rows", "Rows of the batch that is being written or saved now."),
		lastDead:     gauge("last_dead_letter_timestamp_seconds", "When the dead-letter sink last accepted a row. Absent before the first."),
	}
}

// begin creates the counters of all steps at 0, so that rate() sees the first event.
func (c *counts) begin(name string) map[poller.Op]prometheus.Observer {
	seconds := map[poller.Op]prometheus.Observer{}
	for _, op := range []poller.Op{poller.OpLoad, poller.OpFetch, poller.OpWrite, poller.OpDeadLetter, poller.OpSave} {
		seconds[op] = c.stageSeconds.WithLabelValues(name, string(op))
		for _, class := range []string{"transient", "setup", "data", "fatal", "conflict", "rejected"} {
			c.errors.WithLabelValues(name, string(op), class)
		}
	}
	for _, op := range []poller.Op{poller.OpLease, poller.OpLoad, poller.OpFetch, poller.OpWrite, poller.OpDeadLetter, poller.OpSave} {
		for _, class := range []string{"transient", "setup", "data"} { // the other errors are not retried
			c.retries.WithLabelValues(name, string(op), class)
		}
	}
	return seconds
}

// hooks returns hooks that count. A healthy pipeline looks up no series.
func (c *counts) hooks(name string) poller.Hooks {
	seconds := c.begin(name)
	rows, empty, held := c.polls.WithLabelValues(name, "rows"), c.polls.WithLabelValues(name, "empty"), c.polls.WithLabelValues(name, "held")
	failed := c.polls.WithLabelValues(name, "error")
	read, written, dead, bytes := c.rowsRead.WithLabelValues(name), c.rowsWritten.WithLabelValues(name), c.rowsDead.WithLabelValues(name), c.bytes.WithLabelValues(name)
	checkpoints, inFlight := c.checkpoints.WithLabelValues(name), c.inFlight.WithLabelValues(name)
	pollSeconds, batchRows := c.pollSeconds.WithLabelValues(name), c.batchRows.WithLabelValues(name)
	return poller.Hooks{
		StepBegin: func(ctx context.Context, i poller.StepInfo) context.Context {
			if i.Op != poller.OpFetch { // may run during a write
				inFlight.Set(float64(i.Records))
			}
			return ctx
		},
		StepEnd: func(ctx context.Context, i poller.StepInfo) {
			if i.Op != poller.OpFetch { // may run during a write
				inFlight.Set(0)
			}
			seconds[i.Op].Observe(i.Duration.Seconds())
			class, bad := classify(ctx, i)
			switch {
			case bad:
				failed.Inc()
				c.errors.WithLabelValues(name, string(i.Op), class).Inc()
			case i.Err != nil: // the end of a source or of the run
			case i.Op == poller.OpFetch:
				read.Add(float64(i.Records))
			case i.Op == poller.OpSave:
				checkpoints.Inc()
			}
		},
		Backoff: func(i poller.BackoffInfo) {
			c.retries.WithLabelValues(name, string(i.Op), i.Class.String()).Inc()
		},
		Poll: func(i poller.PollInfo) {
			pollSeconds.Observe(i.Duration.Seconds())
			switch {
			case i.Records > 0:
				rows.Inc()
				batchRows.Observe(float64(i.Records))
				written.Add(float64(i.Records))
				bytes.Add(float64(max(0, i.Bytes))) // a counter panics below 0, and the value comes from the source
			case i.Held != nil:
				held.Inc()
			default:
				empty.Inc()
			}
		},
		DeadLetter: func(poller.DeadLetterInfo) {
			dead.Inc()
			c.lastDead.WithLabelValues(name).SetToCurrentTime()
		},
	}
}

// classify returns the class of a step's error. It returns false if the step did
// not fail: the source has ended, or the run was stopped during the step. A save
// that is abandoned at a stop is an error, because the written rows are not saved.
func classify(ctx context.Context, i poller.StepInfo) (class string, bad bool) {
	switch is := retry.Classify(i.Err); {
	case i.Err == nil, i.Op == poller.OpFetch && errors.Is(i.Err, source.ErrEnd):
		return "", false
	case errors.Is(i.Err, poller.ErrConflict):
		return "conflict", true
	case errors.Is(i.Err, sink.ErrRejected):
		return "rejected", true
	case is == retry.Fatal:
		return "fatal", true
	case errors.Is(i.Err, poller.ErrTimeout): // a driver may give a cancelled query any code
		return "transient", true
	default:
		return is.String(), ctx.Err() == nil || i.Op == poller.OpSave
	}
}
