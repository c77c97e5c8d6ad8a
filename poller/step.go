package poller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	goretry "github.com/sethvargo/go-retry"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
)

// health is how a step has been doing in this run.
type health struct {
	worked   bool // at least once
	failures int  // in a row
	since    time.Time
	backoff  goretry.Backoff
	news     news // of its outages
	overdue  news // of its calls that are; touched by these alone
}

// until calls f until it succeeds, fails for good, or the run is to stop.
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

// step calls a part once, under its deadline, and fills in s.
func (r *run[T]) step(ctx context.Context, s *StepInfo, f func(context.Context) error) error {
	r.enter(Working, s.Op, r.timeout())
	s.Attempt = r.steps[s.Op].failures + 1
	return r.call(ctx, s, f)
}

// call is the part of step that the fetch ahead shares.
func (r *run[T]) call(parent context.Context, s *StepInfo, f func(context.Context) error) error {
	s.Pipeline, s.Start, s.Duration, s.Err = r.Name, time.Now(), 0, nil
	ctx, cancel := context.WithTimeout(parent, r.timeout())
	defer cancel()
	if hook := r.Hooks.StepBegin; hook != nil {
		ctx = hook(ctx, *s)
	}
	err := r.watched(s, func() error { return f(ctx) })
	if err != nil && parent.Err() == nil && ctx.Err() != nil {
		err = &lateError{r.timeout(), err}
	}
	s.Duration, s.Err = time.Since(s.Start), err
	if hook := r.Hooks.StepEnd; hook != nil {
		hook(ctx, *s)
	}
	return err
}

// watched calls f, and says so while it is overdue.
func (r *run[T]) watched(s *StepInfo, f func() error) error {
	returned, watched := make(chan struct{}), make(chan struct{})
	n := &r.steps[s.Op].overdue
	// A part that honours its context returns soon after the deadline. The
	// tenth on top is for it to clean up, unless it is too much for a Duration.
	watch := time.AfterFunc(max(r.timeout(), r.timeout()+r.timeout()/10), func() {
		defer close(watched)
		r.update(func(*Status) { r.overdue = append(r.overdue, s) })
		n.begin(time.Now())
		again := time.NewTicker(firstReminder)
		defer again.Stop()
		for {
			if n.due(time.Now()) {
				r.log.Warn("overdue: the part ignores its deadline, the pipeline is stuck until it returns",
					n.with("op", s.Op, "deadline", r.timeout(), "from", s.From, "after", since(s.Start))...)
			}
			select {
			case <-returned:
				return
			case <-again.C:
			}
		}
	})
	defer func() { // also when the part panics
		if watch.Stop() {
			return
		}
		close(returned)
		<-watched
		r.update(func(*Status) { r.overdue = slices.DeleteFunc(r.overdue, func(o *StepInfo) bool { return o == s }) })
		if n.end() {
			r.log.Info("no longer overdue", "op", s.Op, "after", since(s.Start))
		}
	}()
	return f()
}

// since is how long ago t was, for the log.
func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// ErrTimeout is matched, with errors.Is, by the error of a step that ran into the
// Poller's Timeout, as hooks and [Error] have it. Without it a context that has
// ended in StepEnd means that the run was told to stop.
var ErrTimeout = errors.New("no answer within the deadline")

// lateError is the error of a step that ran into its own deadline.
type lateError struct {
	deadline time.Duration
	err      error
}

func (e *lateError) Error() string { return fmt.Sprintf("no answer within %v: %v", e.deadline, e.err) }
func (e *lateError) Unwrap() error { return e.err }

func (e *lateError) Is(target error) bool { return target == ErrTimeout }

func late(err error) bool { return errors.Is(err, ErrTimeout) }

func (r *run[T]) succeeded(op Op) {
	r.recovered(op)
	r.steps[op].worked = true
}

// recovered records that a step fails no longer, and says so if it did.
func (r *run[T]) recovered(op Op) {
	h := r.steps[op]
	if h.failures == 0 {
		return
	}
	if h.news.end() {
		r.log.Info("recovered", "op", op, "after", since(h.since), "attempts", h.failures)
	}
	h.failures = 0
	left := 0 // of a step that is not in turn, as of a write when the cursor is loaded after it
	for _, h := range r.steps {
		left = max(left, h.failures)
	}
	r.update(func(s *Status) { s.Attempts = left })
}

// failed decides what becomes of a step that failed with err. It returns nil
// after a backoff if the step is to be tried again, and otherwise what to end
// the run with.
func (r *run[T]) failed(ctx context.Context, s *StepInfo, err error) error {
	h := r.steps[s.Op]
	class := retry.Classify(err)
	if late(err) && class != retry.Fatal {
		class = retry.Transient // a driver may give a cancelled query any code
	}
	switch {
	case class == retry.Fatal, errors.Is(err, ErrConflict), errors.Is(err, sink.ErrRejected):
		return r.fail(s, err)
	case ctx.Err() != nil:
		return r.stopped(s, err)
	case class == retry.Setup && !h.worked:
		return r.fail(s, err)
	case r.ctx.Err() != nil && s.Op != OpSave:
		return r.stopped(s, err) // Grace is for what is in progress, not to begin again
	}
	r.noted(err)
	if h.failures == 0 {
		h.since, h.backoff = time.Now(), r.Retry.Backoff()
		h.news.begin(h.since)
	}
	h.failures++
	wait, giveUp := h.backoff.Next()
	if giveUp {
		return r.fail(s, err)
	}
	r.report(s.Op, h, wait, err)
	r.update(func(st *Status) { st.Attempts = h.failures })
	if hook := r.Hooks.Backoff; hook != nil {
		hook(BackoffInfo{Pipeline: r.Name, Op: s.Op, Attempt: h.failures, Wait: wait, Class: class, Err: err})
	}
	return r.backOff(s, wait, err)
}

// report logs that a step fails: at once, then ever more rarely.
func (r *run[T]) report(op Op, h *health, wait time.Duration, err error) {
	began := !h.news.said
	if !h.news.due(time.Now()) {
		return
	}
	attrs := []any{"op", op, "err", retry.Text(err), "attempts", h.failures, "wait", wait.Round(time.Millisecond)}
	if began {
		r.log.Warn("failing, will retry", h.news.with(attrs...)...)
	} else {
		r.log.Warn("still failing", append(attrs, "after", since(h.since))...)
	}
}

func (r *run[T]) backOff(s *StepInfo, wait time.Duration, err error) error {
	end := r.ctx.Done()
	if s.Op == OpSave && r.ctx.Err() != nil {
		// What is written wants to be saved: use what is left of Grace.
		end, wait = r.hard.Done(), min(wait, time.Second)
	}
	r.enter(Backoff, s.Op, wait)
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-end:
		if s.Op != OpSave || r.hard.Err() != nil {
			return r.stopped(s, err)
		}
	}
	return nil
}

// stopped is how a failed step ends a run that is to stop.
func (r *run[T]) stopped(s *StepInfo, err error) error {
	if s.Op == OpSave {
		return r.fail(s, err)
	}
	return errStopped
}

func (r *run[T]) noted(err error) {
	r.update(func(s *Status) { s.LastError, s.LastErrorTime = retry.Text(err), time.Now() })
}

func (r *run[T]) fail(s *StepInfo, err error) error {
	r.noted(err)
	return &Error{Name: r.Name, Op: s.Op, From: s.From, To: s.To, Attempts: max(1, s.Attempt), Err: err}
}
