package pollertest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// Checkpointer is a checkpoint in memory. The zero value is a handle on a new,
// empty store, in which it may save without a Load. [Checkpointer.Open] returns
// further handles on the same store, like those of another process. A
// Checkpointer must not be copied after first use and is safe for concurrent use.
//
// The methods of the embedded Injector make the calls of this handle fail.
type Checkpointer struct {
	fault.Injector

	once  sync.Once
	store *checkpoints
	fence durable.Fence
}

type checkpoints struct {
	mu      sync.Mutex
	state   durable.State
	history []source.Cursor
}

func (c *Checkpointer) init() *checkpoints {
	c.once.Do(func() {
		if c.store == nil {
			c.store = &checkpoints{}
		}
		c.fence.Loaded(durable.State{})
	})
	return c.store
}

// Open returns another handle on the same store, without the faults of this one.
func (c *Checkpointer) Open() *Checkpointer { return &Checkpointer{store: c.init()} }

// Load returns the stored cursor. See [poller.Checkpointer].
func (c *Checkpointer) Load(ctx context.Context) (source.Cursor, error) {
	var loaded durable.State
	err := c.Do(ctx, fault.Call{Op: "Load"}, func(call *fault.Call) error {
		s := c.init()
		s.mu.Lock()
		defer s.mu.Unlock()
		loaded, call.To = s.state, s.state.Cursor
		return nil
	})
	if err != nil {
		return "", err // also if the answer was lost: this handle does not know it
	}
	c.fence.Loaded(loaded)
	return loaded.Cursor, nil
}

// Save moves the stored cursor. See [poller.Checkpointer].
func (c *Checkpointer) Save(ctx context.Context, from, to source.Cursor) error {
	return c.Do(ctx, fault.Call{Op: "Save", From: from, To: to}, func(*fault.Call) error {
		s := c.init()
		s.mu.Lock()
		defer s.mu.Unlock()
		next, moved, err := c.fence.Move(s.state, from, to)
		if err != nil {
			return fmt.Errorf("pollertest: save from %q to %q: %w", from, to, err)
		}
		if moved {
			s.set(next)
		}
		return nil
	})
}

func (s *checkpoints) set(state durable.State) {
	s.state, s.history = state, append(s.history, state.Cursor)
}

// Rewind sets the stored cursor, as a person does who wants records again. Every
// handle must load it before it goes on. An invalid cursor panics.
func (c *Checkpointer) Rewind(to source.Cursor) {
	s := c.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := durable.Rewound(s.state, to)
	if err != nil {
		panic(fmt.Errorf("pollertest: rewind: %w", err))
	}
	s.set(next)
}

// Stored returns the stored cursor. It is not a Load: the handle may not move the
// cursor on from there.
func (c *Checkpointer) Stored() source.Cursor {
	s := c.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Cursor
}

// History returns every cursor that was stored, by all handles, oldest first.
func (c *Checkpointer) History() []source.Cursor {
	s := c.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.history)
}
