package poller

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// State is what a Poller is doing.
type State string

// The states of a Poller.
const (
	Stopped    State = "stopped"    // Run is not in progress
	Standby    State = "standby"    // another replica is active; waiting for the Lease
	Working    State = "working"    // a step is in progress, see Status.Op
	Idle       State = "idle"       // there is nothing to fetch; waiting for Interval or Wake
	Held       State = "held"       // records are held back; waiting to ask again
	Backoff    State = "backoff"    // a step failed; waiting to try it again
	Restarting State = "restarting" // Run has ended with an error; a Group waits to call it again
)

// Status is a snapshot of a Poller. Its counters add up all runs of the Poller.
type Status struct {
	// Name is the Name of the Poller.
	Name string

	// Interval is the Interval of the Poller, with the default applied.
	Interval time.Duration

	// Started is when this run loaded its cursor. It is zero before that, and
	// when the Poller is stopped or stands by.
	Started time.Time

	// State is what the Poller is doing.
	State State

	// Since is when State began.
	Since time.Time

	// Due is when State should end at the latest: the deadline of a step or the
	// end of a wait. It is zero when the Poller is stopped or stands by.
	Due time.Time

	// Done is true after a run that returned nil: the source or the context has
	// ended, or all records are delivered. It is false before the first run, during
	// a run and after an error.
	Done bool

	// Op is the step in progress. In state Backoff it is the step that failed.
	Op Op

	// Overdue is true while a step has not returned although its timeout has
	// passed, or while the loop itself hangs, for example in a hook, and is one
	// Deadline past Due. The pipeline is then stuck, and only a restart of the
	// process can help. Liveness checks should use this field. If a step is
	// stuck, State is Working, and Op and Since describe that step.
	Overdue bool

	// Cursor is the cursor that was last loaded or saved.
	Cursor source.Cursor

	// Batches is the number of batches saved.
	Batches int64

	// Records is the number of records written and saved.
	Records int64

	// DeadLetters is the number of rejected records written to the DeadLetter
	// sink.
	DeadLetters int64

	// LastPoll is when the loop last completed a turn, with or without records, or
	// stored a part of a batch.
	LastPoll time.Time

	// LastRecord is when the loop last completed a turn that delivered a record.
	LastRecord time.Time

	// LastSave is when the cursor was last saved.
	LastSave time.Time

	// AsOf is the latest time for which the source has said that every record
	// committed before it is delivered, see [source.Batch]. It is zero if the
	// source has not said so in this run.
	AsOf time.Time

	// Held describes the records that are held back. Usually it is nil.
	Held *source.Held

	// Guarantee is what the source promises about its records. It is nil before
	// the first batch, and if the source promises nothing.
	Guarantee *source.Guarantee

	// Position describes the cursor of the last batch in words for people, such
	// as "id 42". It is empty if the source does not provide it.
	Position string

	// Pending is an upper bound on the number of records after the last batch.
	// 0 means none or unknown, see [source.Batch].
	Pending int64

	// Pinned is how many bytes of its log the server keeps until the cursor moves on, as of the
	// last batch. 0 means none or unknown, see [source.Batch].
	Pinned int64

	// Uploads is the result of the Poller's Uploads. It is zero if the Poller has none.
	Uploads sink.Pending

	// Attempts is how often the failing step has failed in a row, 0 if no step
	// is failing.
	Attempts int

	// LastError is the text of the last error, without values of records (see
	// [retry.Text]). It is kept after recovery.
	LastError string

	// LastErrorTime is when LastError occurred.
	LastErrorTime time.Time
}

// Status returns a snapshot of the Poller. It does not wait for a step to finish,
// and is safe for concurrent use.
func (p *Poller[T]) Status() Status {
	var uploads sink.Pending
	if p.Uploads != nil {
		uploads = p.Uploads()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Uploads = uploads
	s.Name, s.Interval, s.State = p.Name, p.interval(), cmp.Or(s.State, Stopped)
	switch {
	case len(p.overdue) > 0: // more important than the current state of the loop
		step := p.overdue[0]
		s.Overdue, s.State, s.Op = true, Working, step.Op
		s.Since, s.Due = step.Start, step.Start.Add(p.deadline())
	case !s.Due.IsZero():
		s.Overdue = time.Since(s.Due) > p.deadline()
	}
	return s
}

// Lag is how far delivery is behind: every record committed more than Lag ago
// has been delivered. Lag grows while the pipeline makes no progress. The second
// result is false if the source has not reported AsOf in this run, and after a run
// that is Done: the pipeline then has nothing to deliver.
func (s Status) Lag(now time.Time) (time.Duration, bool) {
	return max(0, now.Sub(s.AsOf)), !s.AsOf.IsZero() && !s.Done
}

// Summary describes the state of the pipeline in a few words for people, such as
// "up to date" or "failing, trying again".
func (s Status) Summary(now time.Time) string {
	age := func(since time.Time) time.Duration { return max(0, now.Sub(since)).Round(time.Second) }
	switch {
	case s.Overdue:
		return fmt.Sprintf("stuck: no answer for %v", age(s.Since))
	case s.Done:
		return "done"
	case s.State == Stopped:
		return "stopped"
	case s.State == Restarting:
		return "failed, will restart"
	case s.Attempts == 1:
		return "failing, trying again"
	case s.Attempts > 0:
		return fmt.Sprintf("failing, %d attempts, trying again", s.Attempts)
	case s.State == Standby:
		return "standby"
	case s.State == Held && s.Held != nil:
		return fmt.Sprintf("held back for %v by %s", age(s.Held.Since), cmp.Or(strings.Join(s.Held.By, ", "), "an unknown holder"))
	case s.State == Working && !s.Since.IsZero() && now.Sub(s.Since) >= unanswered:
		return fmt.Sprintf("waiting for an answer for %v (%s)", age(s.Since), s.Op)
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

// enter sets a state that should last for d at most, or without limit if d is 0.
func (p *Poller[T]) enter(state State, op Op, d time.Duration) {
	p.update(func(s *Status) {
		s.State, s.Op, s.Since, s.Due = state, op, time.Now(), time.Time{}
		if d > 0 {
			s.Due = s.Since.Add(d)
		}
	})
}
