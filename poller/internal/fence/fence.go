// Package fence is the compare-and-swap that the checkpointers share: what may
// follow what, by the rules of poller.Checkpointer. It stores nothing.
package fence

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

const (
	defaultHistory = 20
	maxHistory     = 1000
)

// History returns what an option History of n means.
func History(n int) (int, error) {
	switch {
	case n == 0:
		return defaultHistory, nil
	case n < 0 || n > maxHistory:
		return 0, fmt.Errorf("Options.History is %d: set it to 1 up to %d, or leave it out for %d", n, maxHistory, defaultHistory)
	}
	return n, nil
}

// State is a checkpoint. Seq counts its changes, so that a cursor that went and
// came back is told from one that stayed.
type State struct {
	Cursor source.Cursor
	Writer string
	Seq    int64
	Time   time.Time
}

func (s State) same(t State) bool {
	return s.Cursor == t.Cursor && s.Writer == t.Writer && s.Seq == t.Seq
}

// token returns a random writer token of 60 bits.
func token() string { return rand.Text()[:12] }

// Handle knows what one handle on a checkpoint last loaded. It is safe for
// concurrent use.
type Handle struct {
	me string

	mu     sync.Mutex
	loaded bool
	seen   State
}

// NewHandle returns a handle with a token of its own.
func NewHandle() *Handle { return &Handle{me: token()} }

// Loaded notes what was loaded.
func (h *Handle) Loaded(s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loaded, h.seen = true, s
}

// Move decides what a Save does to the stored state: it returns the state to
// store, or moved false if this very Save has been stored before, or an error
// that wraps poller.ErrConflict.
//
// What this handle saved needs no remembering: its token is its own, so a state
// that bears it is the last that it stored, and nobody has come between. That
// holds also where a commit's answer was lost, or is the caller's to wait for.
func (h *Handle) Move(stored State, from, to source.Cursor) (next State, moved bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ready(); err != nil {
		return State{}, false, err
	}
	mine := stored.Writer == h.me
	switch {
	case mine && stored.Cursor == to:
		return stored, false, nil
	case stored.Cursor == from && (mine || stored.same(h.seen)):
		return State{Cursor: to, Writer: h.me, Seq: stored.Seq + 1, Time: now()}, true, nil
	}
	return State{}, false, fmt.Errorf("%w: expected %q, and as writer %s or this handle's %q, found %q by %s%s",
		poller.ErrConflict, from, name(h.seen.Writer), h.me, stored.Cursor, name(stored.Writer), when(stored.Time))
}

// Ready returns an error that wraps poller.ErrConflict before the first Loaded:
// a handle that has not looked cannot know where it left the cursor.
func (h *Handle) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready()
}

func (h *Handle) ready() error {
	if !h.loaded {
		return fmt.Errorf("%w, as far as this handle knows: it has not loaded the cursor yet, call Load first", poller.ErrConflict)
	}
	return nil
}

// Rewound returns the state after stored in which a human has set the cursor.
// Its token is new, so that no handle takes it for its own.
func Rewound(stored State, to source.Cursor) State {
	return State{Cursor: to, Writer: "rewind-" + token(), Seq: stored.Seq + 1, Time: now()}
}

// Valid returns an error that says what to do about a cursor that cannot be
// stored.
func Valid(cursors ...source.Cursor) error {
	for _, c := range cursors {
		if err := c.Validate(); err != nil {
			return fmt.Errorf("%w: nothing was stored; mend the source that makes such cursors", err)
		}
	}
	return nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func name(writer string) string {
	if writer == "" {
		return "nobody"
	}
	return fmt.Sprintf("%.40q", writer)
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " at " + t.Format(time.RFC3339)
}
