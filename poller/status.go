package poller

import (
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// State says what a Poller is about.
type State string

// The states of a Poller.
const (
	Stopped State = "stopped"
	Working State = "working" // a step is in progress, see Status.Op
	Idle    State = "idle"    // nothing more to fetch; waits for Interval or Wake
	Held    State = "held"    // records exist but are held back; asks again soon
	Backoff State = "backoff" // a step failed and will be tried again
)

// Status is a snapshot of a Poller. Counts are of all its runs together.
type Status struct {
	Name  string
	State State
	Since time.Time // of State
	Op    Op        // the step in progress or, in Backoff, the one that failed

	Cursor      source.Cursor // last loaded or saved
	Batches     int64         // saved
	Records     int64         // written and saved
	DeadLetters int64

	LastPoll   time.Time // last turn of the loop that ended well, also if it found nothing
	LastRecord time.Time // last turn that delivered a record
	AsOf       time.Time // from the last batch, see source.Batch
	Held       *source.Held

	// Overdue is true while a part is past its deadline and has not returned.
	// The pipeline is stuck then, and only a restart of the process can help:
	// this is what a liveness check looks at.
	Overdue bool

	Attempts      int    // failures in a row of the step that is failing, 0 if none is
	LastError     string // safe to show, see retry.Text; kept after recovery
	LastErrorTime time.Time
}

// Status returns a snapshot. It never blocks on a step, and may be called at
// any time from any goroutine.
func (p *Poller[T]) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Name = p.Name
	if s.State == "" {
		s.State = Stopped
	}
	return s
}

func (p *Poller[T]) update(f func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.status)
}

func (p *Poller[T]) enter(state State, op Op) {
	p.update(func(s *Status) {
		s.State, s.Op, s.Since = state, op, time.Now()
	})
}
