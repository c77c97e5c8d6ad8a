package filesink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

// store keeps bytes and a cursor in a directory. It knows nothing of records.
type store struct {
	settings
	dir  directory
	path string

	turn   chan struct{} // holds a value while a method works
	closed bool

	writer string     // this handle's token
	known  owned      // what this handle last loaded or stored
	cp     checkpoint // as it is stored
	open   file       // the open segment, nil if there is none
	broken bool       // something failed: recover before anything else
	stored bool       // a checkpoint has been seen here, so there must be one
	listed bool       // the stored checkpoint lists sealed segments

	due ageTimer
}

type settings struct {
	now         func() time.Time
	token       func() string // a random name
	name        string
	bytes, rows int64
	age         time.Duration
	gaps        bool
	onSeal      func(Segment)
	logger      *slog.Logger
}

type owned struct {
	cursor source.Cursor
	writer string
}

// piece is a part of a batch that belongs in one segment.
type piece struct {
	shape, extension string
	start, end       int // in the buffer
	rows             int64
}

func openStore(d directory, path string, o settings) (*store, error) {
	s := &store{settings: o, dir: d, path: path, turn: make(chan struct{}, 1), writer: o.token()}
	s.turn <- struct{}{}
	if err := s.recover(); err != nil {
		_ = s.closeSegment()
		return nil, errors.Join(err, d.close())
	}
	s.known = owned{s.cp.Cursor, s.cp.Writer}
	s.due.closing, s.due.cancel = context.WithCancel(context.Background())
	s.end()
	return s, nil
}

// begin waits for the other methods, and has the directory in order. If it
// returns nil, end must follow.
func (s *store) begin(ctx context.Context) error {
	if ctx.Err() != nil {
		return s.fail("wait", context.Cause(ctx))
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return s.fail("wait", context.Cause(ctx))
	}
	err := s.ready()
	if err != nil {
		<-s.turn
	}
	return err
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
		return s.fail("look at the directory", err)
	}
	return nil
}

// fail adds to an error what was being done, and what to do about it.
func (s *store) fail(op string, err error) error {
	return fmt.Errorf("filesink: %s: %s: %w%s", s.path, op, err, advice(err))
}

func (s *store) fault(format string, args ...any) error {
	return fmt.Errorf("filesink: %s: "+format, append([]any{s.path}, args...)...)
}

// compare is the comparing of compare and swap. It reports whether the swap is
// done already.
func (s *store) compare(from, to source.Cursor) (done bool, err error) {
	if err := to.Validate(); err != nil {
		return false, s.fail("store a cursor", err)
	}
	ours := s.known == owned{s.cp.Cursor, s.cp.Writer}
	switch {
	case s.gaps:
		return to == s.cp.Cursor, nil
	case ours && from == s.cp.Cursor:
		return from == to, nil
	case to == s.cp.Cursor && s.writer == s.cp.Writer:
		s.known = owned{s.cp.Cursor, s.cp.Writer}
		return true, nil
	case ours:
		return false, s.fault("from %q to %q: the stored cursor is %q: %w", from, to, s.cp.Cursor, poller.ErrConflict)
	default:
		return false, s.fault("from %q to %q: the stored cursor was %q and is %q: %w", from, to, s.known.cursor, s.cp.Cursor, poller.ErrConflict)
	}
}

// continues reports whether the open segment takes records of that shape.
func (s *store) continues(shape string) bool { return s.cp.Offset > 0 && s.cp.Shape == shape }

func (s *store) close() error {
	s.due.cancel()
	defer s.due.running.Wait()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.closed {
		return nil
	}
	s.closed = true
	s.due.stop()
	var err error
	// So that the next Open does not announce them again; unless this is another's
	// directory by now, whose checkpoint would be replaced by an older one.
	if s.listed && !s.broken && s.dir.check() == nil {
		err = s.save(s.cp)
	}
	err = errors.Join(err, s.closeSegment())
	if e := s.dir.close(); e != nil {
		err = errors.Join(err, s.fail("close the directory", e))
	}
	return err
}
