package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/internal/batchsize"
	"github.com/artifactofdevotion/devotion/internal/grace"
	"github.com/artifactofdevotion/devotion/internal/loglimit"
	"github.com/artifactofdevotion/devotion/internal/parts"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// run is the state of one call of Run or Drain. It is used by the goroutine of
// that call. The prefetch goroutine reads only fields that do not change.
type run[T any] struct {
	*Poller[T]
	log      *slog.Logger
	ctx      context.Context // ends when the run has to stop; for load and fetch
	graceCtx context.Context // ends Grace after ctx; for write and save
	cancel   func()          // ends graceCtx
	draining bool
	started  time.Time
	wake     <-chan struct{}

	limit          batchsize.Limit
	unsaved        bool            // records of the batch in progress are stored, and its cursor is not saved
	prefetched     chan fetched[T] // receives the prefetched batch; nil without a prefetch
	cancelPrefetch func()
	steps          map[Op]*stepState
	rejectionLog   loglimit.Limiter
	held           hold
}

// errStopped ends the loop when ctx has ended.
var errStopped = errors.New("stopped")

func (p *Poller[T]) start(ctx context.Context, draining bool) error {
	if !p.running.CompareAndSwap(false, true) {
		return fmt.Errorf("poller: %s: %w", p.Name, ErrRunning)
	}
	defer p.running.Store(false)
	p.begin(Working)
	before := p.Status().Records
	r := p.newRun(ctx, draining)
	done := false
	defer p.update(func(s *Status) {
		s.State, s.Op, s.Since, s.Due, s.Started, s.Done = Stopped, "", time.Now(), time.Time{}, time.Time{}, done
	})
	defer r.end() // deferred, so that it also runs if a step panics

	err := p.validate()
	if err != nil {
		r.setError(err)
	} else if err = r.lead(); errors.Is(err, errStopped) {
		err = nil
		if draining {
			err = fmt.Errorf("poller: %s: stopped before all records were delivered: %w", p.Name, context.Cause(ctx))
		}
	}
	done = err == nil
	status := p.Status()
	attrs := []any{"cursor", status.Cursor, "records", status.Records - before}
	if err != nil {
		r.log.Error("stopped", append(attrs, "err", err)...)
	} else {
		r.log.Info("stopped", attrs...)
	}
	return err
}

// begin resets what the Status says about a run: the cursor may have been rewound. Position
// stays until another cursor is loaded.
func (p *Poller[T]) begin(state State) {
	p.update(func(s *Status) {
		s.State, s.Op, s.Since, s.Due, s.Started, s.Attempts, s.Done = state, "", time.Now(), time.Time{}, time.Time{}, 0, false
		s.AsOf, s.Held, s.Pending = time.Time{}, nil, 0
	})
}

func (p *Poller[T]) newRun(ctx context.Context, draining bool) *run[T] {
	graceCtx, cancel := grace.Context(ctx, func() time.Duration {
		if errors.Is(context.Cause(ctx), ErrLeaseLost) {
			return 0
		}
		return cmp.Or(p.Grace, 30*time.Second)
	})
	size := cmp.Or(p.BatchSize, 5000)
	return &run[T]{
		Poller:   p,
		log:      cmp.Or(p.Logger, slog.Default()).With("pipeline", p.Name),
		ctx:      ctx,
		graceCtx: graceCtx,
		cancel:   cancel,
		draining: draining,
		started:  time.Now(),
		wake:     p.Wake,
		limit:    batchsize.Limit{Next: size, Max: size},
		steps:    map[Op]*stepState{OpLease: {}, OpLoad: {}, OpFetch: {}, OpWrite: {}, OpDeadLetter: {}, OpSave: {}},
	}
}

// end waits for the goroutines of the run.
func (r *run[T]) end() {
	r.dropPrefetched()
	r.cancel()
}

func (r *run[T]) loop() error {
	r.unsaved = r.unfinished != nil // so that a stop during the load is not a success
	cursor, err := r.load()
	if err != nil {
		return err
	}
	r.update(func(s *Status) { s.Started = time.Now() })
	r.log.Info("started", "cursor", cursor)
	for {
		f, err := r.fetch(cursor)
		var bad *source.BadRecord
		switch {
		case errors.Is(err, source.ErrEnd):
			return nil
		case errors.As(err, &bad):
			err = r.skip(&f, bad)
		}
		if err != nil {
			return err
		}
		b := &f.batch
		if b.To != b.From {
			if b.More && b.Bytes <= prefetchRecord*len(b.Records) {
				r.prefetch(b.To)
			}
			if cursor, err = r.deliver(&f); err != nil {
				return err
			}
			if cursor != b.To {
				continue // not delivered: fetch a shorter batch
			}
		}
		r.completed(&f)
		if done, err := r.pause(b); done || err != nil {
			return err
		}
	}
}

