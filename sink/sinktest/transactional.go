package sinktest

import (
	"context"
	"fmt"

	"github.com/artifactofdevotion/devotion/internal/memory"
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
// The methods of the embedded Injector make the calls of this handle fail.
type Transactional[T any] struct {
	fault.Injector

	// Refuse, if set, returns why a record is refused for good, or nil. See
	// [Fake].
	Refuse func(T) error

	memory memory.Handle[source.Batch[T]]
}

// Open returns another handle on the same store, without the faults of this one.
func (t *Transactional[T]) Open() *Transactional[T] {
	other := &Transactional[T]{Refuse: t.Refuse}
	other.memory.OpenOn(&t.memory)
	return other
}

// Write stores b and moves the cursor from b.From to b.To, both or neither. See
// [sink.Sink].
func (t *Transactional[T]) Write(ctx context.Context, b source.Batch[T]) error {
	return t.Do(ctx, write(b), func(*fault.Call) error {
		if err := refused(b, t.Refuse); err != nil {
			return err
		}
		return t.move(b.From, b.To, own(b))
	})
}

// Load returns the stored cursor. See poller.Checkpointer.
func (t *Transactional[T]) Load(ctx context.Context) (source.Cursor, error) {
	return t.memory.Load(ctx, &t.Injector)
}

// Save moves the cursor alone. After a Write it finds the cursor moved. See
// poller.Checkpointer.
func (t *Transactional[T]) Save(ctx context.Context, from, to source.Cursor) error {
	return t.Do(ctx, fault.Call{Op: "Save", From: from, To: to}, func(*fault.Call) error { return t.move(from, to) })
}

func (t *Transactional[T]) move(from, to source.Cursor, batches ...source.Batch[T]) error {
	if err := t.memory.Move(from, to, batches...); err != nil {
		return fmt.Errorf("sinktest: from %q to %q: %w", from, to, err)
	}
	return nil
}

// Rewind sets the stored cursor, as a person does who wants records again. Every
// handle must load it before it goes on. An invalid cursor panics.
func (t *Transactional[T]) Rewind(to source.Cursor) {
	if err := t.memory.Rewind(to); err != nil {
		panic(fmt.Errorf("sinktest: rewind: %w", err))
	}
}

// Stored returns the stored cursor. It is not a Load: the handle may not move the
// cursor on from there.
func (t *Transactional[T]) Stored() source.Cursor {
	c, _ := t.memory.Stored()
	return c
}

// Batches returns the batches stored by all handles, in order.
func (t *Transactional[T]) Batches() []source.Batch[T] {
	_, batches := t.memory.Stored()
	return batches
}

// Records returns the records stored by all handles, in order.
func (t *Transactional[T]) Records() []T { return records(t.Batches()) }
