package sink

import (
	"errors"
	"fmt"
)

// StoredError is an error of Write that says what became of each record. [Stored]
// makes one.
type StoredError struct {
	// N is the number of records at the start of the batch that are stored.
	N int

	// Err is what went wrong with record N, counted from 0. It is nil if the sink
	// stopped before it tried this record.
	Err error

	// Others says what became of records after record N, by their index in the
	// batch: nil if the record is stored, an error made by [Reject] if it is
	// rejected. Records that are missing are not stored. It is nil for a sink that
	// stores records in order.
	Others map[int]error
}

// Stored reports that the first n records of the batch are stored durably, and that
// record n is not, because of err. A sink that stores several records at the same
// time may have stored others after record n. It reports them with
// [StoredError].Others.
//
// The Poller keeps the other records in memory and goes on with them. It calls
// Write with the rest of the batch, in one or more parts, and saves the cursor
// once all of them are stored. Each part has the From and the To of the batch. So no
// record is written twice, unless the process ends within the batch: the next one
// writes the stored part again.
//
// If err was made by [Reject], record n is the rejected one. The Poller writes it
// to its DeadLetter sink and goes on with the record after it. If err was made by
// [TooLarge], the records from n on are written in halves, and if record n is the last
// one, it is rejected. A nil err means that the
// sink stopped before it tried record n, because its time was up. The Poller then
// limits the next batches to n records, and lets them grow again. Stored with all
// records of the batch and a nil err is success.
//
// The numbers count records of the batch that Write was called with. A sink that
// passes a batch on to another one, and does more with it than that, must not return
// the other's StoredError, not even wrapped: the Poller would take the records in it
// for done. It returns an error that does not wrap it (%v), and the whole batch is
// written again. An error that wraps several, as errors.Join does, does not count as
// a StoredError.
//
// A Write that stored or rejected at least one record is progress and not a
// failure: the Poller goes on at once, and does not log or count err.
//
// Only a sink that stores records one by one uses Stored. An exactly-once sink
// stores all of a batch or none.
func Stored(n int, err error) error { return &StoredError{N: n, Err: err} }

// Error returns how many records are stored, and the text of Err.
func (e *StoredError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%d records stored, the next one was not tried", e.N)
	}
	return fmt.Sprintf("%d records stored: %v", e.N, e.Err)
}

// Unwrap returns Err.
func (e *StoredError) Unwrap() error { return e.Err }

// ErrTooLarge matches, with errors.Is, every error made by [TooLarge].
var ErrTooLarge = errors.New("sink: batch too large")

// TooLarge marks err: nothing of the batch was stored, because it has more
// records or bytes than the sink can store at once, and a shorter batch may be
// stored. The Poller halves the batch and remembers the size. It treats a single
// record that is too large like one that was rejected, see [Reject].
//
// TooLarge(nil) returns nil.
func TooLarge(err error) error { return mark(ErrTooLarge, "too large: ", err) }
