package snapshot

import (
	"fmt"
	"strings"
	"time"
)

// progress is how fast rows are read since the transaction began.
type progress struct {
	begun time.Time
	from  int64 // the number of rows that were read before
	known bool
}

// minElapsed is how long the rate is measured before the remaining time is shown.
const minElapsed = 5 * time.Second

// position describes a place in the i-th table: table 2 of 7, public.orders id 42, 45 %, about 3m left.
// The shares are estimates, by the statistics of the database.
func (e *engine) position(at place, i int, inner string) string {
	if at.form == done {
		return "all rows"
	}
	var words []string
	t := e.tables[i]
	if len(e.tables) > 1 {
		words = append(words, fmt.Sprintf("table %d of %d", i+1, len(e.tables)), t.shown+" "+inner)
	} else {
		words = append(words, inner)
	}
	var all, read int64
	for k, t := range e.tables {
		all += t.estimate
		switch {
		case k < i:
			read += t.estimate
		case k == i:
			read += min(at.rows, t.estimate)
		}
	}
	if all == 0 {
		return strings.Join(words, ", ")
	}
	words = append(words, fmt.Sprintf("%d %%", min(read*100/all, 99)))
	if !e.progress.known {
		e.progress.known, e.progress.from = true, read
	}
	elapsed, since := time.Since(e.progress.begun), read-e.progress.from
	if elapsed >= minElapsed && since > 0 && all > read {
		left := time.Duration(float64(elapsed) * float64(all-read) / float64(since))
		words = append(words, "about "+roughly(left)+" left")
	}
	return strings.Join(words, ", ")
}

// roughly writes a duration in its largest unit.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
