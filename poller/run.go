package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// run is the state of one Run or Drain. It belongs to that call's goroutine,
// but for the fetch ahead, which touches nothing of it that changes.
type run[T any] struct {
	*Poller[T]
	log      *slog.Logger
	ctx      context.Context // ends when the run is to stop: load and fetch see it
	hard     context.Context // ends Grace later: write and save see it
	draining bool
	began    time.Time
	wake     <-chan struct{}

	limit   int             // records to ask for: BatchSize, or less after a batch had to be narrowed
	ahead   chan fetched[T] // where the fetch ahead will be; nil if there is none
	steps   map[Op]*health  // how each step is doing
	refused int             // records refused in a row
	refusal news
	held    hold
}

// errStopped ends the loop when ctx has ended.
var errStopped = errors.New("stopped")

func (p *Poller[T]) start(ctx context.Context, draining bool) error {
	if err := p.validate(); err != nil {
		return err
	}
	p.mu.Lock()
	if p.status.State != "" && p.status.State != Stopped {
		p.mu.Unlock()
		return fmt.Errorf("poller: %s: %w", p.Name, ErrRunning)
	}
	p.status.State, p.status.Since, p.status.Attempts = Working, time.Now(), 0
	p.status.AsOf, p.status.Held = time.Time{}, nil // the cursor may have been set back
	p.status.Position, p.status.Pending = "", 0
	before := p.status.Records
	p.mu.Unlock()

	hard, end := withGrace(ctx, cmp.Or(p.Grace, 30*time.Second))
	defer end()
	r := &run[T]{
		Poller:   p,
		log:      cmp.Or(p.Logger, slog.Default()).With("pipeline", p.Name),
		ctx:      ctx,
		hard:     hard,
		draining: draining,
		began:    time.Now(),
		wake:     p.Wake,
		limit:    cmp.Or(p.BatchSize, 5000),
		steps:    map[Op]*health{OpLoad: {}, OpFetch: {}, OpWrite: {}, OpDeadLetter: {}, OpSave: {}},
	}
	defer p.update(func(s *Status) {
		s.State, s.Op, s.Since, s.Due, s.Started = Stopped, "", time.Now(), time.Time{}, time.Time{}
	})
	defer r.drop() // also when a part panics

	err := r.loop()
	if errors.Is(err, errStopped) {
		err = nil
		if draining {
			err = fmt.Errorf("poller: %s: stopped before all was drained: %w", p.Name, context.Cause(ctx))
		}
	}
	status := p.Status()
	attrs := []any{"cursor", status.Cursor, "records", status.Records - before}
	if err != nil {
		r.log.Error("stopped", append(attrs, "err", err)...)
	} else {
		r.log.Info("stopped", attrs...)
	}
	return err
}

// withGrace returns a context that ends d after ctx does. The function ends it
// and frees what it took.
func withGrace(ctx context.Context, d time.Duration) (context.Context, func()) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
		case <-hard.Done():
			return
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-hard.Done():
		}
	})
	return hard, func() { cancel(); watch.Wait() }
}

func (r *run[T]) loop() error {
	cursor, err := r.load()
	if err != nil {
		return err
	}
	r.update(func(s *Status) { s.Started = time.Now() })
	r.log.Info("started", "cursor", cursor)
	for {
		f, err := r.fetch(cursor)
		switch {
		case errors.Is(err, source.ErrEnd):
			return nil
		case err != nil:
			return err
		}
		b := &f.batch
		if b.To != b.From {
			if b.More {
				r.fetchAhead(b.To)
			}
			if cursor, err = r.deliver(b); err != nil {
				return err
			}
			if cursor != b.To {
				continue // not delivered: a shorter batch is due
			}
		}
		r.turned(&f)
		if done, err := r.pause(b); done || err != nil {
			return err
		}
	}
}

