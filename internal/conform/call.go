package conform

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// Soon is how long a call may go on after its context has ended.
	Soon = 10 * time.Second
	// Limit is how long a call may take. Its context ends then.
	Limit = time.Minute
)

// ErrStuck is wrapped by the error of [Call] if a call went on for [Soon] after
// its context had ended. The call may still be running.
var ErrStuck = errors.New("did not return")

// ErrPanic is wrapped by the error of [Call] if a call panicked.
var ErrPanic = errors.New("panic")

// Call runs f in a new goroutine, which detects parts that are bound to one
// goroutine, and with a context that ends when f returns, which detects parts
// that keep using the context of an earlier call.
func Call[R any](ctx context.Context, f func(context.Context) (R, error)) (R, error) {
	type answer struct {
		r   R
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("%w: %v\n%s", ErrPanic, p, debug.Stack())
			}
			done <- a
		}()
		a.r, a.err = f(ctx)
	}()
	select {
	case a := <-done:
		return a.r, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-done:
		return a.r, a.err
	case <-time.After(Soon):
		var none R
		return none, fmt.Errorf("%w within %v of the end of its context", ErrStuck, Soon)
	}
}

// Do is [Call] for a function that returns only an error.
func Do(ctx context.Context, f func(context.Context) error) error {
	_, err := Call(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// Trips yields n = 1, 2, 3, … and a [Trip] that interrupts a call where it checks its
// context for the nth time. It ends with a call that checks less often than that, or
// after most calls.
func Trips(most int) iter.Seq2[int, *Trip] {
	return func(yield func(int, *Trip) bool) {
		for n := 1; n <= most; n++ {
			t := &Trip{}
			t.left.Store(int64(n))
			if !yield(n, t) || t.left.Load() > 0 {
				return
			}
		}
	}
}

// Trip is a context that is cancelled when its Done or Err is called for the nth time,
// at the same place in every run. Pass it to the part unchanged: checks of a derived
// context do not count.
type Trip struct {
	context.Context
	cancel context.CancelFunc
	left   atomic.Int64
}

// On makes t a child of ctx.
func (t *Trip) On(ctx context.Context) context.Context {
	t.Context, t.cancel = context.WithCancel(ctx)
	return t
}

func (t *Trip) count() {
	if t.left.Add(-1) == 0 {
		t.cancel()
	}
}

// Done is that of a context.
func (t *Trip) Done() <-chan struct{} { t.count(); return t.Context.Done() }

// Err is that of a context.
func (t *Trip) Err() error { t.count(); return t.Context.Err() }
