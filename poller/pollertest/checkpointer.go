package pollertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// Checkpointer is a checkpoint in memory. The zero value is a handle on a new
// and empty store of its own; [Checkpointer.Open] returns further handles on the
// same store, as another process would have. It must not be copied after first
// use and is safe for concurrent use.
//
// The methods of the embedded Injector make the calls of this one handle fail.
type Checkpointer struct {
	fault.Injector

	once  sync.Once
	store *checkpoints

	mu   sync.Mutex
	seen checkpoint // what this handle last loaded or saved
	me   writer
}

// writer is a token. It is a number from a counter of the store, not a random
// one: the store is in this process.
type writer int64

type checkpoint struct {
	cursor source.Cursor
	writer writer
}

type checkpoints struct {
	tokens atomic.Int64

	mu      sync.Mutex
	now     checkpoint
	history []source.Cursor
}

func (c *Checkpointer) init() *checkpoints {
	c.once.Do(func() {
		if c.store == nil {
			c.store = &checkpoints{}
		}
		c.me = writer(c.store.tokens.Add(1))
	})
	return c.store
}

// Open returns another handle on the same store, without the faults of this one.
func (c *Checkpointer) Open() *Checkpointer { return &Checkpointer{store: c.init()} }

// Load returns the stored cursor. See [poller.Checkpointer].
func (c *Checkpointer) Load(ctx context.Context) (source.Cursor, error) {
	var loaded checkpoint
	err := c.Do(ctx, fault.Call{Op: "Load"}, func(call *fault.Call) error {
		s := c.init()
		s.mu.Lock()
		defer s.mu.Unlock()
		loaded, call.To = s.now, s.now.cursor
		return nil
	})
	if err != nil {
		return "", err
	}
	c.know(loaded)
	return loaded.cursor, nil
}

// Save moves the stored cursor. See [poller.Checkpointer].
func (c *Checkpointer) Save(ctx context.Context, from, to source.Cursor) error {
	if err := to.Validate(); err != nil {
		return fmt.Errorf("pollertest: save: %w", err)
	}
	var saved checkpoint
	err := c.Do(ctx, fault.Call{Op: "Save", From: from, To: to}, func(*fault.Call) (err error) {
		saved, err = c.swap(from, to)
		return err
	})
	if err != nil {
		return err // also if the answer was lost: this handle does not know
	}
	c.know(saved)
	return nil
}

func (c *Checkpointer) swap(from, to source.Cursor) (checkpoint, error) {
	s := c.init()
	c.mu.Lock()
	seen := c.seen
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	next := checkpoint{to, c.me}
	switch {
	case s.now == next: // the answer of an earlier Save was lost
		return next, nil
	case s.now != seen || s.now.cursor != from:
		return checkpoint{}, fmt.Errorf("pollertest: save from %q: %w: stored is %q of handle %d, and handle %d knows %q of handle %d",
			from, poller.ErrConflict, s.now.cursor, s.now.writer, c.me, seen.cursor, seen.writer)
	}
	s.set(next)
	return next, nil
}

func (c *Checkpointer) know(now checkpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = now
}

func (s *checkpoints) set(now checkpoint) {
	s.now = now
	s.history = append(s.history, now.cursor)
}

// Rewind sets the stored cursor, as a human would who wants records again. It
// draws a new writer token, so no handle goes on without loading.
func (c *Checkpointer) Rewind(to source.Cursor) {
	s := c.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(checkpoint{to, writer(s.tokens.Add(1))})
}

// Stored returns the stored cursor. It is no Load: the handle learns nothing.
func (c *Checkpointer) Stored() source.Cursor {
	s := c.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.cursor
}

// History returns every cursor stored so far, by any handle, oldest first.
func (c *Checkpointer) History() []source.Cursor {
	s := c.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.history)
}
