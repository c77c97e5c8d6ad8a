package pollertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/conform"
)

// Opened is a checkpointer that has been opened: a handle.
type Opened struct {
	Checkpointer poller.Checkpointer
	Close        func() error // nil if there is nothing to close
}

// Options say what [TestCheckpointer] tests.
type Options struct {
	// Open returns a new handle on one store, the same at each call, as when a
	// process starts. The store is empty at the first.
	Open func(ctx context.Context) (Opened, error)

	// Rewind moves the stored cursor, in whatever way a human is to do it. nil
	// leaves that untested.
	Rewind func(ctx context.Context, to source.Cursor) error

	// Exclusive says that Open must refuse a second handle while one is open,
	// as with a lock on a file. Lockstep and races cannot happen then, and a
	// closed handle stands in for a zombie.
	Exclusive bool
}

// TestCheckpointer checks a checkpointer against every sentence of
// [poller.Checkpointer] that can be checked from outside, and returns an error
// that names each one broken, or nil. It opens several handles on the store, and
// leaves in it whatever its last step stored.
//
//	err := pollertest.TestCheckpointer(t.Context(), pollertest.Options{Open: open, Rewind: rewind})
func TestCheckpointer(ctx context.Context, o Options) error {
	if o.Open == nil {
		return errors.New("pollertest: Options.Open is not set")
	}
	s := &suite{Violations: conform.Violations{Suite: "pollertest"}, ctx: ctx, o: o}
	func() {
		defer s.closeAll()
		defer func() {
			if p := recover(); p != nil && p != any(errStop) {
				panic(p)
			}
		}()
		s.run()
	}()
	return s.Err()
}

// errStop unwinds the suite after a violation that leaves nothing more to test.
// The violation itself is noted already.
var errStop = errors.New("stop")

type suite struct {
	conform.Violations
	ctx context.Context
	o   Options

	open   []*handle
	cursor source.Cursor // what should be stored
	next   int           // names cursors
}

func (s *suite) run() {
	a := s.start()
	s.basics(a)
	s.lostAnswer(a)
	s.cursors(a)
	s.contexts(a)
	s.interrupted(a)
	a = s.restart(a)
	if s.o.Exclusive {
		a = s.exclusive(a)
	} else {
		s.lockstep(a)
		s.zombie(a)
		s.race()
	}
	if s.o.Rewind != nil {
		s.rewind(a)
	}
}

// handle is an open checkpointer with a name for messages.
type handle struct {
	s    *suite
	name string
	Opened
	closed bool
}

func (s *suite) start() *handle {
	o, err := s.o.Open(s.ctx)
	if err != nil {
		s.stop("a handle can be opened", "%v", err)
	}
	h := &handle{s: s, name: string(rune('A' + len(s.open)%26)), Opened: o}
	s.open = append(s.open, h)
	return h
}

func (h *handle) close() {
	if h.closed = true; h.Close != nil {
		// Watched, too: one that waits for a Save that hangs would hang the suite.
		_, err := conform.Call(h.s.ctx, func(context.Context) (struct{}, error) { return struct{}{}, h.Close() })
		if err != nil {
			h.s.Add("a handle can be closed", "%v", err)
		}
	}
}

func (s *suite) closeAll() {
	for _, h := range s.open {
		if !h.closed {
			h.close()
		}
	}
}

func (s *suite) stop(rule, format string, args ...any) {
	s.Add(rule, format, args...)
	panic(errStop)
}

func (h *handle) load(ctx context.Context) (source.Cursor, error) {
	return watch(h.s, "Load", func() (source.Cursor, error) {
		return conform.Call(ctx, h.Checkpointer.Load)
	})
}

func (h *handle) save(ctx context.Context, from, to source.Cursor) error {
	_, err := watch(h.s, "Save", func() (struct{}, error) {
		return conform.Call(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, h.Checkpointer.Save(ctx, from, to)
		})
	})
	return err
}

func watch[R any](s *suite, op string, call func() (R, error)) (R, error) {
	r, err := call()
	if errors.Is(err, conform.ErrStuck) {
		s.stop(op+" returns soon after its context ends", "%v", err)
	}
	if errors.Is(err, conform.ErrPanic) {
		s.stop(op+" does not panic", "%v", err)
	}
	return r, err
}

// mustLoad loads, and wants what should be stored.
func (h *handle) mustLoad(rule string) {
	got, err := h.load(h.s.ctx)
	if err != nil {
		h.s.stop("Load succeeds while nothing is wrong", "%v", err)
	}
	if got != h.s.cursor {
		h.s.Add(rule, "handle %s loaded %s, want %s", h.name, short(got), short(h.s.cursor))
		h.s.cursor = got
	}
}

// mustSave moves the cursor on to a new one.
func (h *handle) mustSave(rule string) {
	to := h.s.fresh()
	if err := h.save(h.s.ctx, h.s.cursor, to); err != nil {
		h.s.Add(rule, "handle %s: Save(%s, %s): %v", h.name, short(h.s.cursor), short(to), err)
		h.mustSync()
		return
	}
	h.s.cursor = to
}

// mustSync makes the suite believe the store, so that it can go on after a
// violation.
func (h *handle) mustSync() {
	got, err := h.load(h.s.ctx)
	if err != nil {
		h.s.stop("Load succeeds while nothing is wrong", "%v", err)
	}
	h.s.cursor = got
}

// mustConflict wants a Save to be refused and nothing to be stored. The witness
// looks at the store, and knows it from then on.
func (h *handle) mustConflict(rule string, from, to source.Cursor, witness *handle) {
	err := h.save(h.s.ctx, from, to)
	switch {
	case err == nil:
		h.s.Add(rule, "handle %s: Save(%s, %s) succeeded", h.name, short(from), short(to))
		witness.mustSync()
	case !errors.Is(err, poller.ErrConflict):
		h.s.Add(rule+": the error wraps ErrConflict", "handle %s: Save(%s, %s): %v", h.name, short(from), short(to), err)
	}
	witness.mustLoad("an error that wraps ErrConflict means that nothing was stored")
}

// fresh returns a cursor that was never used.
func (s *suite) fresh() source.Cursor {
	s.next++
	return source.Cursor(fmt.Sprintf("cursor %d", s.next))
}

func short(c source.Cursor) string {
	if len(c) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", c[:60], len(c))
	}
	return fmt.Sprintf("%q", c)
}
