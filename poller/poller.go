// Package poller runs a polling pipeline: it fetches what is new from a
// [source.Source], writes it to a [sink.Sink], saves how far it got with a
// [Checkpointer], and does so again until it is told to stop.
//
//	p := &poller.Poller[Order]{
//		Name:         "orders",
//		Source:       orders, // such as a sqlsource.Query
//		Sink:         files,  // such as a filesink.Dir
//		Checkpointer: files,  // the same value: exactly once
//	}
//	err := p.Run(ctx)
//
// # The loop
//
// Load, then Fetch, Write, Save, for ever. The cursor is saved only after the
// batch is written, so a crash at any point loses nothing. With a sink that is
// the Checkpointer too, records and cursor move together and nothing comes
// twice. With any other the batch between Write and Save may come once more.
//
// One batch is fetched while the one before is written. It is never written
// unless the one before was written and saved. Every call of a part gets a
// context with a deadline. A part that ignores it is neither abandoned nor
// called again beside itself, which would write twice: the loop waits, logs it,
// and [Status].Overdue turns true.
//
// # Errors
//
// An outage is no reason to stop: what may pass is tried again after a backoff,
// for ever by default. Package retry says which errors these are. Run ends with
// an [*Error] when
//
//   - a step fails for a reason in its setup (no such table, wrong password)
//     before it has succeeded once in this Run. After that the same error is an
//     outage: somebody is at work on the database;
//   - an error is marked by [retry.Permanent], or breaks a contract;
//   - the checkpoint was moved by another writer, [ErrConflict];
//   - the sink rejects a record, see [sink.Reject], and there is no DeadLetter
//     or too many were refused in a row;
//   - the Retry policy gives up.
//
// A rejected batch is fetched again in halves until the refused record stands
// alone. It goes to DeadLetter, the cursor moves past it, and the batches grow
// back. A crash between the two can write the dead letter twice.
//
// A fetch or write that runs into its deadline is tried again with half the
// records. Before a shorter batch is written the cursor is loaded again, since
// the write may have succeeded after all.
package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Poller is a pipeline from one source to one sink. Set its fields, then call
// [Poller.Run] or [Poller.Drain]; do not change them while it runs. Name,
// Source, Sink and Checkpointer are required, the zero value of every other
// field is a good default. A Poller must not be copied after first use.
type Poller[T any] struct {
	// Name stands for the pipeline in logs, errors and metrics.
	Name string

	Source       source.Source[T]
	Sink         sink.Sink[T]
	Checkpointer Checkpointer // the same value as Sink for a sink that keeps the cursor itself

	// DeadLetter takes the records that Sink rejects, one in a batch. If nil,
	// a rejected record ends Run.
	DeadLetter sink.Sink[Refused[T]]

	// DeadLetterLimit is how many records in a row may go to DeadLetter; one
	// more refused ends Run, for that many are no poison but a fault. Defaults
	// to 100.
	DeadLetterLimit int

	// BatchSize is the most records to fetch at once. Defaults to 5,000.
	BatchSize int

	// Interval is the wait after a fetch that left nothing to fetch, give or
	// take a tenth so that many pollers do not march in step. Defaults to 1 s.
	Interval time.Duration

	// Wake ends such a wait at once when it yields a value. It must have
	// capacity 1 and be sent to without blocking, so that one wake during a
	// step is kept. It never shortens a backoff.
	Wake <-chan struct{}

	// Deadline is how long one call of a part may take. Defaults to 1 min.
	Deadline time.Duration

	// Grace is how long a write or save in progress may go on after ctx has
	// ended. Defaults to 30 s; negative means not at all.
	Grace time.Duration

	// DrainWait is how long Drain waits in a row for records that are held
	// back by the same holder. Defaults to 30 s; negative means not at all.
	DrainWait time.Duration

	// Retry says how long to wait after failures, and when to give up.
	Retry retry.Policy

	// Hooks observe the pipeline, for metrics and traces.
	Hooks Hooks

	// Logger gets a line for each change of state: started, failing, still
	// failing (ever more rarely), recovered, held back, record refused, overdue,
	// stopped. What comes and goes all the time is logged at intervals. Messages
	// and keys are fixed: the file LOGS.md beside this package has them all. No
	// line holds a value of a row other than its key. Defaults to slog.Default().
	Logger *slog.Logger

	mu      sync.Mutex
	status  Status
	overdue []*StepInfo // steps that are; a fetch and a write can both be
}

// Run works until ctx ends or a finite source does, and then returns nil. It
// returns an [*Error] when a step fails for good.
//
// When ctx ends, a fetch, a backoff or a wait ends at once. A write in progress
// may go on for Grace, and if it succeeds the cursor is saved. Only if that save
// fails is the end of ctx an error: the records are written, but the checkpoint
// does not say so. When Run returns, no call of a part is in progress.
//
// Run does not close the parts; they can be used again, also by a second Run
// after the first. Calling it while the Poller runs is an error that wraps
// [ErrRunning].
func (p *Poller[T]) Run(ctx context.Context) error { return p.start(ctx, false) }

// Drain works as Run does until the source has nothing more, or until all that
// was committed before Drain began is delivered, if the source can tell (see
// [source.Batch].AsOf), and then returns nil. If records are held back it asks
// for them again for DrainWait, as long as the same holder holds them, then
// returns an error that wraps [ErrHeld] and says who holds them. If ctx ends
// first it returns an error that wraps the cause of that.
func (p *Poller[T]) Drain(ctx context.Context) error { return p.start(ctx, true) }

// interval leaves room for the jitter.
func (p *Poller[T]) interval() time.Duration {
	return min(cmp.Or(p.Interval, time.Second), math.MaxInt64/2)
}
func (p *Poller[T]) deadline() time.Duration { return cmp.Or(p.Deadline, time.Minute) }

func (p *Poller[T]) validate() error {
	negative := func(field string, v int64) error {
		if v >= 0 {
			return nil
		}
		return fmt.Errorf("%s is negative: set it to a positive value, or leave it out for the default", field)
	}
	missing := func(field string, is bool, what string) error {
		if !is {
			return nil
		}
		return fmt.Errorf("%s is not set: %s", field, what)
	}
	var wake, policy error
	if p.Wake != nil && cap(p.Wake) != 1 {
		wake = fmt.Errorf("Wake has capacity %d: make it with capacity 1, or a wake during a step is lost", cap(p.Wake))
	}
	if err := p.Retry.Validate(); err != nil {
		policy = fmt.Errorf("Retry: %w", err)
	}
	err := errors.Join(
		missing("Name", p.Name == "", "name the pipeline for logs, errors and metrics"),
		missing("Source", p.Source == nil, "say what to read"),
		missing("Sink", p.Sink == nil, "say where to write"),
		missing("Checkpointer", p.Checkpointer == nil, "say where to remember the cursor; an exactly-once sink goes here too"),
		negative("DeadLetterLimit", int64(p.DeadLetterLimit)),
		negative("BatchSize", int64(p.BatchSize)),
		negative("Interval", int64(p.Interval)),
		negative("Deadline", int64(p.Deadline)),
		wake, policy)
	if err != nil {
		return fmt.Errorf("poller: %q is misconfigured: %w", p.Name, err)
	}
	return nil
}
