package prometheus

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/artifactofdevotion/devotion/poller"
)

// defaultObjective is the lag objective of a pipeline that polls often.
const defaultObjective = 15 * time.Minute

// gauge is a metric that is computed from a Status.
type gauge struct {
	desc  *prometheus.Desc
	value func(p pipeline, s poller.Status, now time.Time) (v float64, known bool)
}

func newGauges() []gauge {
	maybe := func(name, help string, value func(pipeline, poller.Status, time.Time) (float64, bool)) gauge {
		return gauge{describe(name, help, "pipeline"), value}
	}
	stamp := func(name, help string, of func(poller.Status) time.Time) gauge {
		return maybe(name, help, func(_ pipeline, s poller.Status, _ time.Time) (float64, bool) {
			t := of(s)
			return float64(t.UnixMicro()) / 1e6, !t.IsZero()
		})
	}
	always := func(name, help string, of func(poller.Status, time.Time) float64) gauge {
		return maybe(name, help, func(_ pipeline, s poller.Status, now time.Time) (float64, bool) { return of(s, now), true })
	}
	return []gauge{
		stamp("last_success_timestamp_seconds", "When a poll last succeeded, even if it found nothing. Absent before the first.",
			func(s poller.Status) time.Time { return s.LastPoll }),
		stamp("last_row_timestamp_seconds", "When a row was last written and saved. Absent before the first.",
			func(s poller.Status) time.Time { return s.LastRecord }),
		stamp("last_error_timestamp_seconds", "When a step last failed. Absent before the first time.",
			func(s poller.Status) time.Time { return s.LastErrorTime }),
		stamp("last_checkpoint_timestamp_seconds", "When the cursor was last saved. Absent before the first time.",
			func(s poller.Status) time.Time { return s.LastSave }),
		maybe("lag_seconds", "How far delivery is late: every row committed longer ago than this has been delivered. Absent while unknown.",
			func(_ pipeline, s poller.Status, now time.Time) (float64, bool) {
				lag, known := s.Lag(now)
				return lag.Seconds(), known
			}),
		maybe("lag_objective_seconds", "The lag above which an alert fires. Absent if the pipeline has no objective.", objective),
		always("held_seconds", "How long rows have been held back by transactions that are still open. 0 if none are held back.", held),
		always("pending_rows", "The greatest number of rows that can follow the cursor. 0 without such rows, or if the source would have to count them.",
			func(s poller.Status, _ time.Time) float64 { return float64(s.Pending) }),
		always("interval_seconds", "The wait between two polls when there is nothing to do.",
			func(s poller.Status, _ time.Time) float64 { return s.Interval.Seconds() }),
		always("backoff_seconds", "The length of the present wait before a failed step is tried again. 0 outside of a wait.", backoff),
		always("overdue", "1 while a step is past its deadline and has not returned, or the loop hangs: only a restart helps. 0 otherwise.",
			func(s poller.Status, _ time.Time) float64 { return number(s.Overdue) }),
	}
}

func objective(p pipeline, s poller.Status, _ time.Time) (float64, bool) {
	if p.hasObjective {
		return p.objective.Seconds(), p.objective > 0
	}
	// A lossy source, such as a table with the ceiling none, may never know its lag.
	known := s.Guarantee == nil || !s.Guarantee.Lossy || !s.AsOf.IsZero()
	return max(defaultObjective, 3*s.Interval).Seconds(), known
}

func held(s poller.Status, now time.Time) float64 {
	if s.Held == nil || s.State == poller.Stopped {
		return 0
	}
	since := s.Held.Since
	if since.IsZero() { // the source cannot tell
		since = s.LastPoll
	}
	return max(0, now.Sub(since)).Seconds()
}

func backoff(s poller.Status, _ time.Time) float64 {
	if s.State != poller.Backoff {
		return 0
	}
	return s.Due.Sub(s.Since).Seconds()
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
