package prometheus

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Values of the label class that package retry does not have.
const (
	rejected = "rejected" // sink.ErrRejected
	conflict = "conflict" // poller.ErrConflict
)

// counts are the metrics that hooks update.
type counts struct {
	polls, rowsRead, rowsWritten, rowsDead, bytes, errors, retries, checkpoints *prometheus.CounterVec
	pollSeconds, stageSeconds, batchRows                                        *prometheus.HistogramVec
	inFlight                                                                    *prometheus.GaugeVec
}

func newCounts() counts {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "devotion", Name: name, Help: help}, append([]string{"pipeline"}, labels...))
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "devotion", Name: name, Help: help, Buckets: buckets}, append([]string{"pipeline"}, labels...))
	}
	seconds := []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 60}
	return counts{
		polls:        counter("polls_total", "Polls that succeeded, by what they found, and failed attempts of a step.", "outcome"),
		rowsRead:     counter("rows_read_total", "Rows fetched from the source. A batch that is fetched twice counts twice."),
		rowsWritten:  counter("rows_written_total", "Rows that the sink has written and whose checkpoint is saved."),
		rowsDead:     counter("rows_dead_lettered_total", "Rows that the sink refused and the dead-letter sink accepted."),
		bytes:        counter("written_bytes_total", "Approximate size of the rows written, as the source counts it."),
		errors:       counter("errors_total", "Failed attempts of a step, by step and class of error.", "stage", "class"),
		retries:      counter("retries_total", "Failed attempts after which the step is tried again.", "stage", "class"),
		checkpoints:  counter("checkpoints_total", "Cursors saved."),
		pollSeconds:  histogram("poll_duration_seconds", "Time of a poll that succeeded, from the start of its fetch to the end of its save. It includes the wait for the batch before.", seconds),
		stageSeconds: histogram("stage_duration_seconds", "Time of an attempt of a step, including failed attempts.", seconds, "stage"),
		batchRows:    histogram("batch_rows", "Rows of a batch that was written and saved. Empty batches do not count.", []float64{1, 10, 100, 1000, 2500, 5000, 10000, 50000}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "devotion", Name: "in_flight_rows",
			Help: "Rows of the batch that is being written or saved now."}, []string{"pipeline"}),
	}
}

func (c *counts) all() []prometheus.Collector {
	return []prometheus.Collector{c.polls, c.rowsRead, c.rowsWritten, c.rowsDead, c.bytes, c.errors, c.retries, c.checkpoints,
		c.pollSeconds, c.stageSeconds, c.batchRows, c.inFlight}
}

// hooks returns hooks that count for the pipeline with a name. The series that a
// healthy pipeline updates are looked up here, once.
func (c *counts) hooks(name string) poller.Hooks {
	c.begin(name)
	seconds := map[poller.Op]prometheus.Observer{}
	for _, op := range steps() {
		seconds[op] = c.stageSeconds.WithLabelValues(name, string(op))
	}
	rows, empty, held := c.polls.WithLabelValues(name, "rows"), c.polls.WithLabelValues(name, "empty"), c.polls.WithLabelValues(name, "held")
	failed := c.polls.WithLabelValues(name, "error")
	read, written, dead, bytes := c.rowsRead.WithLabelValues(name), c.rowsWritten.WithLabelValues(name), c.rowsDead.WithLabelValues(name), c.bytes.WithLabelValues(name)
	checkpoints, inFlight := c.checkpoints.WithLabelValues(name), c.inFlight.WithLabelValues(name)
	pollSeconds, batchRows := c.pollSeconds.WithLabelValues(name), c.batchRows.WithLabelValues(name)
	return poller.Hooks{
		StepBegin: func(ctx context.Context, i poller.StepInfo) context.Context {
			if moves(i.Op) {
				inFlight.Set(float64(i.Records))
			}
			return ctx
		},
		StepEnd: func(ctx context.Context, i poller.StepInfo) {
			if moves(i.Op) {
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
		DeadLetter: func(poller.DeadLetterInfo) { dead.Inc() },
	}
}

// steps returns the steps of the loop.
func steps() []poller.Op {
	return []poller.Op{poller.OpLoad, poller.OpFetch, poller.OpWrite, poller.OpDeadLetter, poller.OpSave}
}

// moves reports whether a step handles a batch.
func moves(op poller.Op) bool {
	return op == poller.OpWrite || op == poller.OpDeadLetter || op == poller.OpSave
}

// begin creates the expected errors and retries at 0, so that rate() sees the
// first one. Other series begin when they occur.
func (c *counts) begin(name string) {
	for _, op := range steps() {
		again := []string{retry.Transient.String(), retry.Setup.String()}
		if op != poller.OpLoad && op != poller.OpSave { // these steps handle rows
			again = append(again, retry.Data.String())
		}
		for _, class := range again {
			c.retries.WithLabelValues(name, string(op), class)
			c.errors.WithLabelValues(name, string(op), class)
		}
		c.errors.WithLabelValues(name, string(op), retry.Fatal.String())
		if moves(op) {
			c.errors.WithLabelValues(name, string(op), conflict)
		}
		if op == poller.OpWrite || op == poller.OpDeadLetter {
			c.errors.WithLabelValues(name, string(op), rejected)
		}
	}
}

// classify returns the class of a step's error. It returns false if the step did
// not fail: the source has ended, or the run was stopped during the step. A save
// that is abandoned at a stop is an error, because the written rows are not saved.
func classify(ctx context.Context, i poller.StepInfo) (class string, bad bool) {
	err, late := i.Err, errors.Is(i.Err, poller.ErrTimeout)
	is := retry.Classify(err)
	switch {
	case err == nil, i.Op == poller.OpFetch && errors.Is(err, source.ErrEnd):
		return "", false
	case errors.Is(err, poller.ErrConflict):
		return conflict, true
	case errors.Is(err, sink.ErrRejected):
		return rejected, true
	case is == retry.Fatal:
	case late: // a driver may give a cancelled query any code
		is = retry.Transient
	case ctx.Err() != nil && i.Op != poller.OpSave:
		return "", false
	}
	return is.String(), true
}
