package durable

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// State is a stored cursor and who stored it. A sink stores all four fields in
// the transaction that stores the records. The zero State means that nothing
// has been stored yet.
type State struct {
	Cursor source.Cursor

	// Writer is the token of the Fence that stored the cursor: printable ASCII,
	// at most 32 bytes.
	Writer string

	// Seq counts the changes, so that a cursor that was moved away and back
	// differs from one that was never moved.
	Seq int64

	// Time is when the cursor was stored, in UTC, to the millisecond. It is for
	// people to read and is never compared.
	Time time.Time
}

func (s State) same(t State) bool {
	return s.Cursor == t.Cursor && s.Writer == t.Writer && s.Seq == t.Seq
}

// Fence is the compare-and-swap by which one handle on a store moves the cursor
// there, by the rules of poller.Checkpointer. It stores nothing itself. The
// caller reads the stored [State], passes it to Move, and stores what Move
// returns. Both happen in one transaction or under one lock, so that no other
// handle can store in between.
//
// Each Fence draws a random token, which marks every state it stores. The token
// tells a handle's own writes from those of a second handle that moves the same
// cursor in lockstep. Without it both would succeed at every step and store
// every record twice.
//
// The zero value is ready to use. A Fence is safe for concurrent use and must
// not be copied after first use.
type Fence struct {
	mu     sync.Mutex
	token  string
	loaded bool
	seen   State // last loaded
}

// Loaded tells the Fence which state its handle has loaded. The handle may move
// the cursor on from there.
func (f *Fence) Loaded(s State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded, f.seen = true, s
}

// Check returns the errors of [Fence.Move] that need no stored state: an invalid
// cursor, and a conflict before the first Loaded. Call it before a transaction
// begins.
func (f *Fence) Check(from, to source.Cursor) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.check(from, to)
}

func (f *Fence) check(from, to source.Cursor) error {
	for _, c := range []source.Cursor{from, to} {
		if err := valid(c); err != nil {
			return err
		}
	}
	if !f.loaded {
		return fmt.Errorf("%w: this handle has not loaded the cursor yet: call Load first", sink.ErrConflict)
	}
	return nil
}

// Move decides what to do about a batch that moves the cursor from one position
// to the next, given the stored state. It returns
//
//   - true and the state to store together with the batch's records, if from is
//     the stored cursor and the stored state is the one last loaded or one that
//     this Fence stored;
//   - false, if the stored cursor is to and this Fence stored it: an earlier
//     attempt was stored although its caller got an error. Store nothing and
//     report success;
//   - an error that wraps [sink.ErrConflict] in every other case: another handle
//     has moved the cursor, or a person has rewound it. Store nothing.
//
// Move changes nothing in the Fence. It does not matter whether the caller's
// transaction is committed, rolled back, or commits late: the stored state
// shows which. An invalid cursor is an error that does not wrap ErrConflict.
func (f *Fence) Move(stored State, from, to source.Cursor) (next State, moved bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check(from, to); err != nil {
		return State{}, false, err
	}
	if f.token == "" {
		f.token = token()
	}
	// The token is unique, so a state that has it is the last one this handle
	// stored, and nobody has stored since.
	mine := stored.Writer == f.token
	switch {
	case mine && stored.Cursor == to:
		return stored, false, nil
	case stored.Cursor == from && (mine || stored.same(f.seen)):
		return State{Cursor: to, Writer: f.token, Seq: stored.Seq + 1, Time: now()}, true, nil
	}
	return State{}, false, fmt.Errorf("%w: expected %q, stored by %s or by this handle (%s); found %q, stored by %s%s: load the cursor again, and run one pipeline only",
		sink.ErrConflict, from.Short(), name(f.seen.Writer), name(f.token), stored.Cursor.Short(), name(stored.Writer), when(stored.Time))
}

// Rewound returns the state to store when a person moves the cursor from stored
// to any other position of the same source. Its token is new: every handle that
// has loaded or stored the cursor before gets a conflict at its next Move. An
// error means that the cursor is invalid.
func Rewound(stored State, to source.Cursor) (State, error) {
	if err := valid(to); err != nil {
		return State{}, err
	}
	return State{Cursor: to, Writer: "rewind-" + token(), Seq: stored.Seq + 1, Time: now()}, nil
}

func valid(c source.Cursor) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("%w: nothing was stored; fix the source that makes such cursors", err)
	}
	return nil
}

// token returns 60 random bits as text.
func token() string { return rand.Text()[:12] }

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
