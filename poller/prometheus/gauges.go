package prometheus

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/artifactofdevotion/devotion/poller"
)

// gauge is a metric that is read off a Status.
type gauge struct {
	desc  *prometheus.Desc
	value func(s poller.Status, now time.Time) (v float64, known bool)
}

func newGauges() []gauge {
	stamp := func(name, help string, of func(poller.Status) time.Time) gauge {
		return gauge{describe(name, help, "pipeline"), func(s poller.Status, _ time.Time) (float64, bool) {
			t := of(s)
			return float64(t.UnixMicro()) / 1e6, !t.IsZero()
		}}
	}
	always := func(name, help string, of func(poller.Status, time.Time) float64) gauge {
		return gauge{describe(name, help, "pipeline"), func(s poller.Status, now time.Time) (float64, bool) { return of(s, now), true }}
	}
	return []gauge{
		stamp("last_success_timestamp_seconds", "When a poll last ended well, also if it found nothing. Absent before the first.",
			func(s poller.Status) time.Time { return s.LastPoll }),
		stamp("last_row_timestamp_seconds", "When a row was last written and saved. Absent before the first.",
			func(s poller.Status) time.Time { return s.LastRecord }),
		stamp("last_error_timestamp_seconds", "When the pipeline last failed, to try again or to end. Absent before the first time.",
			func(s poller.Status) time.Time { return s.LastErrorTime }),
		stamp("last_checkpoint_timestamp_seconds", "When the cursor was last saved. Absent before the first time.",
			func(s poller.Status) time.Time { return s.LastSave }),
		{describe("lag_seconds", "How long ago all that was committed had been delivered. Absent while the source has not said, or cannot.", "pipeline"),
			func(s poller.Status, now time.Time) (float64, bool) {
				lag, known := s.Lag(now)
				return lag.Seconds(), known
			}},
		always("held_seconds", "For how long rows have been held back, for transactions that have not ended; 0 if none are.", held),
		always("interval_seconds", "The wait between two polls when there is nothing to do.",
			func(s poller.Status, _ time.Time) float64 { return s.Interval.Seconds() }),
		always("backoff_seconds", "The length of the present wait before a failed step is tried again; 0 if there is none.", backoff),
		always("overdue", "1 while a part of the pipeline is past its deadline and has not returned, or the loop hangs: only a restart helps. 0 otherwise.",
			func(s poller.Status, _ time.Time) float64 { return number(s.Overdue) }),
	}
}

func held(s poller.Status, now time.Time) float64 {
	if s.Held == nil || s.State == poller.Stopped {
		return 0
	}
	since := s.Held.Since
	if since.IsZero() { // a source that cannot say
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
