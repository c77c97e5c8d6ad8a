// Package asynclog keeps a log that cannot be written from stopping the program.
//
// A line that is logged to a pipe waits until the pipe has room. If the program
// that should read the pipe hangs, every goroutine that logs hangs too. A
// [Handler] writes the lines in a separate goroutine, and drops lines when the
// writer is blocked:
//
//	logs := asynclog.New(slog.NewTextHandler(os.Stderr, nil))
//	defer logs.Close()
//	log := slog.New(logs)
//
// Lines are written in the order in which they were logged. Up to [Capacity] lines
// wait for the writer. When that many wait, a call that logs waits too, for
// [Patience] at most. Then this line is dropped, and so is every later one,
// without a wait, until the writer goes on. In place of the dropped lines the
// handler writes how many they were:
//
//	level=WARN msg="log lines dropped" lines=17
package asynclog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// Capacity is how many lines wait for the writer at most.
	Capacity = 1000

	// Patience is how long a call waits for a blocked writer at most: one that
	// logs, before it drops the line, and Close, before it gives up.
	Patience = time.Second

	// closeLimit is how long Close waits for a writer that is slow.
	closeLimit = 10 * Patience
)

// ErrClosed is returned by Handle after Close. The line is dropped.
var ErrClosed = errors.New("asynclog: the handler is closed")

// Handler is a [slog.Handler] that passes records to another handler in a
// separate goroutine. It is safe for concurrent use. The values that are logged
// must not change afterwards, because they are formatted later.
type Handler struct {
	inner slog.Handler
	queue *queue
}

// New returns a Handler that passes records to inner. It starts a goroutine, which
// [Handler.Close] ends.
func New(inner slog.Handler) *Handler {
	q := &queue{
		inner:   inner,
		turn:    make(chan struct{}, 1),
		more:    make(chan struct{}, 1),
		room:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go q.write()
	return &Handler{inner, q}
}

// Enabled reports whether the inner handler handles records of the level.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.inner.Enabled(ctx, level)
}

// Handle has the record written soon. It waits for [Patience] at most. It returns
// nil for a record that it drops because the writer is blocked.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	return h.queue.put(func() { _ = h.inner.Handle(ctx, r) }) // slog ignores the error too
}

// WithAttrs returns a handler with more attributes and the same queue.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.inner.WithAttrs(attrs), h.queue}
}

// WithGroup returns a handler with a group and the same queue.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.inner.WithGroup(name), h.queue}
}

// Close writes the lines that wait and ends the goroutine of the Handler. If the
// writer takes longer than [Patience] for one line, or than ten times that for all of
// them, Close drops the rest and returns an error that says how many lines were
// dropped. The goroutine then ends as soon as the call in which it is blocked returns.
//
// Close ends all handlers that WithAttrs and WithGroup have derived. A second call
// does nothing and returns nil.
func (h *Handler) Close() error { return h.queue.close() }

// queue holds the lines that wait for the writer.
type queue struct {
	inner   slog.Handler  // without attributes
	turn    chan struct{} // holds a value while a caller adds a line; this keeps the order
	more    chan struct{} // receives a value after a line was added
	room    chan struct{} // receives a value after a line was taken
	closing chan struct{} // closed by Close
	ended   chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	lines   []func()
	taken   int // by the writer, so far
	dropped int // lines after the last one in lines
	closed  bool
}

// put adds a line, or drops it if the writer is blocked.
func (q *queue) put(line func()) error {
	timeout := time.NewTimer(Patience)
	defer timeout.Stop()
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-timeout.C:
		return q.drop()
	}
	if done, err := q.add(line, true); done {
		return err
	}
	for wait := true; ; {
		select {
		case <-q.room:
		case <-q.closing:
		case <-timeout.C:
			wait = false
		}
		if done, err := q.add(line, wait); done {
			return err
		}
	}
}

// add adds a line if the queue has room. If it is full, add drops the line, or returns
// false if the caller may wait and no line has been dropped yet.
func (q *queue) add(line func(), wait bool) (done bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return true, ErrClosed
	case len(q.lines) < Capacity:
		if q.dropped > 0 {
			q.lines = append(q.lines, q.notice())
		}
		q.lines = append(q.lines, line)
		signal(q.more)
		return true, nil
	case q.dropped > 0 || !wait:
		q.dropped++
		return true, nil
	}
	return false, nil
}

// drop drops a line of a caller that has waited for others.
func (q *queue) drop() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.dropped++
	signal(q.more)
	return nil
}

// notice returns the line that takes the place of the dropped ones.
func (q *queue) notice() func() {
	n := q.dropped
	q.dropped = 0
	return func() {
		log := slog.New(q.inner)
		log.Warn("log lines dropped", "lines", n)
	}
}

// write writes lines until Close has been called and none is left.
func (q *queue) write() {
	defer close(q.ended)
	for {
		switch line, closed := q.take(); {
		case line != nil:
			line()
		case closed:
			return
		default:
			<-q.more
		}
	}
}

// take removes the next line. It returns nil if the queue is empty.
func (q *queue) take() (line func(), closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken++
	switch {
	case len(q.lines) > 0:
		line = q.lines[0]
		q.lines = q.lines[1:]
		signal(q.room)
	case q.dropped > 0:
		line = q.notice()
	}
	return line, q.closed
}

func (q *queue) close() error {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	if !first {
		return nil
	}
	close(q.closing)
	signal(q.more)
	// Several short waits, because the machine may stand still during one.
	end, taken := time.Now().Add(closeLimit), -1
	for left := 10; left > 0 && time.Now().Before(end); left-- {
		if now := q.progress(); now != taken {
			left, taken = 10, now
		}
		select {
		case <-q.ended:
			return nil
		case <-time.After(Patience / 10):
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.lines) + q.dropped
	q.lines, q.dropped = nil, 0
	return fmt.Errorf("asynclog: the writer is blocked or too slow: at least %d lines were dropped", n)
}

// progress returns a number that changes when the writer goes on.
func (q *queue) progress() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.taken
}

// signal sends to a channel of capacity 1 that need not hold a second value.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
