package poller

import (
	"context"
	"errors"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Checkpointer remembers how far a pipeline got.
//
// Load returns the stored cursor, and the empty cursor if none was stored yet.
//
// Save moves the stored cursor from one to the next, durably, by comparing and
// swapping. Each handle, as a constructor returns it, draws a random writer
// token, and the store keeps (cursor, writer). Save succeeds if both are what
// this handle last loaded or saved, from is the stored cursor, and stores
// (to, its own token). It also succeeds, and stores nothing, if the store
// already holds to under this handle's own token: the answer to an earlier Save
// was lost. Anything else is an error that wraps [ErrConflict]: another writer
// has moved the cursor, or a human has rewound it. Without the token two
// pollers in lockstep would both succeed for ever, each writing every row.
//
// An error that wraps ErrConflict means that nothing was stored; any other may
// mean either, and the caller saves again or ends. Neither method retries or
// logs. Both honour ctx and return soon after it ends. Calls for one pipeline
// come one at a time, but need not come from one goroutine.
//
// A sink that stores cursor and records atomically is passed to the Poller both
// as Sink and as Checkpointer. Its Write moves the cursor by the rules of Save,
// and the Save that follows finds the cursor moved already.
type Checkpointer interface {
	Load(ctx context.Context) (source.Cursor, error)
	Save(ctx context.Context, from, to source.Cursor) error
}

// ErrConflict is [sink.ErrConflict]. It ends Run.
var ErrConflict = sink.ErrConflict

// ErrHeld is wrapped by the error of [Poller.Drain] when records were still
// held back after DrainWait.
var ErrHeld = errors.New("records are still held back")

// ErrRunning is wrapped by the error of [Poller.Run] and [Poller.Drain] when
// the Poller is running already.
var ErrRunning = errors.New("already running")
