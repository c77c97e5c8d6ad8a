package sink

import "time"

// Pending says what a sink has stored and not passed on yet, such as files that
// wait for their upload.
type Pending struct {
	// Segments is how many parts wait.
	Segments int

	// Since is when the oldest of them was complete. It is zero if none waits.
	Since time.Time

	// Attempts is how often passing on the oldest one has failed, and Err is the
	// last error. Status pages show its text: it must not have a secret, such as a
	// signed URL.
	Attempts int
	Err      error
}

// Lag is how long the oldest part has waited at a time. It is 0 if none waits.
func (p Pending) Lag(now time.Time) time.Duration {
	if p.Since.IsZero() {
		return 0
	}
	return max(0, now.Sub(p.Since))
}
