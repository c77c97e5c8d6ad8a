// Package conform is what the conformance suites of sourcetest, sinktest and
// pollertest share: a list of the rules that were broken, and calls that are
// watched for panics and for ignoring their context.
package conform

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// Soon is how long a call may go on after its context has ended.
	Soon = 10 * time.Second
	// Limit is how long a call may take at all. Its context ends then.
	Limit = time.Minute
)

// ErrStuck is wrapped by the error of [Call] when a call went on for [Soon]
// after its context had ended. It may be running still, so a suite ends here.
var ErrStuck = errors.New("did not return")

// ErrPanic is wrapped by the error of [Call] when a call panicked.
var ErrPanic = errors.New("panic")

// Call runs f in a goroutine of its own, so that a part which is bound to one
// goroutine is found out, with a context of its own that ends once f has
// returned, so that one which holds on to the context of an earlier call is
// too.
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
	late := time.NewTimer(Soon)
	defer late.Stop()
	select {
	case a := <-done:
		return a.r, a.err
	case <-late.C:
		var none R
		return none, fmt.Errorf("%w within %v of the end of its context", ErrStuck, Soon)
	}
}

// Violations collects the rules that were broken, each once.
type Violations struct {
	Suite string // the prefix of every error, such as "sourcetest"

	rules []string
	found map[string]*violation
}

type violation struct {
	first string
	more  int
}

// Add notes that a rule was broken. The first details of a rule are kept, the
// others counted.
func (v *Violations) Add(rule, format string, args ...any) {
	if f, ok := v.found[rule]; ok {
		f.more++
		return
	}
	if v.found == nil {
		v.found = make(map[string]*violation)
	}
	v.rules = append(v.rules, rule)
	v.found[rule] = &violation{first: fmt.Sprintf(format, args...)}
}

// Err joins the violations, in the order they were found, and is nil if there
// are none.
func (v *Violations) Err() error {
	var errs []error
	for _, rule := range v.rules {
		f := v.found[rule]
		if f.more > 0 {
			errs = append(errs, fmt.Errorf("%s: %s: %s (and %d more)", v.Suite, rule, f.first, f.more))
		} else {
			errs = append(errs, fmt.Errorf("%s: %s: %s", v.Suite, rule, f.first))
		}
	}
	return errors.Join(errs...)
}

// Trip returns a context that is cancelled when it is looked at for the nth
// time, by Done or Err. With n = 1, 2, 3, … a call is interrupted at every
// place where it looks, the same places in every run. It must be handed to the
// part as it is: looks at a context derived from it do not count.
func Trip(ctx context.Context, n int) (_ context.Context, tripped func() bool, cancel context.CancelFunc) {
	ctx, cancel = context.WithCancel(ctx)
	t := &trip{Context: ctx, cancel: cancel, left: n}
	return t, t.tripped, cancel
}

type trip struct {
	context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	left   int
}

func (t *trip) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left--; t.left == 0 {
		t.cancel()
	}
}

func (t *trip) tripped() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left <= 0
}

func (t *trip) Done() <-chan struct{} { t.look(); return t.Context.Done() }
func (t *trip) Err() error            { t.look(); return t.Context.Err() }
