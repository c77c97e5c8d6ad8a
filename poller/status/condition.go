package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

// level says how much a pipeline needs somebody. A higher one comes first.
type level int

const (
	ok level = iota
	wait
	warn
	bad
)

// String is also the name of its symbol and style.
func (l level) String() string { return [...]string{"ok", "wait", "warn", "bad"}[l] }

// Sign stands for the symbol in plain text, as in the title of a tab.
func (l level) Sign() string { return [...]string{"✓", "…", "!", "✕"}[l] }

// mood is a pipeline's state without what changes all the time, so that it can
// be announced when it changes.
type mood struct {
	level level
	is    string    // reads on after the name
	since time.Time // zero if that is not worth to be told
}

func feel(r *reading, now time.Time, fresh time.Duration) mood {
	switch {
	case r.Overdue:
		return mood{bad, "is stuck", r.Since}
	case r.State == poller.Stopped:
		return mood{bad, "is stopped", r.Since}
	case r.Attempts > 0:
		return mood{bad, "is failing", r.trouble.since}
	case r.Held != nil && now.Sub(r.Held.Since) > fresh: // shorter ones are daily life
		return mood{warn, "is held back", r.Held.Since}
	case !r.Started.IsZero() && !r.ready && now.Sub(r.Started) > fresh:
		return mood{warn, "has not succeeded lately", r.LastPoll}
	case !r.ready:
		return mood{wait, "is starting", time.Time{}}
	}
	return mood{ok, "is well", time.Time{}}
}

// worst is that of the pipeline that needs somebody most.
func worst(all []reading) level {
	l := ok
	if len(all) == 0 {
		l = warn
	}
	for _, r := range all {
		l = max(l, r.mood.level)
	}
	return l
}

// headline sums up in a few words.
func headline(all []reading) string {
	troubled := needy(all)
	switch {
	case len(all) == 0:
		return "No pipeline is attached"
	case len(troubled) == 0:
		return "All is well"
	case len(troubled) == 1:
		return line(troubled[0].Name) + " " + troubled[0].mood.is
	case worst(all) == wait:
		return fmt.Sprintf("%d of %s starting", len(troubled), plural(len(all), "pipeline is", "pipelines are"))
	}
	return fmt.Sprintf("%d of %s", len(troubled), plural(len(all), "pipeline needs", "pipelines need")+" attention")
}

// announcement names those in trouble. It changes only when one of them does.
func announcement(all []reading) string {
	var parts []string
	troubled := needy(all)
	for i, r := range troubled {
		if i == 5 {
			parts = append(parts, fmt.Sprintf("and %d more", len(troubled)-i))
			break
		}
		parts = append(parts, line(r.Name)+" "+r.mood.is)
	}
	if len(parts) == 0 {
		return headline(all) + "."
	}
	return strings.Join(parts, ", ") + "."
}

func needy(all []reading) (in []reading) {
	for _, r := range all {
		if r.mood.level > ok {
			in = append(in, r)
		}
	}
	return in
}
