package sinktest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// Transactional is a sink in memory that stores the cursor together with the
// records. Passed to a Poller both as Sink and as Checkpointer it delivers
// exactly once. The zero value is a handle on a new and empty store of its own;
// [Transactional.Open] returns further handles on the same store, as a process
// has that starts anew. It must not be copied after first use and is safe for
// concurrent use.
//
// The methods of the embedded Injector make the calls of this one handle fail.
type Transactional[T any] struct {
	fault.Injector

	// Refuse is as in [Fake].
	Refuse func(T) error

	once  sync.Once
	store *store[T]

	mu   sync.Mutex
	seen position // what this handle last loaded or stored
	me   int
}

// position is the stored cursor and the token of the handle that moved it. The
// token is a number, not a random one: the store is in this process.
type position struct {
	cursor source.Cursor
	writer int
}

type store[T any] struct {
	mu      sync.Mutex
	tokens  int
	now     position
	batches []source.Batch[T]
}

func (t *Transactional[T]) init() *store[T] {
	t.once.Do(func() {
		if t.store == nil {
			t.store = &store[T]{}
		}
		t.me = t.store.token()
	})
	return t.store
}

func (s *store[T]) token() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens++
	return s.tokens
}

// Open returns another handle on the same store, without the faults of this one.
func (t *Transactional[T]) Open() *Transactional[T] {
	return &Transactional[T]{store: t.init(), Refuse: t.Refuse}
}

// Write stores b and moves the cursor from b.From to b.To, both or neither. See
// [sink.Sink].
func (t *Transactional[T]) Write(ctx context.Context, b source.Batch[T]) error {
	if err := b.To.Validate(); err != nil {
		return fmt.Errorf("sinktest: write: %w", err)
	}
	var stored position
	err := t.Do(ctx, write(b), func(*fault.Call) (err error) {
		if err := refused(b, t.Refuse); err != nil {
			return err
		}
		stored, err = t.swap(b.From, b.To, func(s *store[T]) { s.batches = append(s.batches, own(b)) })
		return err
	})
	if err != nil {
		return err // also if the answer was lost: this handle does not know
	}
	t.know(stored)
	return nil
}

// Load returns the stored cursor. See [poller.Checkpointer].
func (t *Transactional[T]) Load(ctx context.Context) (source.Cursor, error) {
	var loaded position
	err := t.Do(ctx, fault.Call{Op: "Load"}, func(call *fault.Call) error {
		s := t.init()
		s.mu.Lock()
		defer s.mu.Unlock()
		loaded, call.To = s.now, s.now.cursor
		return nil
	})
	if err != nil {
		return "", err
	}
	t.know(loaded)
	return loaded.cursor, nil
}

// Save moves the cursor alone; after a Write it finds it moved. See
// [poller.Checkpointer].
func (t *Transactional[T]) Save(ctx context.Context, from, to source.Cursor) error {
	if err := to.Validate(); err != nil {
		return fmt.Errorf("sinktest: save: %w", err)
	}
	var saved position
	err := t.Do(ctx, fault.Call{Op: "Save", From: from, To: to}, func(*fault.Call) (err error) {
		saved, err = t.swap(from, to, func(*store[T]) {})
		return err
	})
	if err != nil {
		return err
	}
	t.know(saved)
	return nil
}

// swap moves the cursor and has its effect, unless this handle has done so
// before, and was not told.
func (t *Transactional[T]) swap(from, to source.Cursor, effect func(*store[T])) (position, error) {
	s := t.init()
	t.mu.Lock()
	seen := t.seen
	t.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	next := position{to, t.me}
	switch {
	case s.now == next:
		return next, nil
	case s.now != seen || s.now.cursor != from:
		return position{}, fmt.Errorf("sinktest: from %q: %w: stored is %q of handle %d, and handle %d knows %q of handle %d",
			from, poller.ErrConflict, s.now.cursor, s.now.writer, t.me, seen.cursor, seen.writer)
	}
	effect(s)
	s.now = next
	return next, nil
}

func (t *Transactional[T]) know(now position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = now
}

// Rewind sets the stored cursor, as a human would who wants records again. It
// draws a new token, so no handle goes on without loading.
func (t *Transactional[T]) Rewind(to source.Cursor) {
	s := t.init()
	token := s.token()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = position{to, token}
}

// Stored returns the stored cursor. It is no Load: the handle learns nothing.
func (t *Transactional[T]) Stored() source.Cursor {
	s := t.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.cursor
}

// Batches returns the batches stored, by any handle, in order.
func (t *Transactional[T]) Batches() []source.Batch[T] {
	s := t.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

// Records returns the records stored, by any handle, in order.
func (t *Transactional[T]) Records() []T { return records(t.Batches()) }
