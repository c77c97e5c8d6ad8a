// Package poller runs a pipeline: it fetches new records from a [source.Source],
// writes them to a [sink.Sink], saves its position with a [Checkpointer], and
// repeats this until it is told to stop.
//
//	p := &poller.Poller[Order]{
//		Name:         "orders",
//		Source:       orders, // such as a sqlsource.Query
//		Sink:         files,  // such as a filesink.Dir
//		Checkpointer: files,  // the same value: exactly once
//	}
//	err := p.Run(ctx)
//
// The position is a cursor. It is kept by a Checkpointer:
//
//	type Checkpointer interface {
//		Load(ctx context.Context) (source.Cursor, error)
//		Save(ctx context.Context, from, to source.Cursor) error
//	}
//
// # The loop
//
// Run loads the cursor. It then repeats three steps: fetch the batch after the
// cursor, write the batch, save the batch's cursor. The cursor is saved only
// after the batch was written, so a crash at any point loses nothing.
//
//   - If the Sink is also the Checkpointer, it stores records and cursor together,
//     and every record is delivered exactly once.
//   - With any other Sink, a crash between write and save delivers that one batch
//     a second time.
//   - A sink that stores records one by one, such as one of [sink.Each], reports
//     what is stored. A crash within a batch delivers the stored part of that one
//     batch a second time.
//
// The Poller remembers in memory what is stored of a batch until its cursor is saved,
// also from one call of Run to the next. So nothing is delivered twice if Run ends with
// an error and is called again. A new process does not know it.
//
// While a batch is written, the next one is fetched. It is not written before the
// cursor of the first batch is saved.
//
// Each attempt at a step has a timeout. If a call ignores it, the loop neither
// abandons the call nor makes a second one, because that could write records
// twice. It waits, logs that the pipeline is stuck, and sets [Status].Overdue.
//
// # Errors
//
// An outage does not end Run. A step that fails is tried again after a backoff,
// by default without limit. Run ends with an [*Error] if
//
//   - a step fails with a setup error, such as a missing table or a wrong
//     password, before it has succeeded once in this run. Later the same error
//     is treated as an outage, because someone is probably working on the
//     database. Package retry defines which errors are setup errors;
//   - an error was marked with [retry.Permanent], or the Source or the
//     Checkpointer violates its contract;
//   - another writer moved the checkpoint, see [ErrConflict];
//   - the sink rejects a record, see [sink.Reject], and DeadLetter is not set, or
//     too many records in a row were rejected;
//   - the Retry policy gives up.
//
// # Many pipelines, several replicas
//
// A [Group] runs pipelines side by side and starts one again that has ended with an
// error. With a [Lease], one of several replicas of a pipeline is active, and the
// others stand by.
//
// The file DESIGN.md next to this package explains why the loop works this way.
package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Poller is a pipeline from one source to one sink. Set its fields, then call
// [Poller.Run] or [Poller.Drain]. Do not change the fields while it runs, and do
// not copy a Poller after its first use.
//
// Name, Source, Sink and Checkpointer are required. Every other field has a
// useful zero value.
type Poller[T any] struct {
	// Name identifies the pipeline in logs, errors and metrics. It is required.
	Name string

	// Source is what the pipeline reads from. It is required.
	Source source.Source[T]

	// Sink is what the pipeline writes to. It is required.
	Sink sink.Sink[T]

	// Checkpointer stores the cursor of the pipeline. It is required. If the sink
	// stores the cursor itself, set Checkpointer to the same value as Sink.
	Checkpointer Checkpointer

	// DeadLetter receives the records that Sink rejects, one per batch. A
	// rejected batch is fetched again in smaller batches until the record is
	// alone. The record is written to DeadLetter, and the cursor after it is
	// saved. A crash between the two writes it to DeadLetter twice. If
	// DeadLetter is nil, a rejected record ends Run. Package deadletter keeps the
	// records in a directory, and delivers them after a fix.
	DeadLetter sink.Sink[Rejected[T]]

	// DeadLetterLimit is the maximum number of records in a row that are written
	// to DeadLetter. One more ends Run: that many rejections in a row mean a
	// fault, not bad records. The count goes on in the next Run, so a Group that
	// restarts the pipeline writes no more of them until a record is stored. A new
	// process begins at 0. Defaults to 100.
	DeadLetterLimit int

	// BatchSize is the maximum number of records in a batch. Defaults to 5,000.
	BatchSize int

	// Interval is the wait before the next fetch when there is nothing more to
	// fetch. Each wait varies at random by up to 10 %, so that many pollers do
	// not poll at the same moments. Defaults to 1 s.
	Interval time.Duration

	// Wake ends the wait for the next fetch as soon as it yields a value. The
	// channel must have capacity 1, so that a value sent during a step is kept.
	// Send to it without blocking. Wake does not shorten a backoff.
	Wake <-chan struct{}

	// Deadline limits each attempt at a step. A fetch or write that times out is
	// tried again with half the records. Defaults to 1 min.
	Deadline time.Duration

	// Grace is how long a write or save in progress may continue after ctx has
	// ended. Defaults to 30 s. A negative value means no grace. If the sink stores
	// records one by one, the rest of a batch needs to fit: let Grace be more than
	// BatchSize times the time for a record, or more than the 10 s or so within
	// which batches of [sink.Each] fit after the first one.
	Grace time.Duration

	// DrainWait is how long Drain waits for records that the same holder holds
	// back. Defaults to 30 s. A negative value means that Drain does not wait.
	DrainWait time.Duration

	// Lease, if set, makes this pipeline one of several replicas of which one is
	// active: Run stands by until it gets the lease, and again after it has lost it.
	// A standby is in state [Standby] and makes no step. Without a Lease, a second
	// replica makes the first one end with [ErrConflict]. In a [Group], or under a
	// supervisor, they then take the pipeline from each other for ever, and a sink
	// that is not exactly-once gets records twice: replicas need a Lease.
	Lease Lease

	// Uploads, if set, says what the sink has stored and not passed on yet, such as
	// the method Pending of a filesink.Dir whose OnSeal uploads files. Status has it
	// for pages and metrics; the loop does not wait for it. It must be safe for
	// concurrent use and return at once.
	Uploads func() sink.Pending

	// Retry determines the waits between attempts, and when to give up. The zero
	// value retries without limit. Its MaxElapsed counts from the start of the first
	// attempt that failed. It limits the attempts after that one too, but to no less
	// than a second. Set it above Deadline, or the first attempt that times out ends
	// Run.
	Retry retry.Policy

	// Hooks observe the pipeline, for metrics and traces.
	Hooks Hooks

	// Logger receives a line for each change of state: started, failing, still
	// failing (less and less often), recovered, records held back, record
	// rejected, overdue, stopped. Changes that repeat all the time are logged at
	// intervals. Messages and keys are fixed and listed in the file LOGS.md next
	// to this package. No line contains values of a record except its key.
	// Defaults to slog.Default(). A log that cannot be written stops the pipeline,
	// unless its handler is one of package asynclog.
	Logger *slog.Logger

	running    atomic.Bool
	rejected   int         // records rejected in a row
	unfinished *fetched[T] // a batch of which records are stored, and whose cursor is not saved; for the next run
	mu         sync.Mutex
	status     Status
	overdue    []*StepInfo // steps that ignore their timeout: at most a fetch and one other step
}

