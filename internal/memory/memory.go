// Package memory keeps a cursor in memory. The fakes of sinktest and pollertest
// that are checkpointers are built on it.
package memory

import (
	"context"
	"sync"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// Handle is a handle on a store of a cursor and a list of E. The zero value is a
// handle on a new, empty store, in which it may move the cursor without a Load. A
// Handle is safe for concurrent use and must not be copied after first use.
type Handle[E any] struct {
	once  sync.Once
	store *store[E]
	fence durable.Fence
}

type store[E any] struct {
	mu    sync.Mutex
	state durable.State
	list  []E
}

// locked returns the locked store.
func (h *Handle[E]) locked() *store[E] {
	h.once.Do(func() {
		if h.store == nil {
			h.store = &store[E]{}
		}
		h.fence.Loaded(durable.State{})
	})
	h.store.mu.Lock()
	return h.store
}

// OpenOn makes h another handle on the store of first. h must be unused.
func (h *Handle[E]) OpenOn(first *Handle[E]) {
	s := first.locked()
	defer s.mu.Unlock()
	h.store = s
}

// Load is the Load of a checkpointer, with the faults of i. If its answer is lost,
// this handle does not know what is stored.
func (h *Handle[E]) Load(ctx context.Context, i *fault.Injector) (source.Cursor, error) {
	var loaded durable.State
	err := i.Do(ctx, fault.Call{Op: "Load"}, func(call *fault.Call) error {
		s := h.locked()
		defer s.mu.Unlock()
		loaded, call.To = s.state, s.state.Cursor
		return nil
	})
	if err != nil {
		return "", err
	}
	h.fence.Loaded(loaded)
	return loaded.Cursor, nil
}

// Move moves the cursor and appends to the list, unless this handle has done so
// before and its answer was lost.
func (h *Handle[E]) Move(from, to source.Cursor, more ...E) error {
	s := h.locked()
	defer s.mu.Unlock()
	next, moved, err := h.fence.Move(s.state, from, to)
	if moved {
		s.state, s.list = next, append(s.list, more...)
	}
	return err
}

// Rewind sets the cursor and appends to the list, as [durable.Rewound] describes.
func (h *Handle[E]) Rewind(to source.Cursor, more ...E) error {
	s := h.locked()
	defer s.mu.Unlock()
	next, err := durable.Rewound(s.state, to)
	if err == nil {
		s.state, s.list = next, append(s.list, more...)
	}
	return err
}

// Stored returns the stored cursor and the list. It is not a Load.
func (h *Handle[E]) Stored() (source.Cursor, []E) {
	s := h.locked()
	defer s.mu.Unlock()
	return s.state.Cursor, append([]E(nil), s.list...)
}
