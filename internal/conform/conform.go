// Package conform is what the conformance suites of sourcetest, sinktest and
// pollertest share: the list of broken rules, watched calls, and texts for
// messages.
//
//	err := conform.Run(ctx, "sinktest", func(s *conform.Suite) {
//		err := conform.Do(s.Ctx, write)
//		s.Watch("Write", err)
//		if err != nil {
//			s.Add("Write stores every record", "%v", err)
//		}
//	})
package conform

import (
	"context"
	"errors"
	"fmt"
)

// Suite is one run of a conformance suite.
type Suite struct {
	Ctx context.Context // of the whole run

	found []violation
	open  []func()
}

type violation struct {
	rule, first string
	more        int
}

// errStop is the panic value of [Suite.Stop].
var errStop = errors.New("stop")

// Run runs a suite with a name such as "sinktest". Then it closes the parts that
// are still open, and returns an error for each rule that was broken, in the
// order in which they were found, joined, or nil.
func Run(ctx context.Context, name string, f func(*Suite)) error {
	s := &Suite{Ctx: ctx}
	func() {
		defer func() {
			for _, closePart := range s.open {
				closePart()
			}
		}()
		defer func() {
			if p := recover(); p != nil && p != any(errStop) {
				panic(p)
			}
		}()
		f(s)
	}()
	var errs []error
	for _, v := range s.found {
		if v.more > 0 {
			v.first += fmt.Sprintf(" (and %d more)", v.more)
		}
		errs = append(errs, fmt.Errorf("%s: %s: %s", name, v.rule, v.first))
	}
	return errors.Join(errs...)
}

// Add notes that a rule was broken. It keeps the details of the first violation
// of each rule and counts the others.
func (s *Suite) Add(rule, format string, args ...any) {
	for i := range s.found {
		if s.found[i].rule == rule {
			s.found[i].more++
			return
		}
	}
	s.found = append(s.found, violation{rule: rule, first: fmt.Sprintf(format, args...)})
}

// Stop is Add, and ends the suite: nothing more can be tested. It must be called
// in the goroutine of the suite.
func (s *Suite) Stop(rule, format string, args ...any) {
	s.Add(rule, format, args...)
	panic(errStop)
}

// Watch stops the suite if err, the error of a [Call] of the method op, says that
// the call is stuck or has panicked.
func (s *Suite) Watch(op string, err error) {
	switch {
	case errors.Is(err, ErrStuck):
		s.Stop(op+" returns soon after its context ends", "%v", err)
	case errors.Is(err, ErrPanic):
		s.Stop(op+" does not panic", "%v", err)
	}
}
