package poller

import (
	"context"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Op names a step of the loop. A step is a call to the Source, the Sink, the
// Checkpointer or the DeadLetter sink. OpLease comes before the loop. Its attempts
// have no timeout of the Poller, and StepBegin and StepEnd are not called for them.
type Op string

// The steps of the loop, in order.
const (
	OpLease      Op = "lease"      // Lease.Hold
	OpLoad       Op = "load"       // Checkpointer.Load
	OpFetch      Op = "fetch"      // Source.Fetch
	OpWrite      Op = "write"      // Sink.Write
	OpDeadLetter Op = "deadletter" // DeadLetter.Write
	OpSave       Op = "save"       // Checkpointer.Save
)

// Hooks are functions that a Poller calls as it works, for metrics and traces.
// Any of them may be nil.
//
// Hooks are called synchronously: a slow hook slows the pipeline down, and a
// panic in a hook ends the program. They must be safe for concurrent use,
// because the next batch is fetched while one is written.
//
// Errors passed to hooks are complete and may contain values of records. Use
// [retry.Text] to show them.
type Hooks struct {
	// StepBegin is called before each attempt at a step. The step and StepEnd
	// receive the context that it returns, which must be derived from the
	// context it was given.
	StepBegin func(context.Context, StepInfo) context.Context

	// StepEnd is called after each attempt at a step.
	StepEnd func(context.Context, StepInfo)

	// Backoff is called when a step has failed and will be tried again.
	Backoff func(BackoffInfo)

	// Poll is called when a batch has been saved, and when a fetch found no new
	// records.
	Poll func(PollInfo)

	// DeadLetter is called when a rejected record has been written to the
	// DeadLetter sink.
	DeadLetter func(DeadLetterInfo)
}

// StepInfo describes one attempt at a step.
type StepInfo struct {
	// Pipeline is the Name of the Poller.
	Pipeline string

	// Op is the step.
	Op Op

	// Attempt is 1 for the first attempt, 2 for the first retry, and so on.
	Attempt int

	// From is the cursor before the batch. It is empty for OpLoad.
	From source.Cursor

	// To is the cursor after the batch. It is empty for OpLoad, and for OpFetch
	// in StepBegin.
	To source.Cursor

	// Records is the number of records in the batch, or in the part of it that is
	// written, see [sink.Stored]. For OpFetch it is set in StepEnd only.
	Records int

	// Bytes is the approximate size of these records in memory, 0 if unknown: that of
	// a part is its share of the batch. For OpFetch it is set in StepEnd only.
	Bytes int

	// Start is when the attempt began.
	Start time.Time

	// Duration is how long the attempt took. It is set in StepEnd only.
	Duration time.Duration

	// Err is nil if the attempt succeeded, if a write stored or rejected some of its
	// records, see [sink.Stored], and if the batch was too large, see
	// [sink.TooLarge]. It is set in StepEnd only.
	Err error
}

// BackoffInfo describes the wait before a step is tried again.
type BackoffInfo struct {
	// Pipeline is the Name of the Poller.
	Pipeline string

	// Op is the step that failed.
	Op Op

	// Attempt is how often the step has failed in a row.
	Attempt int

	// Wait is how long the Poller waits before the next attempt.
	Wait time.Duration

	// Class is the kind of error, see [retry.Classify].
	Class retry.Class

	// Err is the error of the last attempt.
	Err error
}

// PollInfo describes one turn of the loop: either a batch was fetched, written
// and saved, or a fetch found no new records.
type PollInfo struct {
	// Pipeline is the Name of the Poller.
	Pipeline string

	// From is the cursor before the batch.
	From source.Cursor

	// To is the cursor after the batch.
	To source.Cursor

	// Records is the number of records delivered to the sink.
	Records int

	// Bytes is the approximate size of the records in memory, 0 if unknown.
	Bytes int

	// More is true if the source has more records at once.
	More bool

	// AsOf says how current the batch is, see [source.Batch].
	AsOf time.Time

	// Held describes the records that are held back. Usually it is nil.
	Held *source.Held

	// Start is when the fetch of the batch began.
	Start time.Time

	// Duration is the time from Start to the end of the save. It includes the
	// wait for the previous batch.
	Duration time.Duration
}

// DeadLetterInfo describes a record that the sink rejected.
type DeadLetterInfo struct {
	// Pipeline is the Name of the Poller.
	Pipeline string

	// From is the cursor before the record.
	From source.Cursor

	// To is the cursor after the record.
	To source.Cursor

	// Err is the error of the sink.
	Err error
}

// JoinHooks combines several Hooks into one that calls each of them in order.
// StepBegin of a later argument receives the context that the earlier one
// returned.
func JoinHooks(hooks ...Hooks) Hooks {
	var j Hooks
	for _, h := range hooks {
		if f, g := j.StepBegin, h.StepBegin; f == nil {
			j.StepBegin = g
		} else if g != nil {
			j.StepBegin = func(ctx context.Context, i StepInfo) context.Context { return g(f(ctx, i), i) }
		}
		if f, g := j.StepEnd, h.StepEnd; f == nil {
			j.StepEnd = g
		} else if g != nil {
			j.StepEnd = func(ctx context.Context, i StepInfo) { f(ctx, i); g(ctx, i) }
		}
		j.Backoff = both(j.Backoff, h.Backoff)
		j.Poll = both(j.Poll, h.Poll)
		j.DeadLetter = both(j.DeadLetter, h.DeadLetter)
	}
	return j
}

func both[I any](f, g func(I)) func(I) {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(i I) { f(i); g(i) }
}
