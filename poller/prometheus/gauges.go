package prometheus

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/artifactofdevotion/devotion/poller"
)

// reading is the state of a pipeline at one moment.
type reading struct {
	pipeline
	poller.Status
	now time.Time
}

// gauge is a metric that is computed from a reading. NaN is not exported.
type gauge struct {
	desc  *prometheus.Desc
	value func(reading) float64
}

func newGauges() []gauge {
	return []gauge{
		{describe("last_success_timestamp_seconds", "When a poll last succeeded, even if it found nothing, or a part of a batch was stored. Absent before the first."),
			func(r reading) float64 { return timestamp(r.LastPoll) }},
		{describe("last_row_timestamp_seconds", "When a row was last written and saved. Absent before the first."),
			func(r reading) float64 { return timestamp(r.LastRecord) }},
		{describe("last_error_timestamp_seconds", "When a step last failed. Absent before the first time."),
			func(r reading) float64 { return timestamp(r.LastErrorTime) }},
		{describe("last_checkpoint_timestamp_seconds", "When the cursor was last saved. Absent before the first time."),
			func(r reading) float64 { return timestamp(r.LastSave) }},
		{describe("lag_seconds", "How far delivery is behind: every row committed longer ago than this has been delivered. Absent while unknown, and in state done."), reading.lag},
		{describe("lag_objective_seconds", "The lag above which an alert fires. Absent if the pipeline has no objective, and in the states done and standby."), reading.lagObjective},
		{describe("held_seconds", "How long rows have been held back by transactions that are still open. 0 if none are held back."), reading.held},
		{describe("pending_rows", "An upper bound on the number of rows after the cursor. 0 can also mean that the source would have to count them."),
			func(r reading) float64 { return float64(r.Pending) }},
		{describe("log_pinned_bytes", "How much of its log the database keeps until the cursor moves on, as of the last poll. 0 if the source reads no log."),
			func(r reading) float64 { return float64(r.Pinned) }},
		{describe("upload_lag_seconds", "How long the oldest file that the sink has completed has waited for its upload. 0 if none waits, and if the Poller has no Uploads."),
			func(r reading) float64 { return r.Uploads.Lag(r.now).Seconds() }},
		{describe("pending_uploads", "How many files that the sink has completed wait for their upload. 0 if the Poller has no Uploads."),
			func(r reading) float64 { return float64(r.Uploads.Segments) }},
		{describe("interval_seconds", "The wait between two polls when there is nothing to do."),
			func(r reading) float64 { return r.Interval.Seconds() }},
		{describe("backoff_seconds", "The length of the current wait before a failed step is tried again. 0 outside of a wait."), reading.backoff},
		{describe("overdue", "1 while a step is past its deadline and has not returned, or the loop hangs: only a restart helps. 0 otherwise."),
			func(r reading) float64 { return number(r.Overdue) }},
	}
}

func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return math.NaN()
	}
	return float64(t.UnixMicro()) / 1e6
}

func (r reading) lag() float64 {
	lag, known := r.Lag(r.now)
	if !known {
		return math.NaN()
	}
	return lag.Seconds()
}

func (r reading) lagObjective() float64 {
	d := max(15*time.Minute, 3*r.Interval)
	switch {
	case r.objective != nil:
		d = *r.objective
	case r.Guarantee != nil && r.Guarantee.Lossy && r.AsOf.IsZero():
		d = 0 // a lossy source, such as a table with the ceiling none, may never know its lag
	}
	if d <= 0 || r.Done || r.State == poller.Standby {
		return math.NaN()
	}
	return d.Seconds()
}

func (r reading) held() float64 {
	if r.Held == nil || r.State == poller.Stopped || r.State == poller.Restarting {
		return 0
	}
	since := r.Held.Since
	if since.IsZero() { // the source does not say
		since = r.LastPoll
	}
	return max(0, r.now.Sub(since)).Seconds()
}

func (r reading) backoff() float64 {
	if r.State != poller.Backoff {
		return 0
	}
	return r.Due.Sub(r.Since).Seconds()
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
