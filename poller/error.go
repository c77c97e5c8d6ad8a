package poller

import (
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Error is returned by Run and Drain when a step fails permanently.
//
// Its text contains cursors, which are not secret, but no other values of a
// record: the error of a database driver is shown by its code and the names of
// the objects involved (see [retry.Text]). The original error is available
// through errors.As and errors.Is.
type Error struct {
	// Name is the Name of the Poller.
	Name string

	// Op is the step that failed.
	Op Op

	// From is the cursor before the batch. It is empty for OpLoad.
	From source.Cursor

	// To is the cursor after the batch. It is empty if the step failed before
	// the batch was known.
	To source.Cursor

	// Attempts is how often the step failed in a row.
	Attempts int

	// Err is the cause.
	Err error
}

// Error returns one line that says which step of which pipeline failed, at which
// batch, and why.
func (e *Error) Error() string {
	at := ""
	if e.From != "" || e.To != "" {
		at = fmt.Sprintf(" from %q", e.From.Short())
	}
	if e.To != "" && e.To != e.From {
		at += fmt.Sprintf(" to %q", e.To.Short())
	}
	if e.Attempts > 1 {
		at += fmt.Sprintf(", %d attempts", e.Attempts)
	}
	return fmt.Sprintf("poller: %s: %s%s: %s", e.Name, e.Op, at, retry.Text(e.Err))
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Rejected is a record that the sink rejected, or that the source could not make,
// as it is written to the DeadLetter sink.
type Rejected[T any] struct {
	// Pipeline is the Name of the Poller.
	Pipeline string `json:"pipeline"`

	// Record is the record as the source returned it. It is the zero value if the
	// source could not make it, see Key.
	Record T `json:"record,omitzero"`

	// Key names a record that the source could not make, such as "id 42". It is
	// empty for a record that the sink rejected.
	Key string `json:"key,omitempty"`

	// From is the cursor before the record, or before the batch of a record that
	// a sink has named with [sink.Stored], see Index.
	From source.Cursor `json:"from"`

	// To is the cursor after the record, or after its batch.
	To source.Cursor `json:"to"`

	// Index is how many records after From precede the record: it is the last one
	// of the Index + 1 records that a fetch after From returns.
	Index int `json:"index,omitempty"`

	// Err is the complete text of the error. It may contain values of the record.
	Err string `json:"error"`

	// Time is when the record was rejected.
	Time time.Time `json:"time"`
}
