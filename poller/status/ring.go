package status

import (
	"sync"
	"time"
)

// A history covers 15 minutes in steps.
const (
	step  = 5 * time.Second
	steps = 180
)

// point is what happened in one step.
type point struct {
	rows int64
	lag  time.Duration // at the end of the step; negative if unknown
}

// ring keeps the last steps of a pipeline. It counts steps on the monotonic
// clock, so setting the clock moves nothing. It advances when a poll ends and
// when it is read: between two polls only the lag changes, by the clock.
type ring struct {
	mu     sync.Mutex
	born   time.Time
	base   time.Time    // when step 0 began
	step   int64        // number of the step in progress
	rows   int64        // delivered in the step in progress
	asOf   time.Time    // of the pipeline's Status
	points [steps]point // step n is at n % steps
}

// begin starts the history. Steps begin at multiples of five seconds of the clock.
func (r *ring) begin(now time.Time) {
	r.born, r.base = now, now.Add(-time.Duration(now.UnixNano()%int64(step)))
}

// add counts rows that were delivered.
func (r *ring) add(now time.Time, rows int64, asOf time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	r.rows += rows
	if !asOf.IsZero() {
		r.asOf = asOf
	}
}

// begun notes that a run begins, and its AsOf.
func (r *ring) begun(now, asOf time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	r.asOf = asOf
}

// advance ends the steps that lie before now.
func (r *ring) advance(now time.Time) {
	n := int64(now.Sub(r.base) / step)
	if n <= r.step {
		return
	}
	for k := max(r.step, n-steps); k < n; k++ {
		p := point{lag: -1}
		if k == r.step {
			p.rows = r.rows
		}
		if !r.asOf.IsZero() {
			p.lag = max(0, r.end(k).Sub(r.asOf))
		}
		r.points[k%steps] = p
	}
	r.step, r.rows = n, 0
}

func (r *ring) end(n int64) time.Time { return r.base.Add(time.Duration(n+1) * step) }

// history is a copy of a ring's completed steps, the oldest first.
type history struct {
	end    time.Time // of the last step
	points []point
	rate   float64 // rows per second over the last two steps and the one in progress
}

func (r *ring) history(now time.Time) history {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	// The clock may have been set since base was read: count back from now.
	h := history{end: now.Add(r.end(r.step - 1).Sub(now))}
	for k := max(0, r.step-steps); k < r.step; k++ {
		h.points = append(h.points, r.points[k%steps])
	}
	rows, from := r.rows, r.born
	for _, p := range h.points[max(0, len(h.points)-2):] {
		rows += p.rows
	}
	if r.step > 2 {
		from = r.end(r.step - 3)
	}
	h.rate = float64(rows) / max(1, now.Sub(from).Seconds())
	return h
}
