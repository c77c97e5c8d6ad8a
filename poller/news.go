package poller

import "time"

// A reminder of what still lasts comes after a minute, then after twice as long
// each time, up to four times a day: a week's outage is some forty lines.
const (
	firstReminder = time.Minute
	lastReminder  = 6 * time.Hour
)

// What comes and goes is logged ten times at once, and then every ten minutes,
// or a step that fails every other time would fill a disk.
const (
	newsAtOnce = 10
	newsEvery  = 10 * time.Minute
)

// news spaces out the log lines about one kind of trouble. The zero value is
// ready for its first case.
type news struct {
	said bool // the present case was logged, and so its end is to be
	next time.Time
	gap  time.Duration

	free     time.Time // when all of the quota for further cases is left
	unlogged int       // cases since the last that was logged
}

// begin begins a case that need not be mentioned before a time.
func (n *news) begin(mention time.Time) { n.said, n.next, n.gap = false, mention, 0 }

// due reports whether to log the case now.
func (n *news) due(now time.Time) bool {
	if now.Before(n.next) {
		return false
	}
	if !n.said {
		if full := now.Add(-(newsAtOnce - 1) * newsEvery); n.free.Before(full) {
			n.free = full
		}
		if n.free.After(now) {
			return false
		}
		n.free = n.free.Add(newsEvery)
	}
	n.gap = min(max(2*n.gap, firstReminder), lastReminder)
	n.said, n.next = true, now.Add(n.gap)
	return true
}

// with adds to the attributes of a line how many cases before were not logged.
func (n *news) with(attrs ...any) []any {
	if n.unlogged > 0 {
		attrs = append(attrs, "unlogged", n.unlogged)
	}
	n.unlogged = 0
	return attrs
}

// end ends the case, and reports whether to log that.
func (n *news) end() (said bool) {
	if !n.said && !n.next.IsZero() && !time.Now().Before(n.next) {
		n.unlogged++
	}
	said, n.said, n.next = n.said, false, time.Time{}
	return said
}
