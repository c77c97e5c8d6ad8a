package poller

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	goretry "github.com/sethvargo/go-retry"

	"github.com/artifactofdevotion/devotion/internal/loglimit"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
)

// stepState is the history of one step in this run.
type stepState struct {
	succeeded  bool      // at least once in this run
	failures   int       // in a row
	since      time.Time // the start of the first of these attempts
	backoff    goretry.Backoff
	err        error // of the last of them
	failureLog loglimit.Limiter
	answerLog  loglimit.Limiter // used only in watch
	overdueLog loglimit.Limiter // used only in watch
}

// until calls f until it succeeds, fails permanently, or the run has to stop.
func (r *run[T]) until(ctx context.Context, s *StepInfo, f func(context.Context) error) error {
	for {
		err := r.step(ctx, s, f)
		if err == nil {
			r.succeeded(s.Op)
			return nil
		}
		if err := r.failed(ctx, s, err); err != nil {
			return err
		}
	}
}

// step makes one attempt at a step and fills in s.
func (r *run[T]) step(ctx context.Context, s *StepInfo, f func(context.Context) error) error {
	r.enter(Working, s.Op, r.deadline())
	s.Attempt = r.steps[s.Op].failures + 1
	return r.call(ctx, s, f)
}

// call calls f with the timeout and the hooks. It is safe to call from the
// prefetch goroutine.
func (r *run[T]) call(parent context.Context, s *StepInfo, f func(context.Context) error) error {
	s.Pipeline, s.Start, s.Duration, s.Err = r.Name, time.Now(), 0, nil
	limit := min(r.deadline(), max(r.left(s.Op), time.Second)) // the last attempt gets a second, to say what fails
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	if hook := r.Hooks.StepBegin; hook != nil {
		ctx = hook(ctx, *s)
	}
	answered := r.watch(s)
	defer answered(nil) // if f panics
	err := f(ctx)
	answered(err)
	if err != nil && parent.Err() == nil && ctx.Err() != nil {
		err = fmt.Errorf("%w of %v: %w", ErrTimeout, limit, err)
	}
	s.Duration, s.Err = time.Since(s.Start), err
	if hook := r.Hooks.StepEnd; hook != nil {
		hook(ctx, *s)
	}
	return err
}

// left returns how long the Retry policy lets a step fail from now on. Without a
// failure that is not limited.
func (r *run[T]) left(op Op) time.Duration {
	s := r.steps[op]
	if r.Retry.MaxElapsed == 0 || s.failures == 0 {
		return math.MaxInt64
	}
	return r.Retry.MaxElapsed - time.Since(s.since)
}

// unanswered is how long a step takes before the log and [Status.Summary] mention
// that it has not answered. A black hole is known long before its timeout.
const unanswered = 8 * time.Second

// watch mentions that a step has not answered yet, and marks and logs it as overdue
// while it ignores its timeout, until answered is called. A second call of answered
// does nothing.
func (r *run[T]) watch(s *StepInfo) (answered func(error)) {
	returned, watched := make(chan struct{}), make(chan struct{})
	// A call that honours its context returns soon after the timeout. The extra
	// tenth gives it time to clean up, unless the sum overflows.
	late := max(r.deadline(), r.deadline()+r.deadline()/10)
	watchdog := time.AfterFunc(min(unanswered, late), func() {
		defer close(watched)
		r.unanswered(s, late, returned)
	})
	var once sync.Once
	return func(err error) {
		once.Do(func() {
			if watchdog.Stop() {
				return
			}
			close(returned)
			<-watched
			if r.steps[s.Op].answerLog.End() && (err == nil || errors.Is(err, ErrStandby)) {
				r.log.Info("answered", "op", s.Op, "after", since(s.Start))
			}
		})
	}
}

// unanswered logs what is to say of a step until it has returned.
func (r *run[T]) unanswered(s *StepInfo, late time.Duration, returned <-chan struct{}) {
	answer, overdue := &r.steps[s.Op].answerLog, &r.steps[s.Op].overdueLog
	if s.Attempt == 1 && unanswered < late { // later attempts are part of a failure that is logged
		answer.Begin(time.Now())
		if answer.Allow(time.Now()) {
			r.log.Warn("no answer yet", answer.WithUnlogged("op", s.Op, "deadline", readable(r.deadline()), "from", s.From, "after", since(s.Start))...)
		}
	}
	select {
	case <-returned:
		return
	case <-time.After(late - time.Since(s.Start)):
	}
	r.update(func(*Status) { r.overdue = append(r.overdue, s) })
	overdue.Begin(time.Now())
	again := time.NewTicker(loglimit.FirstReminder)
	defer again.Stop()
	for done := false; !done; {
		if overdue.Allow(time.Now()) {
			r.log.Warn("overdue: the call ignores its timeout, the pipeline is stuck until it returns",
				overdue.WithUnlogged("op", s.Op, "deadline", readable(r.deadline()), "from", s.From, "after", since(s.Start))...)
		}
		select {
		case <-returned:
			done = true
		case <-again.C:
		}
	}
	r.update(func(*Status) { r.overdue = slices.DeleteFunc(r.overdue, func(o *StepInfo) bool { return o == s }) })
	if overdue.End() {
		r.log.Info("no longer overdue", "op", s.Op, "after", since(s.Start))
	}
}

// since returns the time since t for the log.
func since(t time.Time) string { return readable(time.Since(t)) }