func (r *run[T]) load() (c source.Cursor, err error) {
	s := StepInfo{Op: OpLoad}
	err = r.until(r.ctx, &s, func(ctx context.Context) (err error) {
		if c, err = r.Checkpointer.Load(ctx); err == nil && c.Validate() != nil {
			err = retry.Permanent(fmt.Errorf("loaded: %w", c.Validate()))
		}
		return err
	})
	if err == nil {
		r.update(func(s *Status) { s.Cursor = c })
	}
	return c, err
}

// deliver writes b and saves its cursor. It returns the cursor to go on from,
// which is b.To, or one before it if the batch has to be fetched again.
func (r *run[T]) deliver(b *source.Batch[T]) (source.Cursor, error) {
	s := StepInfo{Op: OpWrite, From: b.From, To: b.To, Records: len(b.Records), Bytes: b.Bytes}
	for unsure := false; ; unsure = true {
		if r.ctx.Err() != nil {
			return "", errStopped
		}
		err := r.step(r.hard, &s, func(ctx context.Context) error { return r.Sink.Write(ctx, *b) })
		if err == nil {
			r.succeeded(OpWrite)
			if len(b.Records) > 0 {
				r.refused = 0
			}
			r.limit += min(r.limit, cmp.Or(r.BatchSize, 5000)-r.limit)
			return b.To, r.save(b)
		}
		if errors.Is(err, sink.ErrRejected) && len(b.Records) > 0 {
			if unsure {
				if c, err := r.settle(b); err != nil || c == b.To {
					return c, err
				}
			}
			return r.refuse(b, &s, err)
		}
		if err := r.failed(r.hard, &s, err); err != nil {
			return "", err
		}
		if late(err) && len(b.Records) > 1 {
			r.limit = len(b.Records) / 2
			return r.settle(b)
		}
	}
}

func (r *run[T]) save(b *source.Batch[T]) error {
	s := StepInfo{Op: OpSave, From: b.From, To: b.To, Records: len(b.Records), Bytes: b.Bytes}
	err := r.until(r.hard, &s, func(ctx context.Context) error { return r.Checkpointer.Save(ctx, b.From, b.To) })
	if err == nil {
		r.update(func(s *Status) { s.Cursor, s.LastSave = b.To, time.Now(); s.Batches++ })
	}
	return err
}

// settle asks the checkpoint what became of b, before anything else is written
// from where it begins: its write failed but may have succeeded after all, and a
// sink cannot tell a shorter batch from a second try of the longer one. If the
// cursor has moved, Save tells our own write from another writer's.
func (r *run[T]) settle(b *source.Batch[T]) (source.Cursor, error) {
	r.drop()
	c, err := r.load()
	if err != nil || c == b.From {
		return c, err
	}
	if err := r.save(b); err != nil {
		return "", err
	}
	r.succeeded(OpWrite)
	return b.To, nil
}

// refuse looks for the rejected record of b in its first half, or hands it to
// DeadLetter if it stands alone.
func (r *run[T]) refuse(b *source.Batch[T], s *StepInfo, cause error) (source.Cursor, error) {
	r.drop()
	r.recovered(OpWrite) // an answer, if not the one hoped for
	if n := len(b.Records); n > 1 {
		r.limit = n / 2
		return b.From, nil
	}
	switch limit := cmp.Or(r.DeadLetterLimit, 100); {
	case r.DeadLetter == nil:
		return "", r.fail(s, fmt.Errorf("%w (no DeadLetter is set to take the record)", cause))
	case r.refused == limit:
		return "", r.fail(s, fmt.Errorf("%w (the record after %d refused in a row)", cause, limit))
	}
	letter := source.Batch[Rejected[T]]{From: b.From, To: b.To, Bytes: b.Bytes, Records: []Rejected[T]{{
		Pipeline: r.Name, Record: b.Records[0], From: b.From, To: b.To, Err: cause.Error(), Time: time.Now(),
	}}}
	d := StepInfo{Op: OpDeadLetter, From: b.From, To: b.To, Records: 1, Bytes: b.Bytes}
	err := r.until(r.hard, &d, func(ctx context.Context) error { return r.DeadLetter.Write(ctx, letter) })
	if err != nil {
		return "", err
	}
	if err := r.save(b); err != nil {
		return "", err
	}
	r.refused++
	b.Records, b.Bytes = nil, 0 // delivered to nobody
	var total int64
	r.update(func(s *Status) { s.DeadLetters++; total = s.DeadLetters })
	r.refusal.begin(time.Now())
	// So that the log lags behind by half at most, also when no more are refused.
	if doubled := total&(total-1) == 0; r.refusal.due(time.Now()) || doubled {
		r.log.Warn("record refused", "from", b.From, "to", b.To, "err", retry.Text(cause), "total", total)
	}
	if h := r.Hooks.DeadLetter; h != nil {
		h(DeadLetterInfo{Pipeline: r.Name, From: b.From, To: b.To, Err: cause})
	}
	return b.To, nil
}

