package poller

import (
	"context"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Op names a step of the loop.
type Op string

// The steps of the loop, in their order.
const (
	OpLoad       Op = "load"
	OpFetch      Op = "fetch"
	OpWrite      Op = "write"
	OpDeadLetter Op = "deadletter"
	OpSave       Op = "save"
)

// Hooks are called as a pipeline works, for metrics and traces. Any of them may
// be nil. They are called synchronously: a slow hook slows the pipeline, and a
// panic in one ends the program. Those of a fetch may be called while those of
// a write are, so a hook must be safe for concurrent use. The errors they are
// given are whole, values of rows included: show them with [retry.Text].
type Hooks struct {
	// StepBegin is called before each call of a part. The context it returns,
	// derived from the one given, is passed to that call and to StepEnd.
	StepBegin func(context.Context, StepInfo) context.Context
	// StepEnd is called after each call of a part.
	StepEnd func(context.Context, StepInfo)
	// Backoff is called when a failed step will be tried again.
	Backoff func(BackoffInfo)
	// Poll is called when a batch has been saved, and when a fetch found
	// nothing.
	Poll func(PollInfo)
	// DeadLetter is called when a record has gone to the dead-letter sink.
	DeadLetter func(DeadLetterInfo)
}

// StepInfo describes one call of a part: one attempt.
type StepInfo struct {
	Pipeline string
	Op       Op
	Attempt  int           // 1 for the first
	From, To source.Cursor // To is empty where it is not known yet
	Records  int           // for OpFetch known at the end
	Bytes    int           // likewise
	Start    time.Time
	Duration time.Duration // StepEnd only
	Err      error         // StepEnd only
}

// BackoffInfo describes a wait before a step is tried again.
type BackoffInfo struct {
	Pipeline string
	Op       Op
	Attempt  int // how often it failed in a row
	Wait     time.Duration
	Class    retry.Class
	Err      error
}

// PollInfo describes one turn of the loop: a batch fetched, written and saved,
// or a fetch that found nothing.
type PollInfo struct {
	Pipeline string
	From, To source.Cursor
	Records  int // delivered to the sink
	Bytes    int
	More     bool
	AsOf     time.Time
	Held     *source.Held
	Start    time.Time     // when its fetch began
	Duration time.Duration // to the end of its save; includes waiting for the batch before
}

// DeadLetterInfo describes a record that the sink refused for good.
type DeadLetterInfo struct {
	Pipeline string
	From, To source.Cursor
	Err      error
}

// JoinHooks returns hooks that call those of each argument, in order.
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
