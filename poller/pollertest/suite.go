package pollertest

import (
	"context"
	"errors"

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
		s := &suite{&conform.Checkpoint{Suite: c}, o}
		s.run()
	})
}

type suite struct {
	*conform.Checkpoint
	o Options
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
type handle struct{ *conform.Handle }

func (s *suite) start() handle {
	o, err := s.o.Open(s.Ctx)
	if err != nil {
		s.Stop("a handle can be opened", "%v", err)
	}
	if o.Checkpointer == nil {
		s.Stop("Options.Open sets Opened.Checkpointer", "it is nil")
	}
	return handle{s.Handle(o.Checkpointer, "a handle can be closed", o.Close)}
}

// moveTo saves a cursor, which must succeed.
func (h handle) moveTo(rule string, to source.Cursor) bool {
	if err := h.Save(h.Ctx, h.At, to); err != nil {
		h.Add(rule, "handle %s: Save(%s, %s): %v", h.Name, conform.Short(h.At), conform.Short(to), err)
		h.Sync()
		return false
	}
	h.At = to
	return true
}

// mustSave moves the cursor on to a new one.
func (h handle) mustSave(rule string) { h.moveTo(rule, h.Fresh()) }

// movedAndBack is a rule for Save(from, from).
const movedAndBack = "Save(from, from) is refused after another handle has moved the cursor, even there and back"

// mustStay saves the cursor that is stored and was not moved.
func (h handle) mustStay() {
	const rule = "Save(from, from) succeeds and moves nothing if nobody else has moved the cursor"
	h.moveTo(rule, h.At)
	h.moveTo(rule, h.At)
	h.MustLoad(rule)
	h.moveTo(rule, h.At)
}

// mustConflict expects a Save to be refused and nothing to be stored. The witness
// is the handle that checks this by a Load.
func (h handle) mustConflict(rule string, from, to source.Cursor, witness handle) {
	err := h.Save(h.Ctx, from, to)
	switch {
	case err == nil:
		h.Add(rule, "handle %s: Save(%s, %s) succeeded", h.Name, conform.Short(from), conform.Short(to))
		witness.Sync()
	case !errors.Is(err, poller.ErrConflict):
		h.Add(rule+": the error wraps ErrConflict", "handle %s: Save(%s, %s): %v", h.Name, conform.Short(from), conform.Short(to), err)
	}
	witness.MustLoad("an error that wraps ErrConflict means that nothing was stored")
}