// turned records that a turn of the loop has ended well.
func (r *run[T]) turned(f *fetched[T]) {
	b, now := &f.batch, time.Now()
	r.update(func(s *Status) {
		s.LastPoll, s.Held = now, b.Held
		s.Guarantee, s.Position, s.Pending = b.Guarantee, b.Position, b.Pending
		if !b.AsOf.IsZero() {
			s.AsOf = b.AsOf
		}
		s.Records += int64(len(b.Records))
		if len(b.Records) > 0 {
			s.LastRecord = now
		}
	})
	if h := r.Hooks.Poll; h != nil {
		h(PollInfo{
			Pipeline: r.Name, From: b.From, To: b.To, Records: len(b.Records), Bytes: b.Bytes,
			More: b.More, AsOf: b.AsOf, Held: b.Held, Start: f.step.Start, Duration: now.Sub(f.step.Start),
		})
	}
}

// hold is how it stands with records that are held back.
type hold struct {
	since time.Time     // of the batch: a later one means that others are held back now
	from  time.Time     // the first of the batches in a row that said so
	wait  time.Duration // the next wait where the source suggests none
	news  news
}

// released says so if it was said that records are held back.
func (r *run[T]) released() {
	if r.held.news.end() {
		r.log.Info("no longer held back", "after", since(r.held.from))
	}
}

// pause waits for what b says to wait for. It reports whether all is drained.
func (r *run[T]) pause(b *source.Batch[T]) (done bool, err error) {
	if b.Held == nil || b.More {
		r.released()
		r.held = hold{news: r.held.news}
	}
	switch {
	case b.More:
		return false, nil
	case r.draining && b.AsOf.After(r.began): // where many write, some record is always held back
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

func (r *run[T]) hold(b *source.Batch[T]) error {
	h, now := &r.held, time.Now()
	if h.from.IsZero() || b.Held.Since.After(h.since) {
		r.released()
		*h = hold{since: b.Held.Since, from: now, wait: max(h.wait, 10*time.Millisecond), news: h.news}
		h.news.begin(now.Add(firstReminder))
	}
	d := min(cmp.Or(max(0, b.Held.Retry), h.wait), r.interval())
	h.wait = min(2*h.wait, r.interval())
	if r.draining {
		left := max(0, cmp.Or(r.DrainWait, 30*time.Second)) - now.Sub(h.from)
		if left <= 0 {
			return &Error{Name: r.Name, Op: OpFetch, From: b.To, Attempts: 1, Err: fmt.Errorf("%w, since %s, by %s",
				ErrHeld, b.Held.Since.Format(time.RFC3339), cmp.Or(strings.Join(b.Held.By, ", "), "an unknown holder"))}
		}
		d = min(d, left)
	}
	if h.news.due(now) {
		r.log.Warn("held back", h.news.with("since", b.Held.Since, "by", strings.Join(b.Held.By, ", "), "cursor", b.To)...)
	}
	r.enter(Held, "", d)
	return r.wait(d)
}

// wait waits for d, a wake, or the end.
func (r *run[T]) wait(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-r.ctx.Done():
		return errStopped
	case _, open := <-r.wake:
		if !open {
			r.wake = nil // or a closed channel would wake us for ever
			return r.wait(d)
		}
	case <-t.C:
	}
	return nil
}
