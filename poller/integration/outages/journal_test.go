package outages

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/poller"
)

// journal records the log lines and steps of a poller.
type journal struct {
	t testing.TB

	mu     sync.Mutex
	logged []logLine
	steps  []*step
}

// logLine is a log line of the poller. Its level and keys tell which: LOGS.md lists them,
// and package logs tests that list.
type logLine struct {
	slog.Record
	op    poller.Op
	keys  []string
	cause error // of a failing step
}

func (l logLine) has(key string) bool { return slices.Contains(l.keys, key) }

func failing(l logLine) bool   { return l.Level == slog.LevelWarn && l.has("wait") && !l.has("after") } // not the reminders
func recovered(l logLine) bool { return l.Level == slog.LevelInfo && l.has("attempts") }
func overdue(l logLine) bool   { return l.has("deadline") && l.Message != "no answer yet" }
func inTime(l logLine) bool    { return l.Message == "no longer overdue" }
func stopped(l logLine) bool   { return l.has("records") }

// timedOut reports whether a step exceeded its deadline, or the limit of its connection.
func timedOut(err error) bool {
	return errors.Is(err, poller.ErrTimeout) || errors.Is(err, os.ErrDeadlineExceeded)
}

type step struct {
	poller.StepInfo
	ended bool
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) WithGroup(string) slog.Handler            { return j }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	l := logLine{Record: r}
	r.Attrs(func(a slog.Attr) bool {
		l.keys = append(l.keys, a.Key)
		if a.Key == "op" {
			l.op = a.Value.Any().(poller.Op)
		}
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.steps {
		if s.Op == l.op && s.ended {
			l.cause = s.Err
		}
	}
	j.logged = append(j.logged, l)
	return nil
}

func (j *journal) hooks() poller.Hooks {
	type key struct{}
	return poller.Hooks{
		StepBegin: func(ctx context.Context, i poller.StepInfo) context.Context {
			s := &step{StepInfo: i}
			j.mu.Lock()
			defer j.mu.Unlock()
			j.steps = append(j.steps, s)
			return context.WithValue(ctx, key{}, s)
		},
		StepEnd: func(ctx context.Context, i poller.StepInfo) {
			j.mu.Lock()
			defer j.mu.Unlock()
			s := ctx.Value(key{}).(*step)
			s.StepInfo, s.ended = i, true
		},
	}
}

// lines returns the log lines of a kind from a time on.
func (j *journal) lines(kind func(logLine) bool, from time.Time) (found []logLine) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.logged {
		if kind(l) && !l.Time.Before(from) {
			found = append(found, l)
		}
	}
	return found
}

// outage is the pair of log lines of a step that failed and recovered.
type outage struct {
	began, ended logLine // zero if the line is missing
}

// outages returns the outages logged for a fault from one time to another. On a machine
// that stalls for longer than a deadline, calls time out without a fault. Such outages are
// left out if they ended before the fault, began after it, or are of another step than
// those that the fault concerns.
func (j *journal) outages(from, to time.Time, concerned ...poller.Op) (found []outage) {
	open := map[poller.Op]int{}
	for _, l := range j.lines(func(l logLine) bool { return failing(l) || recovered(l) }, time.Time{}) {
		i, ok := open[l.op]
		switch {
		case failing(l):
			open[l.op] = len(found)
			found = append(found, outage{began: l})
		case ok:
			found[i].ended = l
			delete(open, l.op)
		default:
			found = append(found, outage{ended: l})
		}
	}
	return slices.DeleteFunc(found, func(o outage) bool {
		before := !o.ended.Time.IsZero() && o.ended.Time.Before(from)
		other := len(concerned) > 0 && !slices.Contains(concerned, o.began.op)
		return timedOut(o.began.cause) && (before || other || o.began.Time.After(to))
	})
}

// recoveredFrom waits until a fetch that began after a fault has succeeded, and every
// outage has ended. It returns the time.
func (j *journal) recoveredFrom(healed time.Time) (at time.Time) {
	j.t.Helper()
	j.eventually("it recovers", func() bool {
		at = time.Now()
		fetched := slices.ContainsFunc(j.after(healed, poller.OpFetch), func(s step) bool { return s.ended && s.Err == nil })
		return fetched && len(j.lines(failing, time.Time{})) == len(j.lines(recovered, time.Time{}))
	})
	return at
}

// after returns the steps that began after a time, of the given kinds or of all.
func (j *journal) after(begin time.Time, ops ...poller.Op) (found []step) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.steps {
		if s.Start.After(begin) && (len(ops) == 0 || slices.Contains(ops, s.Op)) {
			found = append(found, *s)
		}
	}
	return found
}

// failed returns how many steps that began after a time have failed.
func (j *journal) failed(begin time.Time, ops ...poller.Op) (n int) {
	for _, s := range j.after(begin, ops...) {
		if s.Err != nil {
			n++
		}
	}
	return n
}

// eventually waits for a condition, and prints the journal if it does not become true.
func (j *journal) eventually(what string, is func() bool) {
	j.t.Helper()
	if !assert.Eventually(j.t, is, waitLimit, 2*time.Millisecond, what) {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, l := range j.logged {
			j.t.Logf("%s %v op=%s %v", l.Time.Format(time.TimeOnly), l.Message, l.op, l.cause)
		}
		j.t.FailNow()
	}
}
