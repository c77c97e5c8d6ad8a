package status

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

// level says how urgently a pipeline needs attention. The page shows the
// highest level first.
type level int

const (
	ok level = iota
	wait
	warn
	bad
)

// String is also the name of the level's symbol and CSS class.
func (l level) String() string { return [...]string{"ok", "wait", "warn", "bad"}[l] }

// Sign stands for the symbol in plain text, such as the title of a tab.
func (l level) Sign() string { return [...]string{"✓", "…", "!", "✕"}[l] }

// condition is a pipeline's health without the numbers that change all the
// time, so that a screen reader announces only its changes.
type condition struct {
	level level
	is    string    // follows the name in a sentence
	since time.Time // zero if it does not matter
}

func assess(r *reading, now time.Time, fresh time.Duration) condition {
	switch {
	case r.Overdue:
		return condition{bad, "is stuck", r.Since}
	case r.State == poller.Stopped:
		return condition{bad, "is stopped", r.Since}
	case r.Attempts > 0:
		return condition{bad, "is failing", r.failing.since}
	case r.Held != nil && now.Sub(r.Held.Since) > fresh: // shorter holds are normal
		return condition{warn, "is held back", r.Held.Since}
	case !r.Started.IsZero() && !r.ready && now.Sub(r.Started) > fresh:
		return condition{warn, "has not succeeded recently", r.LastPoll}
	case !r.ready:
		return condition{wait, "is starting", time.Time{}}
	}
	return condition{ok, "is healthy", time.Time{}}
}

var (
	origin   = regexp.MustCompile(`^(\w*source: ([\w."]+: )?|[a-z]+: )`)      // "sqlsource: orders: "
	volatile = regexp.MustCompile(`\S+->|\b(\d+(\.\d+)?(h|m|s|ms|µs|ns))+\b`) // the client's port, and durations
)

// cause returns why a pipeline needs attention, without the names of the package
// and the table that errors begin with. Pipelines with equal keys have one cause.
// It is empty if unknown.
func (r *reading) cause() (text, key string) {
	key = r.condition.is
	switch {
	case r.Overdue:
	case r.Attempts > 0, r.State == poller.Stopped:
		text = origin.ReplaceAllString(line(r.LastError), "")
		key += " " + string(cmp.Or(r.failing.op, r.Op))
	case r.condition.level == warn && r.Held != nil:
		text = line(strings.Join(r.Held.By, ", "))
	}
	return text, key + " " + volatile.ReplaceAllString(text, "")
}

// worst returns the level of the pipeline that needs attention most.
func worst(all []reading) level {
	l := ok
	if len(all) == 0 {
		l = warn
	}
	for _, r := range all {
		l = max(l, r.condition.level)
	}
	return l
}

// headline sums up the pipelines in a few words.
func headline(all []reading) string {
	troubled := needAttention(all)
	switch {
	case len(all) == 0:
		return "No pipeline is attached"
	case len(troubled) == 0 && len(all) > 1:
		return "All pipelines are healthy"
	case len(troubled) == 0:
		return line(all[0].Name) + " is healthy"
	case len(troubled) == 1:
		return line(troubled[0].Name) + " " + troubled[0].condition.is
	}
	are := plural(troubled[0].condition.is)
	for _, r := range troubled {
		if plural(r.condition.is) != are {
			are = "need attention"
		}
	}
	return fmt.Sprintf("%d of %d pipelines %s", len(troubled), len(all), are)
}

// plural turns "is failing" into "are failing".
func plural(is string) string {
	return strings.NewReplacer("is ", "are ", "has ", "have ").Replace(is)
}

// announcement names the pipelines in trouble. It changes only when one of
// their conditions does.
func announcement(all []reading) string {
	var parts []string
	troubled := needAttention(all)
	for i, r := range troubled {
		if i == 5 {
			parts = append(parts, fmt.Sprintf("and %d more", len(troubled)-i))
			break
		}
		parts = append(parts, line(r.Name)+" "+r.condition.is)
	}
	if len(parts) == 0 {
		return headline(all) + "."
	}
	return strings.Join(parts, ", ") + "."
}

func needAttention(all []reading) (some []reading) {
	for _, r := range all {
		if r.condition.level > ok {
			some = append(some, r)
		}
	}
	return some
}
