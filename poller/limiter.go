package poller

import "time"

// A reminder of what still fails comes after a minute, then after twice as long
// each time, up to four times a day: a week's outage is some forty lines.
const (
	firstReminder = time.Minute
	lastReminder  = 6 * time.Hour
)

// limiter spaces out log lines about one thing. The zero value is due at once.
type limiter struct {
	spoke bool
	next  time.Time
	gap   time.Duration
}

func (l *limiter) due(now time.Time) bool {
	if now.Before(l.next) {
		return false
	}
	l.gap = min(max(2*l.gap, firstReminder), lastReminder)
	l.spoke, l.next = true, now.Add(l.gap)
	return true
}
