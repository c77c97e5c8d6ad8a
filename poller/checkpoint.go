package poller

import (
	"context"
	"errors"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Checkpointer stores the cursor of a pipeline.
//
// Load returns the stored cursor, or the empty cursor if none has been stored.
//
// Save replaces the stored cursor, from, with another, to, durably. It is a
// compare-and-swap with an owner: each handle, as returned by a constructor,
// draws a random writer token, and the store keeps the cursor together with the
// token of the handle that wrote it.
//
//   - If the stored cursor is from, and the stored pair is the one that this
//     handle last loaded or saved, Save stores to with this handle's token.
//     The store counts Saves and compares the count too, because one handle can
//     move the cursor on and back, which stores the same pair again.
//   - If to is already stored with this handle's token, Save returns nil and
//     stores nothing: an earlier Save succeeded, but its answer was lost.
//   - Otherwise Save returns an error that wraps [ErrConflict]: another writer
//     has moved the cursor, or a human has rewound it.
//
// So Save(from, from) moves nothing, and its success proves that nobody else has
// moved the cursor since this handle loaded or saved it, not even there and back. The
// Poller relies on that before it goes on with a batch that it has in memory, see
// [Poller.Run].
//
// Without the token, two pollers in lockstep could both succeed for ever, and
// each would write every record.
//
// An error that wraps ErrConflict means that nothing was stored. After any other
// error the cursor may or may not have been stored: the caller calls Save again,
// or gives up. Neither method retries or logs. When ctx ends, both return soon,
// with an error. Calls for one pipeline are made one at a time, but not
// necessarily from the same goroutine.
//
// A sink that stores records and cursor atomically is both the Sink and the
// Checkpointer of a Poller. Its Write moves the cursor by the rules of Save. The
// Save that follows then finds the cursor already moved and returns nil.
type Checkpointer interface {
	Load(ctx context.Context) (source.Cursor, error)
	Save(ctx context.Context, from, to source.Cursor) error
}

// ErrConflict is [sink.ErrConflict]: another writer has moved the checkpoint. It
// ends Run.
var ErrConflict = sink.ErrConflict

// ErrHeld is wrapped by the error that [Poller.Drain] returns when records are
// still held back after DrainWait.
var ErrHeld = errors.New("records are still held back")

// ErrRunning is wrapped by the error that [Poller.Run] and [Poller.Drain] return
// when the Poller is already running.
var ErrRunning = errors.New("already running")
