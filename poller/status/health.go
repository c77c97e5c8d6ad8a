package status

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

// reading is the state of a pipeline at one moment.
type reading struct {
	ID int // its position in the order of Attach, from 1
	poller.Status
	condition
	history
	now         time.Time
	failing     failing
	Summary     string
	live, ready bool
	Open        bool // the page shows everything of it
}

func newReading(id int, l *pipeline, now time.Time, fresh time.Duration) reading {
	s := l.status()
	if s.Done { // the lag in the history ends with the run
		l.ring.begun(s.Since, time.Time{})
	}
	r := reading{ID: id, Status: s, history: l.ring.history(now), now: now}
	fresh = cmp.Or(fresh, max(time.Minute, 3*r.Interval))
	r.live = (r.Done || r.State != poller.Stopped) && !r.Overdue
	// With a coarse clock the first poll may have the same time as the start.
	standby := r.State == poller.Standby && r.Attempts == 0
	r.ready = r.Done || standby || !r.Started.IsZero() && !r.LastPoll.IsZero() && !r.LastPoll.Before(r.Started) && now.Sub(r.LastPoll) <= fresh
	r.Summary = summary(r.Status, now)
	if f := l.failing.Load(); f != nil {
		r.failing = *f
	}
	if r.condition = assess(&r, fresh); r.is == cannotUpload {
		r.Summary += ", " + cannotUpload
	}
	return r
}

// summary is that of the Status, except that a pipeline whose rows are held
// back stays "held back" while it fetches again.
func summary(s poller.Status, now time.Time) string {
	if s.Held != nil && s.State == poller.Working && s.Op == poller.OpFetch {
		s.State = poller.Held
	}
	return s.Summary(now)
}

// probe serves a line for each pipeline. Without pipelines the program is live,
// because a restart would not help, but not ready.
func (p *Page) probe(what string, is func(reading) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		all := p.read().pipelines
		var body strings.Builder
		code := http.StatusOK
		if len(all) == 0 {
			body.WriteString("no pipeline is attached\n")
			if what == "ready" {
				code = http.StatusServiceUnavailable
			}
		}
		for _, r := range all {
			answer := what
			if !is(r) {
				answer, code = "not "+what, http.StatusServiceUnavailable
			}
			fmt.Fprintf(&body, "%s: %s: %s\n", line(r.Name), answer, line(r.Summary))
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body.String()))
	}
}
