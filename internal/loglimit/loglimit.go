// Package loglimit limits how often a problem is logged, so that one that lasts a week
// is about a page of log, and one that comes and goes every second does not fill a
// disk. The file DESIGN.md of package poller says more.
package loglimit

import "time"

// While a problem lasts, a reminder is logged after a minute, then after twice
// as long each time, at most every 6 hours. An outage of a week is about forty
// lines.
const (
	FirstReminder = time.Minute
	maxReminder   = 6 * time.Hour
)

// Problems that come and go are logged ten times in a row, and then once every
// ten minutes. Otherwise a step that fails every other time would fill a disk.
const (
	burst = 10
	every = 10 * time.Minute
)

// Limiter limits how often one kind of problem is logged. An episode is the
// time from when the problem appears until it is over. The zero value is ready
// for the first episode.
type Limiter struct {
	reported bool          // this episode was logged, so its end must be logged too
	next     time.Time     // when this episode may be logged next; zero between episodes
	gap      time.Duration // between the last two reminders

	full     time.Time // when the budget of burst new episodes is full again
	unlogged int       // episodes since the last one that was logged
}

// Begin starts an episode that need not be logged before the given time.
func (l *Limiter) Begin(notBefore time.Time) { l.reported, l.next, l.gap = false, notBefore, 0 }

// Reported reports whether the current episode has been logged.
func (l *Limiter) Reported() bool { return l.reported }

// Allow reports whether to log the current episode now.
func (l *Limiter) Allow(now time.Time) bool {
	if now.Before(l.next) {
		return false
	}
	if !l.reported {
		if oldest := now.Add(-(burst - 1) * every); l.full.Before(oldest) {
			l.full = oldest
		}
		if l.full.After(now) {
			return false
		}
		l.full = l.full.Add(every)
	}
	l.gap = min(max(2*l.gap, FirstReminder), maxReminder)
	l.reported, l.next = true, now.Add(l.gap)
	return true
}

// WithUnlogged adds the number of unlogged episodes to the attributes of a log
// line, and resets it.
func (l *Limiter) WithUnlogged(attrs ...any) []any {
	if l.unlogged > 0 {
		attrs = append(attrs, "unlogged", l.unlogged)
	}
	l.unlogged = 0
	return attrs
}

// End ends the episode, and reports whether to log its end.
func (l *Limiter) End() (reported bool) {
	if !l.reported && !l.next.IsZero() && !time.Now().Before(l.next) {
		l.unlogged++
	}
	reported, l.reported, l.next = l.reported, false, time.Time{}
	return reported
}
