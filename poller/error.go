package poller

import (
	"fmt"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Error is what Run and Drain return when a step fails for good.
//
// Its text holds cursors, which are no secret, but no other value of a row: a
// driver's error is shown by its code and the names of the objects involved
// (see [retry.Text]). errors.As and errors.Is still reach the original.
type Error struct {
	Name     string        // the Poller's
	Op       Op            // the step that failed
	From, To source.Cursor // of the batch; To is empty if it was not known
	Attempts int           // how often the step was tried in a row
	Err      error
}

// Error returns one line that says what failed, where and why.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "poller: %s: %s", e.Name, e.Op)
	if e.From != "" || e.To != "" {
		fmt.Fprintf(&b, " from %q", e.From)
	}
	if e.To != "" {
		fmt.Fprintf(&b, " to %q", e.To)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, ", %d attempts", e.Attempts)
	}
	return b.String() + ": " + retry.Text(e.Err)
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Rejected is a record that the sink refused for good, as it is written to the
// DeadLetter sink.
type Rejected[T any] struct {
	Pipeline string        `json:"pipeline"`
	Record   T             `json:"record"`
	From     source.Cursor `json:"from"` // fetching one record from here gives it again
	To       source.Cursor `json:"to"`
	Err      string        `json:"error"` // whole, values of the row included
	Time     time.Time     `json:"time"`
}
