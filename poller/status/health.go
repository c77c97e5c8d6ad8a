package status

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

// reading is how a pipeline does at a moment.
type reading struct {
	id int // the place in the order of Attach
	poller.Status
	history
	trouble
	words       string
	live, ready bool
	mood        mood
}

func read(l *pipeline, now time.Time, fresh time.Duration) reading {
	r := reading{Status: l.status(), history: l.ring.history(now)}
	fresh = cmp.Or(fresh, max(time.Minute, 3*r.Interval))
	r.live = r.State != poller.Stopped && !r.Overdue
	// A clock that is coarse may show the first poll at the very time of the start.
	r.ready = !r.Started.IsZero() && !r.LastPoll.IsZero() && !r.LastPoll.Before(r.Started) && now.Sub(r.LastPoll) <= fresh
	r.words = words(r.Status, now)
	if t := l.failing.Load(); t != nil {
		r.trouble = *t
	}
	r.mood = feel(&r, now, fresh)
	return r
}

// words are the Status's. One that is held back and asks again is still held back.
func words(s poller.Status, now time.Time) string {
	if s.Held != nil && s.State == poller.Working && s.Op == poller.OpFetch {
		s.State = poller.Held
	}
	return s.Summary(now)
}

func (p *Page) serveLive(w http.ResponseWriter, _ *http.Request) {
	_, all := p.look()
	probe(w, "live", all, func(r reading) bool { return r.live })
}

func (p *Page) serveReady(w http.ResponseWriter, _ *http.Request) {
	_, all := p.look()
	probe(w, "ready", all, func(r reading) bool { return r.ready })
}

// probe answers with a line for each pipeline. Nothing is ready where there is
// none, but a restart would not help.
func probe(w http.ResponseWriter, what string, all []reading, is func(reading) bool) {
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
		fmt.Fprintf(&body, "%s: %s: %s\n", line(r.Name), answer, line(r.words))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body.String()))
}
