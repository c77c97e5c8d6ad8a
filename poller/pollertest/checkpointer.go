package pollertest

import (
	"context"
	"fmt"

	"github.com/artifactofdevotion/devotion/internal/memory"
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

	memory memory.Handle[source.Cursor]
}

// Open returns another handle on the same store, without the faults of this one.
func (c *Checkpointer) Open() *Checkpointer {
	other := &Checkpointer{}
	other.memory.OpenOn(&c.memory)
	return other
}

// Load returns the stored cursor. See [poller.Checkpointer].
func (c *Checkpointer) Load(ctx context.Context) (source.Cursor, error) {
	return c.memory.Load(ctx, &c.Injector)
}

// Save moves the stored cursor. See [poller.Checkpointer].
func (c *Checkpointer) Save(ctx context.Context, from, to source.Cursor) error {
	return c.Do(ctx, fault.Call{Op: "Save", From: from, To: to}, func(*fault.Call) error {
		if err := c.memory.Move(from, to, to); err != nil {
			return fmt.Errorf("pollertest: save from %q to %q: %w", from, to, err)
		}
		return nil
	})
}

// Rewind sets the stored cursor, as a person does who wants records again. Every
// handle must load it before it goes on. An invalid cursor panics.
func (c *Checkpointer) Rewind(to source.Cursor) {
	if err := c.memory.Rewind(to, to); err != nil {
		panic(fmt.Errorf("pollertest: rewind: %w", err))
	}
}

// Stored returns the stored cursor. It is not a Load: the handle may not move the
// cursor on from there.
func (c *Checkpointer) Stored() source.Cursor {
	at, _ := c.memory.Stored()
	return at
}

// History returns every cursor that was stored, by all handles, oldest first.
func (c *Checkpointer) History() []source.Cursor {
	_, all := c.memory.Stored()
	return all
}
