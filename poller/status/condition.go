package status

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
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
	Level level
	is    string    // follows the name in a sentence
	began time.Time // zero if it does not matter
}

const cannotUpload = "cannot upload"

func assess(r *reading, fresh time.Duration) condition {
	switch {
	case r.Overdue:
		return condition{bad, "is stuck", r.Since}
	case r.Done:
		return condition{ok, "is done", time.Time{}}
	case r.State == poller.Stopped:
		return condition{bad, "is stopped", r.Since}
	case r.State == poller.Restarting:
		return condition{bad, "has failed", cmp.Or(r.LastPoll, r.Since)} // Since is that of the last attempt only
	case r.Attempts > 0:
		return condition{bad, "is failing", r.failing.since}
	case r.State == poller.Standby:
		return condition{ok, "stands by", time.Time{}}
	case r.Held != nil && r.now.Sub(r.Held.Since) > fresh: // shorter holds are normal
		return condition{warn, "is held back", r.Held.Since}
	case r.Uploads.Attempts > 0 && r.Uploads.Lag(r.now) > fresh: // shorter failures are normal
		return condition{warn, cannotUpload, r.Uploads.Since}
	case !r.Started.IsZero() && !r.ready && r.now.Sub(r.Started) > fresh:
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
	key = r.is
	switch {
	case r.Overdue:
	case r.Level == bad:
		text = origin.ReplaceAllString(line(r.LastError), "")
		key += " " + string(r.FailedOp())
	case r.is == cannotUpload:
		text = line(r.UploadError())
	case r.Level == warn && r.Held != nil:
		text = line(strings.Join(r.Held.By, ", "))
	}
	return text, key + " " + volatile.ReplaceAllString(text, "")
}

// headline sums up the pipelines in a few words. The troubled ones need attention.
func headline(all, troubled []reading) string {
	switch {
	case len(all) == 0:
		return "No pipeline is attached"
	case len(troubled) == 0 && len(all) == 1:
		return line(all[0].Name) + " " + all[0].is
	case len(troubled) == 0:
		return "All pipelines are healthy"
	case len(troubled) == 1:
		return line(troubled[0].Name) + " " + troubled[0].is
	}
	are := plural(troubled[0].is)
	if slices.ContainsFunc(troubled, func(r reading) bool { return r.is != troubled[0].is }) {
		are = "need attention"
	}
	return fmt.Sprintf("%d of %d pipelines %s", len(troubled), len(all), are)
}

// plural turns "is failing" into "are failing".
func plural(is string) string {
	return strings.NewReplacer("is ", "are ", "has ", "have ", "stands ", "stand ").Replace(is)
}

// announcement names the pipelines in trouble. It changes only when one of
// their conditions does.
func announcement(all, troubled []reading) string {
	if len(troubled) == 0 {
		return headline(all, troubled) + "."
	}
	var parts []string
	for _, r := range troubled[:min(5, len(troubled))] {
		parts = append(parts, line(r.Name)+" "+r.is)
	}
	if more := len(troubled) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ") + "."
}
