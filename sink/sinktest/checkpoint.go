package sinktest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// Checkpoint is a [Checkpointer] in memory. The zero value is a handle on a new,
// empty store, in which it may save without a Load. [Checkpoint.Open] returns
// further handles on the same store, like those of another process. A Checkpoint
// must not be copied after first use and is safe for concurrent use.
//
// The methods of the embedded Injector make the calls of this handle fail.
type Checkpoint struct {
	fault.Injector

	once  sync.Once
	store *store
	fence durable.Fence
}

// store is what the handles share.
type store struct {
	mu      sync.Mutex
	state   durable.State
	history []source.Cursor
}

func (s *store) set(state durable.State) {
	s.state, s.history = state, append(s.history, state.Cursor)
}

// locked returns the locked store.
func (c *Checkpoint) locked() *store {
	c.once.Do(func() {
		if c.store == nil {
			c.store = &store{}
		}
		c.fence.Loaded(durable.State{})
	})
	c.store.mu.Lock()
	return c.store
}

// Open returns another handle on the same store, without the faults of this one.
func (c *Checkpoint) Open() *Checkpoint {
	s := c.locked()
	defer s.mu.Unlock()
	return &Checkpoint{store: s}
}

// Load returns the stored cursor. See poller.Checkpointer. If its answer is lost,
// this handle does not know what is stored.
func (c *Checkpoint) Load(ctx context.Context) (source.Cursor, error) {
	var loaded durable.State
	err := c.Do(ctx, fault.Call{Op: "Load"}, func(call *fault.Call) error {
		s := c.locked()
		defer s.mu.Unlock()
		loaded, call.To = s.state, s.state.Cursor
		return nil
	})
	if err != nil {
		return "", err
	}
	c.fence.Loaded(loaded)
	return loaded.Cursor, nil
}

// Save moves the stored cursor. See poller.Checkpointer.
func (c *Checkpoint) Save(ctx context.Context, from, to source.Cursor) error {
	return c.Do(ctx, fault.Call{Op: "Save", From: from, To: to}, func(*fault.Call) error {
		return c.move(from, to, func() {})
	})
}

// move moves the cursor and calls also under the same lock, unless this handle has
// moved it before and the answer was lost.
func (c *Checkpoint) move(from, to source.Cursor, also func()) error {
	s := c.locked()
	defer s.mu.Unlock()
	next, moved, err := c.fence.Move(s.state, from, to)
	if err != nil {
		return fmt.Errorf("sinktest: move the cursor from %q to %q: %w", from, to, err)
	}
	if moved {
		s.set(next)
		also()
	}
	return nil
}

// Rewind sets the stored cursor, as a person does who wants records again. Every
// handle must load it before it goes on. An invalid cursor panics.
func (c *Checkpoint) Rewind(to source.Cursor) {
	s := c.locked()
	defer s.mu.Unlock()
	next, err := durable.Rewound(s.state, to)
	if err != nil {
		panic(fmt.Errorf("sinktest: rewind: %w", err))
	}
	s.set(next)
}

// Stored returns the stored cursor. It is not a Load: the handle may not move the
// cursor on from there.
func (c *Checkpoint) Stored() source.Cursor {
	s := c.locked()
	defer s.mu.Unlock()
	return s.state.Cursor
}

// History returns every cursor that was stored, by all handles, oldest first.
func (c *Checkpoint) History() []source.Cursor {
	s := c.locked()
	defer s.mu.Unlock()
	return slices.Clone(s.history)
}
