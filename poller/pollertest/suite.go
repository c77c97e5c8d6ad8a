package pollertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/artifactofdevotion/devotion/internal/conform"
	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

// Opened is a checkpointer that has been opened: a handle.
type Opened struct {
	Checkpointer poller.Checkpointer
	Close        func() error // nil if there is nothing to close
}

// Options say what [TestCheckpointer] tests.
type Options struct {
	// Open returns a new handle on one store, the same at each call, as when a
	// process starts. The store is empty at the first call.
	Open func(ctx context.Context) (Opened, error)

	// Rewind moves the stored cursor in the way that a person does it. Nil leaves
	// that untested.
	Rewind func(ctx context.Context, to source.Cursor) error

	// Exclusive says that Open must refuse a second handle while one is open,
	// as with a file lock. Handles in lockstep and races are then impossible, and a
	// closed handle takes the place of a process that wakes up late.
	Exclusive bool
}

// TestCheckpointer checks a checkpointer against every sentence of
// [poller.Checkpointer] that can be checked from outside. It returns an error that
// names each one broken, or nil. It opens several handles on the store. A cursor
// of the test stays in the store.
//
//	err := pollertest.TestCheckpointer(t.Context(), pollertest.Options{Open: open, Rewind: rewind})
func TestCheckpointer(ctx context.Context, o Options) error {
	if o.Open == nil {
		return errors.New("pollertest: Options.Open is not set")
	}
	return conform.Run(ctx, "pollertest", func(c *conform.Suite) {
		s := &suite{Suite: c, o: o}
		s.run()
	})
}

type suite struct {
	*conform.Suite
	o Options

	cursor source.Cursor // what should be stored
	next   int           // numbers the cursors made
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
		s.late(a)
		s.race()
	}
	if s.o.Rewind != nil {
		s.rewind(a)
	}
}

// handle is an open checkpointer.
type handle struct {
	s *suite
	Opened
	name  string // for messages
	close func()
}

func (s *suite) start() *handle {
	o, err := s.o.Open(s.Ctx)
	if err != nil {
		s.Stop("a handle can be opened", "%v", err)
	}
	h := &handle{s: s, Opened: o}
	h.name, h.close = s.Opened("a handle can be closed", o.Close)
	return h
}

func (h *handle) load(ctx context.Context) (source.Cursor, error) {
	c, err := conform.Call(ctx, h.Checkpointer.Load)
	h.s.Watch("Load", err)
	return c, err
}

func (h *handle) save(ctx context.Context, from, to source.Cursor) error {
	err := conform.Do(ctx, func(ctx context.Context) error { return h.Checkpointer.Save(ctx, from, to) })
	h.s.Watch("Save", err)
	return err
}

// mustLoad loads, and expects the cursor that should be stored.
func (h *handle) mustLoad(rule string) {
	got, err := h.load(h.s.Ctx)
	if err != nil {
		h.s.Stop("Load succeeds while nothing is wrong", "%v", err)
	}
	if got != h.s.cursor {
		h.s.Add(rule, "handle %s loaded %s, want %s", h.name, conform.Short(got), conform.Short(h.s.cursor))
		h.s.cursor = got
	}
}

// mustSave moves the cursor on to a new one.
func (h *handle) mustSave(rule string) {
	to := h.s.fresh()
	if err := h.save(h.s.Ctx, h.s.cursor, to); err != nil {
		h.s.Add(rule, "handle %s: Save(%s, %s): %v", h.name, conform.Short(h.s.cursor), conform.Short(to), err)
		h.mustSync()
		return
	}
	h.s.cursor = to
}

// mustSync makes the suite expect what is stored, so that it can go on after a
// violation.
func (h *handle) mustSync() {
	got, err := h.load(h.s.Ctx)
	if err != nil {
		h.s.Stop("Load succeeds while nothing is wrong", "%v", err)
	}
	h.s.cursor = got
}

// mustConflict expects a Save to be refused and nothing to be stored. The witness
// is the handle that checks this by a Load.
func (h *handle) mustConflict(rule string, from, to source.Cursor, witness *handle) {
	err := h.save(h.s.Ctx, from, to)
	switch {
	case err == nil:
		h.s.Add(rule, "handle %s: Save(%s, %s) succeeded", h.name, conform.Short(from), conform.Short(to))
		witness.mustSync()
	case !errors.Is(err, poller.ErrConflict):
		h.s.Add(rule+": the error wraps ErrConflict", "handle %s: Save(%s, %s): %v", h.name, conform.Short(from), conform.Short(to), err)
	}
	witness.mustLoad("an error that wraps ErrConflict means that nothing was stored")
}

// fresh returns a cursor that was never used.
func (s *suite) fresh() source.Cursor {
	s.next++
	return source.Cursor(fmt.Sprintf("cursor %d", s.next))
}