// Run runs the pipeline until ctx ends or a finite source ends, and then returns
// nil. It returns an [*Error] if a step fails permanently.
//
// When ctx ends, a load, a fetch, a backoff or a wait ends at once. A write in
// progress may continue for Grace. If it succeeds, its cursor is saved. If a part of
// the batch is stored, the rest is stored too, and the cursor is saved. If that
// fails, or Grace is too short, Run returns an error, because records were written
// and the checkpoint does not include them: a new process writes them again. When
// Run returns, no step is in progress.
//
// Run does not close the Source, the Sink or the Checkpointer. It may be called
// again after it has returned, and then loads the cursor again. If the last run
// ended after records of a batch were stored, and before its cursor was saved, the
// Poller keeps the batch in memory, and Run goes on with what is left of it. It
// fetches the batch again if the cursor was moved in between, even there and back,
// or if another replica was active. If the Poller is already running, Run returns an
// error that wraps [ErrRunning].
func (p *Poller[T]) Run(ctx context.Context) error { return p.start(ctx, false) }

// Drain runs the pipeline like Run until the source has no more records, and then
// returns nil. If the source reports [source.Batch].AsOf, Drain also returns once
// every record that was committed before Drain began has been delivered, so it
// ends even while new records keep arriving.
//
// If records are held back, Drain waits for them. Once the same holder has held
// them for DrainWait, it returns an error that wraps [ErrHeld] and names the
// holder. If ctx ends first, it returns an error that wraps context.Cause(ctx).
func (p *Poller[T]) Drain(ctx context.Context) error { return p.start(ctx, true) }

// interval is limited so that adding the jitter cannot overflow.
func (p *Poller[T]) interval() time.Duration {
	return min(cmp.Or(p.Interval, time.Second), math.MaxInt64/2)
}
func (p *Poller[T]) deadline() time.Duration { return cmp.Or(p.Deadline, time.Minute) }

func (p *Poller[T]) validate() error {
	check := func(ok bool, format string, args ...any) error {
		if ok {
			return nil
		}
		return fmt.Errorf(format, args...)
	}
	err := errors.Join(
		check(p.Name != "", "Name is not set: it identifies the pipeline in logs, errors and metrics"),
		check(p.Source != nil, "Source is not set: the pipeline has nothing to read from"),
		check(p.Sink != nil, "Sink is not set: the pipeline has nothing to write to"),
		check(p.Checkpointer != nil, "Checkpointer is not set: the pipeline cannot store its cursor; an exactly-once sink is also the Checkpointer"),
		check(p.DeadLetterLimit >= 0, negative, "DeadLetterLimit"),
		check(p.BatchSize >= 0, negative, "BatchSize"),
		check(p.Interval >= 0, negative, "Interval"),
		check(p.Deadline >= 0, negative, "Deadline"),
		check(p.Wake == nil || cap(p.Wake) == 1, "Wake has capacity %d: use a channel with capacity 1, or a value sent during a step is lost", cap(p.Wake)),
		check(p.Retry.Validate() == nil, "Retry: %w", p.Retry.Validate()))
	if err != nil {
		return fmt.Errorf("poller: %q is misconfigured: %w", p.Name, err)
	}
	return nil
}

const negative = "%s is negative: set it to a positive value, or leave it at 0 for the default"
