package filesink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

// store keeps bytes and a cursor in a directory. It does not know records.
type store struct {
	settings
	dir  directory // nil before it could be opened
	path string

	turn   chan struct{} // holds a value while a method works
	closed bool

	fence  durable.Fence
	cp     checkpoint // as stored
	open   file       // the open segment, or nil
	broken bool       // a call failed: recover before anything else
	stored bool       // a checkpoint has been seen here, so it must exist
	loaded bool       // the fence knows the state that Open found

	due       ageTimer
	announcer announcer
}

// system is what a store needs besides the directory. The tests replace it.
type system struct {
	openDir func() (directory, error)
	now     func() time.Time
	spawn   func(*sync.WaitGroup, func()) // starts the goroutine that calls onSeal
}

type settings struct {
	system
	name        string
	bytes, rows int64
	age         time.Duration
	mustExist   bool
	onSeal      func(context.Context, Segment) error
	logger      *slog.Logger
}

// piece is the part of a batch that goes into one segment.
type piece struct {
	shape, extension string
	start, end       int // in the buffer
	rows             int64

	// rest writes what follows, as a function of the last records: so many of them
	// were not encoded into the buffer. It is nil if all were.
	rest  func(io.Writer) error
	later int
}

func openStore(path string, o settings) (*store, error) {
	s := &store{settings: o, path: path, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	s.due.closing, s.due.cancel = context.WithCancel(context.Background())
	s.announcer = announcer{onSeal: o.onSeal, dir: path, limit: maxPending, logger: o.logger}
	if err := s.recover(); err != nil && !durable.IsOutage(err) {
		<-s.turn
		return nil, errors.Join(err, s.close())
	}
	if o.onSeal != nil {
		o.spawn(&s.due.running, func() { s.announcer.run(s.due.closing) })
	}
	s.end()
	return s, nil
}

// do calls f after the other methods have ended. It recovers the directory first if
// it must.
func (s *store) do(ctx context.Context, f func() error) error {
	if ctx.Err() != nil {
		return s.fail("wait", context.Cause(ctx))
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return s.fail("wait", context.Cause(ctx))
	}
	if err := s.ready(); err != nil {
		<-s.turn
		return err
	}
	defer s.end()
	return f()
}

func (s *store) end() {
	s.watchAge()
	<-s.turn
}

func (s *store) ready() error {
	if s.closed {
		return s.fail("use", os.ErrClosed)
	}
	if s.broken {
		return s.recover()
	}
	if err := s.dir.check(); err != nil {
		return s.fail("check the directory", err)
	}
	return nil
}

// fail adds the directory, the operation and some advice to an error.
func (s *store) fail(op string, err error) error {
	return fmt.Errorf("filesink: %s: %s: %w%s", s.path, op, err, advice(err))
}

func (s *store) fault(format string, args ...any) error {
	return fmt.Errorf("filesink: %s: "+format, append([]any{s.path}, args...)...)
}

// compare returns the state that moves the cursor, or done if this handle has
// stored it already.
func (s *store) compare(from, to source.Cursor) (next durable.State, done bool, err error) {
	next, moved, err := s.fence.Move(s.cp.state(), from, to)
	if err != nil {
		return next, false, s.fail(fmt.Sprintf("move the cursor from %q to %q", from.Short(), to.Short()), err)
	}
	return next, !moved, nil
}

// continues reports whether the open segment takes records of this shape.
func (s *store) continues(shape string) bool { return s.cp.Offset > 0 && s.cp.Shape == shape }

func (s *store) close() (err error) {
	s.due.cancel()
	s.turn <- struct{}{}
	closed := s.closed
	s.closed = true
	s.due.stop()
	<-s.turn // OnSeal may wait for it
	s.due.running.Wait()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if closed {
		return nil
	}
	// Store that sealed segments were announced, so that the next Open does not
	// announce them again. Not if another process has taken over the directory:
	// this would replace its checkpoint by an older one.
	announced := len(s.announcer.undone(s.cp.Sealed)) < len(s.cp.Sealed)
	if announced && !s.broken && s.dir.check() == nil {
		err = s.save(s.cp)
	}
	err = errors.Join(err, s.closeSegment())
	if s.dir == nil {
		return err
	}
	if e := s.dir.close(); e != nil {
		err = errors.Join(err, s.fail("close the directory", e))
	}
	return err
}
