package conform

import (
	"context"
	"fmt"
	"sync"

	"github.com/artifactofdevotion/devotion/source"
)

// Checkpointer is poller.Checkpointer, which the suites of sinks cannot import.
type Checkpointer interface {
	Load(ctx context.Context) (source.Cursor, error)
	Save(ctx context.Context, from, to source.Cursor) error
}

// Checkpoint is a Suite that knows what the part under test should have stored.
type Checkpoint struct {
	*Suite
	At   source.Cursor // the cursor that should be stored
	Made int           // numbers the cursors and records made
}

// Fresh returns a cursor that was never used.
func (c *Checkpoint) Fresh() source.Cursor {
	c.Made++
	return source.Cursor(fmt.Sprintf("cursor %d", c.Made))
}

// Handle is an open part.
type Handle struct {
	*Checkpoint
	Checkpointer Checkpointer // nil: the part keeps no cursor
	Name         string       // for messages
	Close        func()
}

// Handle returns the handle of a part that was opened. Names are "A", "B" and so on.
// The rule is that closePart, if it is not nil, can close the part. [Run] closes
// parts that are still open in the end.
func (c *Checkpoint) Handle(checkpointer Checkpointer, rule string, closePart func() error) *Handle {
	h := &Handle{Checkpoint: c, Checkpointer: checkpointer, Name: string(rune('A' + len(c.open)%26))}
	h.Close = sync.OnceFunc(func() {
		if closePart == nil {
			return
		}
		// Watched, because a Close that waits for a stuck call would hang too.
		if err := Do(c.Ctx, func(context.Context) error { return closePart() }); err != nil {
			c.Add(rule, "%v", err)
		}
	})
	c.open = append(c.open, h.Close)
	return h
}

// Load calls Load.
func (h *Handle) Load(ctx context.Context) (source.Cursor, error) {
	c, err := Call(ctx, h.Checkpointer.Load)
	h.Watch("Load", err)
	return c, err
}

// Save calls Save.
func (h *Handle) Save(ctx context.Context, from, to source.Cursor) error {
	err := Do(ctx, func(ctx context.Context) error { return h.Checkpointer.Save(ctx, from, to) })
	h.Watch("Save", err)
	return err
}

// MustLoad loads, and expects the cursor that should be stored.
func (h *Handle) MustLoad(rule string) {
	want := h.At
	if h.Sync(); h.At != want {
		h.Add(rule, "handle %s loaded %s, want %s", h.Name, Short(h.At), Short(want))
	}
}

// Sync makes the suite expect what is stored, so that it can go on after a
// violation.
func (h *Handle) Sync() {
	got, err := h.Load(h.Ctx)
	if err != nil {
		h.Stop("Load succeeds while nothing is wrong", "%v", err)
	}
	h.At = got
}
