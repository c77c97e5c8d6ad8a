package ceiling

import (
	"context"
	"time"
)

// Transactions lists the transactions of a database that are open, for [Stamp].
type Transactions interface {
	// Since says in words since when a transaction is listed: "its transaction began".
	Since() string

	// Clock returns what the database's clock shows, at a moment after the call began.
	Clock(ctx context.Context, db Queryer) (time.Time, error)

	// List returns all transactions that had begun when the clock showed at, and have not ended, and maybe others. clock is
	// what Clock has returned, and at the same or less. Each is listed by an id that it keeps until it ends, unless it
	// Inherits, and until all statements that begin later see its writes. before is the last list.
	// A nil map says that the database has not returned a list that is new enough.
	List(ctx context.Context, db Queryer, clock time.Time, before map[string]*Holder) (at time.Time, open map[string]*Holder, err error)

	// Describe names some of those that are listed, for people.
	Describe(ctx context.Context, db Queryer, by []*Holder) ([]string, error)
}

// Unlisted is for a database that does not list its transactions. It is the statement that returns what the clock
// shows, in microseconds since 1970.
type Unlisted string

// Since implements [Transactions].
func (Unlisted) Since() string { return "it was committed" }

// Clock implements [Transactions].
func (u Unlisted) Clock(ctx context.Context, db Queryer) (time.Time, error) {
	return ReadClock(ctx, db, string(u))
}

// List implements [Transactions].
func (Unlisted) List(_ context.Context, _ Queryer, clock time.Time, _ map[string]*Holder) (time.Time, map[string]*Holder, error) {
	return clock, map[string]*Holder{}, nil
}

// Describe implements [Transactions].
func (Unlisted) Describe(context.Context, Queryer, []*Holder) ([]string, error) { return nil, nil }

// ReadClock runs a statement that returns microseconds since 1970.
func ReadClock(ctx context.Context, db Queryer, statement string) (time.Time, error) {
	var micros int64
	err := db.QueryRowContext(ctx, statement).Scan(&micros)
	return time.UnixMicro(micros), err
}
