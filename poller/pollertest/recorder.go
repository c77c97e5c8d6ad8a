package pollertest

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/artifactofdevotion/devotion/poller"
)

// Recorder records the hook calls and log lines of Pollers. The zero value is ready
// to use. It is safe for concurrent use, and one Recorder may serve many Pollers.
//
//	var rec pollertest.Recorder
//	p.Hooks, p.Logger = rec.Hooks(), rec.Logger()
//	go p.Run(ctx)
//	err := rec.Wait(ctx, func() bool { return len(rec.Backoffs()) == 3 })
type Recorder struct {
	mu          sync.Mutex
	begun       []poller.StepInfo
	steps       []poller.StepInfo
	backoffs    []poller.BackoffInfo
	polls       []poller.PollInfo
	deadLetters []poller.DeadLetterInfo
	log         []string
	changed     chan struct{} // closed at the next change
}

// Hooks returns hooks that record every call.
func (r *Recorder) Hooks() poller.Hooks {
	return poller.Hooks{
		StepBegin: func(ctx context.Context, i poller.StepInfo) context.Context {
			note(r, &r.begun, i)
			return ctx
		},
		StepEnd:    func(_ context.Context, i poller.StepInfo) { note(r, &r.steps, i) },
		Backoff:    func(i poller.BackoffInfo) { note(r, &r.backoffs, i) },
		Poll:       func(i poller.PollInfo) { note(r, &r.polls, i) },
		DeadLetter: func(i poller.DeadLetterInfo) { note(r, &r.deadLetters, i) },
	}
}

// Logger returns a logger that records every line, at all levels.
func (r *Recorder) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(lines{r}, &slog.HandlerOptions{
		Level: slog.Level(-1 << 10),
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// lines receives the lines of a handler: each is one Write.
type lines struct{ r *Recorder }

func (l lines) Write(line []byte) (int, error) {
	note(l.r, &l.r.log, strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

func note[E any](r *Recorder, list *[]E, e E) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*list = append(*list, e)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

func all[E any](r *Recorder, list *[]E) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(*list)
}

// Begun returns the steps that have begun, whether or not they have ended.
func (r *Recorder) Begun() []poller.StepInfo { return all(r, &r.begun) }

// Steps returns the steps that have ended.
func (r *Recorder) Steps() []poller.StepInfo { return all(r, &r.steps) }

// Backoffs returns the waits before a step was retried.
func (r *Recorder) Backoffs() []poller.BackoffInfo { return all(r, &r.backoffs) }

// Polls returns the iterations of the loop.
func (r *Recorder) Polls() []poller.PollInfo { return all(r, &r.polls) }

// DeadLetters returns the records written to the dead-letter sink.
func (r *Recorder) DeadLetters() []poller.DeadLetterInfo { return all(r, &r.deadLetters) }

// Log returns the log lines in the format of slog.TextHandler, without the time.
func (r *Recorder) Log() []string { return all(r, &r.log) }

// Wait returns nil when done returns true. It calls done at once and after every
// change. If ctx ends first, Wait returns its cause. In a testing/synctest bubble
// Wait blocks durably, so the clock advances.
func (r *Recorder) Wait(ctx context.Context, done func() bool) error {
	for {
		r.mu.Lock()
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed // before done is called, so that no change is missed
		r.mu.Unlock()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
