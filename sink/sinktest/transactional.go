package sinktest

import (
	"context"
	"slices"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// Transactional is a sink in memory that stores the cursor together with the
// records. Passed to a Poller both as Sink and as Checkpointer it delivers
// exactly once. The zero value is a handle on a new, empty store, which may be
// written without a Load. [Transactional.Open] returns further handles on the
// same store, like those of a process that starts again. A Transactional must not
// be copied after first use and is safe for concurrent use.
//
// The embedded [Checkpoint] has the methods Load, Save, Rewind, Stored and History,
// and those that make the calls of this handle fail. Save moves the cursor alone;
// after a Write it finds the cursor moved.
type Transactional[T any] struct {
	Checkpoint

	// Refuse, if set, returns why a record is refused for good, or nil. See
	// [Fake].
	Refuse func(T) error

	// Limit, if above 0, is how many records a batch may have. See [Fake].
	Limit int

	batches *[]source.Batch[T] // of all handles; nil before first use
}

// shared returns the batches of all handles. The store is locked.
func (t *Transactional[T]) shared() *[]source.Batch[T] {
	if t.batches == nil {
		t.batches = new([]source.Batch[T])
	}
	return t.batches
}

// Open returns another handle on the same store, without the faults of this one.
func (t *Transactional[T]) Open() *Transactional[T] {
	s := t.locked()
	defer s.mu.Unlock()
	return &Transactional[T]{Checkpoint: Checkpoint{store: s}, Refuse: t.Refuse, Limit: t.Limit, batches: t.shared()}
}

// Write stores b and moves the cursor from b.From to b.To, both or neither. See
// [sink.Sink].
func (t *Transactional[T]) Write(ctx context.Context, b source.Batch[T]) error {
	return t.Do(ctx, write(b), func(*fault.Call) error {
		if err := refused(b, t.Limit, t.Refuse); err != nil {
			return err
		}
		return t.move(b.From, b.To, func() {
			all := t.shared()
			*all = append(*all, own(b))
		})
	})
}

// Batches returns the batches stored by all handles, in order.
func (t *Transactional[T]) Batches() []source.Batch[T] {
	s := t.locked()
	defer s.mu.Unlock()
	return slices.Clone(*t.shared())
}

// Records returns the records stored by all handles, in order.
func (t *Transactional[T]) Records() []T { return records(t.Batches()) }
