package poller

import (
	"context"
	"errors"
	"time"
)

// Lease makes one of several replicas of a pipeline active. The others stand by.
//
// Hold tries to take the lease. If it succeeds, it calls active, in the goroutine of
// its caller, and keeps the lease until active returns, even if ctx ends before that,
// because a write in progress may continue for Grace. Then it gives the lease back and returns the
// result of active. The context of active ends with ctx, and also, with
// [ErrLeaseLost] as its cause, when the lease can no longer be relied on: the
// store did not answer for too long, or another replica has taken it. It also has
// this cause if Hold finds that only after active has returned.
//
// If another replica has the lease, Hold waits a moment and returns an error that
// wraps [ErrStandby]. The caller then calls Hold again. An error of any other kind
// says that the lease could not be asked for, for example because its store does
// not answer. In both cases active was not called. When ctx ends before active is
// called, Hold returns soon. A call that has neither returned nor called active after
// 8 s is logged, and one that takes longer than the Poller's Deadline is overdue. Hold
// does not log.
//
// A lease is not a fence. A replica that was paused goes on for a moment after
// another one has taken over. The compare-and-swap of the Checkpointer or of an
// exactly-once sink refuses its writes then, with or without a Lease. The lease
// only keeps replicas from getting in each other's way.
//
// Package lease has implementations. A Lease belongs to one Poller.
type Lease interface {
	Hold(ctx context.Context, active func(ctx context.Context) error) error
}

// ErrStandby is wrapped by the error of [Lease] that says that another replica is
// active.
var ErrStandby = errors.New("another replica is active")

// ErrLeaseLost is the cause with which the context of an active replica ends when
// its lease is lost.
var ErrLeaseLost = errors.New("the lease is lost")

// lead runs the loop whenever this replica has the lease. It returns when the loop
// ends for another reason than a lost lease.
func (r *run[T]) lead() error {
	if r.Lease == nil {
		return r.loop()
	}
	for logged := false; ; {
		if r.Status().State != Standby { // no answer yet
			r.enter(Working, OpLease, r.deadline())
		}
		s := StepInfo{Op: OpLease, Attempt: r.steps[OpLease].failures + 1, Start: time.Now()}
		answered := r.watch(&s)
		var held context.Context
		err := r.Lease.Hold(r.ctx, func(ctx context.Context) error {
			answered(nil)
			held, logged = ctx, false
			r.succeeded(OpLease)
			active := r.newRun(ctx, r.draining)
			defer active.end()
			return active.loop()
		})
		answered(err)
		lost := held != nil && errors.Is(context.Cause(held), ErrLeaseLost)
		switch {
		case held != nil && (err == nil || !lost || r.ctx.Err() != nil):
			return err
		case lost:
			r.begin(Working)
			r.log.Warn("lease lost", "cursor", r.Status().Cursor, "err", context.Cause(held))
		case r.ctx.Err() != nil:
			return r.interrupted(&s, err)
		case errors.Is(err, ErrStandby):
			r.unfinished = nil // the other replica fetches this batch again
			if r.succeeded(OpLease); r.Status().State != Standby {
				r.enter(Standby, "", 0)
			}
			if !logged {
				r.log.Info("standing by", "reason", err)
				logged = true
			}
		default:
			if err := r.failed(r.ctx, &s, err); err != nil {
				return err
			}
		}
	}
}
