// Package fault makes fakes fail: an outage until it is healed, an error of the
// next calls, an answer that is lost after the effect, a slow or silent peer.
//
// The fakes of sourcetest, sinktest and pollertest embed an [Injector] and have
// its methods:
//
//	src.Fail(errors.New("database is down")) // all calls, until
//	src.Heal()
//	snk.LoseNext(1, errors.New("connection reset")) // stored, but the caller gets an error
//
// It waits on timers and contexts only, so inside a testing/synctest bubble an
// outage of an hour takes no time.
package fault

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// Call is one call of a fake.
type Call struct {
	Op       string        // the method: "Fetch", "Write", "Store", "Load" or "Save"
	N        int           // number of the call of this method, from 1
	From, To source.Cursor // To is empty if it is not known
	Limit    int           // Fetch only
	Records  int
	Done     bool  // the call has returned
	Err      error // the error it returned
}

// Point is the point in a call at which it fails.
type Point string

// The points.
const (
	Before Point = "before" // the call has had no effect
	After  Point = "after"  // the call has had its effect; the answer is lost
)

// Injector decides which calls of a fake fail. The zero value lets every call
// through. It is safe for concurrent use.
type Injector struct {
	mu     sync.Mutex
	calls  []Call
	count  map[string]int // by Op
	faults faults
}

type faults struct {
	outage   error
	fail     streak // before the effect
	lose     streak // after it
	failFunc func(Call, Point) error
	delay    time.Duration
}

type streak struct {
	left int
	err  error
}

func (i *Injector) set(change func(*faults)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(&i.faults)
}

// Fail makes every call fail with err, without effect, until [Injector.Heal].
func (i *Injector) Fail(err error) { i.set(func(f *faults) { f.outage = err }) }

// FailNext makes the next n calls fail with err, without effect.
func (i *Injector) FailNext(n int, err error) { i.set(func(f *faults) { f.fail = streak{n, err} }) }

// LoseNext makes the next n calls fail with err after their effect: the answer is
// lost.
func (i *Injector) LoseNext(n int, err error) { i.set(func(f *faults) { f.lose = streak{n, err} }) }

// FailFunc calls f at both points of every call. If f returns an error, the call
// fails with it. f runs without locks, in the goroutine of the call. A nil f ends
// this.
func (i *Injector) FailFunc(f func(Call, Point) error) {
	i.set(func(all *faults) { all.failFunc = f })
}

// Delay makes every call wait for d first. A call whose context ends during the
// wait returns the context's error, without effect. A delay of hours simulates a
// silent peer.
func (i *Injector) Delay(d time.Duration) { i.set(func(f *faults) { f.delay = d }) }

// Heal ends all faults and delays. A call that is already waiting goes on waiting.
func (i *Injector) Heal() { i.set(func(f *faults) { *f = faults{} }) }

// Calls returns all calls so far, in the order in which they began.
func (i *Injector) Calls() []Call {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.calls)
}

// Do runs effect as the call c and returns its error or that of a fault. Fakes
// call it. N, Done and Err need not be set, and effect may set other fields of c.
func (i *Injector) Do(ctx context.Context, c Call, effect func(*Call) error) error {
	at, delay := i.begin(&c)
	err := sleep(ctx, delay)
	if err == nil {
		err = i.strike(c, Before)
	}
	if err == nil {
		if err = effect(&c); err == nil {
			err = i.strike(c, After)
		}
	}
	c.Done, c.Err = true, err
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls[at] = c
	return err
}

func (i *Injector) begin(c *Call) (at int, delay time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.count == nil {
		i.count = make(map[string]int)
	}
	i.count[c.Op]++
	c.N = i.count[c.Op]
	i.calls = append(i.calls, *c)
	return len(i.calls) - 1, i.faults.delay
}

func (i *Injector) strike(c Call, p Point) error {
	i.mu.Lock()
	f := i.faults.failFunc
	i.mu.Unlock()
	if f != nil {
		if err := f(c, p); err != nil {
			return err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s := &i.faults.lose
	if p == Before {
		if i.faults.outage != nil {
			return i.faults.outage
		}
		s = &i.faults.fail
	}
	if s.left > 0 {
		s.left--
		return s.err
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
