package poller

import (
	"cmp"
	"fmt"
	"strings"
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
	Name     string
	Interval time.Duration // the Poller's, or its default

	Started time.Time // when this run had loaded its cursor; zero before that, and when stopped
	State   State
	Since   time.Time // of State
	Due     time.Time // when State ends at the latest: a step's deadline, the end of a wait; zero when stopped
	Op      Op        // the step in progress or, in Backoff, the one that failed

	Cursor      source.Cursor // last loaded or saved
	Batches     int64         // saved
	Records     int64         // written and saved
	DeadLetters int64

	LastPoll   time.Time // last turn of the loop that ended well, also if it found nothing
	LastRecord time.Time // last turn that delivered a record
	LastSave   time.Time // of the cursor
	AsOf       time.Time // from the last batch that said so, see source.Batch
	Held       *source.Held

	Guarantee *source.Guarantee // what the source promises, from the last batch; nil before that, or if it promises nothing
	Position  string            // where Cursor stands in words, from the last batch that said so
	Pending   int64             // the greatest number of records that can follow Cursor, see source.Batch

	// Overdue is true while a part is past its deadline and has not returned,
	// or the loop itself is a Timeout past Due, as when a hook does not return.
	// The pipeline is stuck then, and only a restart of the process can help:
	// this is what a liveness check looks at. Op and Since are the part's.
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
	s.Name, s.Interval = p.Name, p.interval()
	if s.State == "" {
		s.State = Stopped
	}
	switch {
	case len(p.overdue) > 0: // that step counts, whatever the loop does beside it
		step := p.overdue[0]
		s.Overdue, s.State, s.Op = true, Working, step.Op
		s.Since, s.Due = step.Start, step.Start.Add(p.timeout())
	case !s.Due.IsZero():
		s.Overdue = time.Since(s.Due) > p.timeout()
	}
	return s
}

// Lag is how long ago all that was committed had been delivered. It grows while
// the pipeline does not get on. The second result is false if the source has not
// said so yet, or cannot say.
func (s Status) Lag(now time.Time) (time.Duration, bool) {
	return max(0, now.Sub(s.AsOf)), !s.AsOf.IsZero()
}

// Summary says in a few words, for people, what the pipeline is about.
func (s Status) Summary(now time.Time) string {
	age := func(since time.Time) time.Duration { return max(0, now.Sub(since)).Round(time.Second) }
	switch {
	case s.Overdue:
		return fmt.Sprintf("stuck: no answer for %v", age(s.Since))
	case s.State == Stopped:
		return "stopped"
	case s.Attempts == 1:
		return "failing, trying again"
	case s.Attempts > 0:
		return fmt.Sprintf("failing, %d attempts, trying again", s.Attempts)
	case s.State == Held && s.Held != nil:
		return fmt.Sprintf("held back for %v by %s", age(s.Held.Since), cmp.Or(strings.Join(s.Held.By, ", "), "an unknown holder"))
	case s.Started.IsZero():
		return "starting"
	case s.State == Idle:
		return "up to date"
	}
	return "copying"
}

func (p *Poller[T]) update(f func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.status)
}

// enter notes a state that is to last for d at most.
func (p *Poller[T]) enter(state State, op Op, d time.Duration) {
	p.update(func(s *Status) {
		s.State, s.Op, s.Since = state, op, time.Now()
		s.Due = s.Since.Add(d)
	})
}