// readable writes a duration for the log, such as 1.5s: slog's JSON handler would write
// a time.Duration as a number of nanoseconds.
func readable(d time.Duration) string { return d.Round(time.Millisecond).String() }

// ErrTimeout matches, with errors.Is, the error of a step that did not finish
// within the Poller's Deadline. Hooks and [Error] see it. It distinguishes such a
// step from one that was interrupted because the run was told to stop, or because a
// prefetched batch is no longer needed: in all cases the context of StepEnd has ended.
var ErrTimeout = errors.New("no answer within the timeout")

// succeeded records that a step has succeeded.
func (r *run[T]) succeeded(op Op) {
	r.recovered(op)
	r.steps[op].succeeded = true
}

// recovered records that a step is not failing, and logs it if the failure was
// logged.
func (r *run[T]) recovered(op Op) {
	s := r.steps[op]
	if s.failures == 0 {
		return
	}
	if s.failureLog.End() {
		r.log.Info("recovered", "op", op, "after", since(s.since), "attempts", s.failures)
	}
	s.failures = 0
	// Another step may still be failing: after a write that timed out, the cursor
	// is loaded before the next write.
	failures := 0
	for _, other := range r.steps {
		failures = max(failures, other.failures)
	}
	r.update(func(s *Status) { s.Attempts = failures })
}

// failed decides what happens after a step failed with err. To try the step again,
// it waits for the backoff and returns nil. Otherwise it returns the error that
// ends the run.
func (r *run[T]) failed(ctx context.Context, info *StepInfo, err error) error {
	s := r.steps[info.Op]
	class := retry.Classify(err)
	if errors.Is(err, ErrTimeout) && class != retry.Fatal {
		class = retry.Transient // a driver may report any code for a cancelled query
	}
	switch {
	case class == retry.Fatal, errors.Is(err, ErrConflict), errors.Is(err, sink.ErrRejected), errors.Is(err, sink.ErrTooLarge):
		return r.fail(info, err)
	case ctx.Err() != nil:
		if err = fmt.Errorf("no answer before the stop (%w): %w", context.Cause(ctx), err); s.failures > 0 {
			err = s.err // the attempt was cut off, which is not why the step fails
		}
		return r.interrupted(info, err)
	case class == retry.Setup && !s.succeeded:
		return r.fail(info, err)
	case r.ctx.Err() != nil && !r.unsaved:
		return r.interrupted(info, err) // Grace lets an attempt finish, but starts no new one
	}
	r.setError(err)
	if s.failures == 0 {
		s.since, s.backoff = time.Now().Add(-info.Duration), r.Retry.Backoff()
		s.failureLog.Begin(time.Now())
	}
	s.failures++
	s.err = err
	wait, giveUp := s.backoff.Next()
	left := r.left(info.Op)
	if giveUp || left <= 0 && (s.failures > 1 || errors.Is(err, ErrTimeout)) {
		return r.fail(info, err)
	}
	wait = min(wait, max(left, 0))
	if info.Op == OpLease { // an attempt costs as little as that of a standby in a second
		wait = min(wait, time.Second)
	}
	r.logFailure(info.Op, s, wait, err)
	r.update(func(st *Status) { st.Attempts = s.failures })
	if hook := r.Hooks.Backoff; hook != nil {
		hook(BackoffInfo{Pipeline: r.Name, Op: info.Op, Attempt: s.failures, Wait: wait, Class: class, Err: err})
	}
	return r.backOff(info, wait, err)
}

// logFailure logs that a step fails: at once, and then less and less often.
func (r *run[T]) logFailure(op Op, s *stepState, wait time.Duration, err error) {
	first := !s.failureLog.Reported()
	if !s.failureLog.Allow(time.Now()) {
		return
	}
	attrs := []any{"op", op, "err", retry.Text(err), "attempts", s.failures, "wait", readable(wait)}
	if first {
		r.log.Warn("failing, will retry", s.failureLog.WithUnlogged(attrs...)...)
	} else {
		r.log.Warn("still failing", append(attrs, "after", since(s.since))...)
	}
}

func (r *run[T]) backOff(s *StepInfo, wait time.Duration, err error) error {
	end := r.ctx.Done()
	if r.unsaved && r.ctx.Err() != nil {
		// Records have been written, so the rest of Grace is used to save their cursor.
		end, wait = r.graceCtx.Done(), min(wait, time.Second)
	}
	r.enter(Backoff, s.Op, wait)
	select {
	case <-time.After(wait):
	case <-end:
		if !r.unsaved || r.graceCtx.Err() != nil {
			return r.interrupted(s, err)
		}
	}
	return nil
}

// interrupted returns the error that ends a run which was told to stop while a
// step was failing.
func (r *run[T]) interrupted(s *StepInfo, err error) error {
	if r.unsaved || r.unfinished != nil {
		return r.fail(s, fmt.Errorf("the cursor of stored records is not saved: %w", err))
	}
	return errStopped
}

func (r *run[T]) setError(err error) {
	r.update(func(s *Status) { s.LastError, s.LastErrorTime = retry.Text(err), time.Now() })
}

func (r *run[T]) fail(s *StepInfo, err error) error {
	r.setError(err)
	return &Error{Name: r.Name, Op: s.Op, From: s.From, To: s.To, Attempts: max(1, s.Attempt), Err: err}
}