func (r *run[T]) load() (c source.Cursor, err error) {
	s := StepInfo{Op: OpLoad}
	err = r.until(r.ctx, &s, func(ctx context.Context) (err error) {
		if r.unfinished != nil {
			c = r.unfinished.batch.From
			if err = r.Checkpointer.Save(ctx, c, c); !errors.Is(err, ErrConflict) {
				return err
			}
			r.unfinished, r.unsaved = nil, false // the cursor was moved, even if it is back
		}
		if c, err = r.Checkpointer.Load(ctx); err == nil && c.Validate() != nil {
			err = retry.Permanent(fmt.Errorf("the loaded cursor is invalid: %w", c.Validate()))
		}
		return err
	})
	if err == nil {
		r.update(func(s *Status) {
			if s.Cursor != c {
				s.Cursor, s.Position = c, ""
			}
		})
	}
	return c, err
}

// completed records that a turn of the loop has completed.
func (r *run[T]) completed(f *fetched[T]) {
	b, now, n := &f.batch, time.Now(), len(f.batch.Records)-f.Rejected
	r.update(func(s *Status) {
		s.LastPoll, s.Held = now, b.Held
		s.Guarantee, s.Position, s.Pending, s.Pinned = b.Guarantee, b.Position, b.Pending, b.Pinned
		s.AsOf = cmp.Or(b.AsOf, s.AsOf)
		s.Records += int64(n)
		if n > 0 {
			s.LastRecord = now
		}
	})
	if h := r.Hooks.Poll; h != nil {
		h(PollInfo{
			Pipeline: r.Name, From: b.From, To: b.To, Records: n, Bytes: parts.Share(b.Bytes, n, len(b.Records)),
			More: b.More, AsOf: b.AsOf, Held: b.Held, Start: f.step.Start, Duration: now.Sub(f.step.Start),
		})
	}
}

// hold describes a period in which records are held back by the same holder.
type hold struct {
	since time.Time     // Held.Since of the latest batch; a later time means a new hold
	start time.Time     // when the first batch of this hold arrived
	wait  time.Duration // the next wait, if the source does not suggest one
	log   loglimit.Limiter
}

// released logs the end of a hold if its begin was logged.
func (r *run[T]) released() {
	if r.held.log.End() {
		r.log.Info("records no longer held back", "after", since(r.held.start))
	}
}

// pause waits until it is time for the next fetch. It returns true if the drain
// is complete.
func (r *run[T]) pause(b *source.Batch[T]) (drained bool, err error) {
	if b.Held == nil || b.More {
		r.released()
		r.held = hold{log: r.held.log}
	}
	switch {
	case b.More:
		return false, nil
	case r.draining && b.AsOf.After(r.started): // with many writers some record is always held back
		return true, nil
	case b.Held != nil:
		return false, r.hold(b)
	case r.draining:
		return true, nil
	}
	wait := time.Duration((0.9 + 0.2*rand.Float64()) * float64(r.interval()))
	r.enter(Idle, "", wait)
	return false, r.wait(wait)
}

// hold waits while records are held back.
func (r *run[T]) hold(b *source.Batch[T]) error {
	h, now := &r.held, time.Now()
	if h.start.IsZero() || b.Held.Since.After(h.since) {
		r.released()
		*h = hold{since: b.Held.Since, start: now, wait: max(h.wait, 10*time.Millisecond), log: h.log}
		h.log.Begin(now.Add(loglimit.FirstReminder))
	}
	d := min(cmp.Or(max(0, b.Held.Retry), h.wait), r.interval())
	h.wait = min(2*h.wait, r.interval())
	if r.draining {
		left := max(0, cmp.Or(r.DrainWait, 30*time.Second)) - now.Sub(h.start)
		if left <= 0 {
			return &Error{Name: r.Name, Op: OpFetch, From: b.To, Attempts: 1, Err: fmt.Errorf("%w, since %s, by %s",
				ErrHeld, b.Held.Since.Format(time.RFC3339), cmp.Or(strings.Join(b.Held.By, ", "), "an unknown holder"))}
		}
		d = min(d, left)
	}
	if h.log.Allow(now) {
		r.log.Warn("records held back", h.log.WithUnlogged("since", b.Held.Since, "by", strings.Join(b.Held.By, ", "), "cursor", b.To)...)
	}
	r.enter(Held, "", d)
	return r.wait(d)
}

// wait waits until d has passed, Wake yields a value, or the run has to stop.
func (r *run[T]) wait(d time.Duration) error {
	select {
	case <-r.ctx.Done():
		return errStopped
	case _, open := <-r.wake:
		if !open {
			r.wake = nil // a closed channel would end every wait at once
			return r.wait(d)
		}
	case <-time.After(d):
	}
	return nil
}
