package sqlcheckpoint

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/internal/fence"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Options change how a [Store] works. The zero value is good.
type Options struct {
	// Table is the table, TABLE or SCHEMA.TABLE, quoted as it is: any pipelines
	// may share it. Defaults to devotion_checkpoint.
	Table string

	// History is how many cursors the row remembers, the current one included.
	// Defaults to 20; at most 1,000.
	History int

	// Dialect is the kind of database. Defaults to what the driver's name says.
	Dialect Dialect
}

// Store is a handle on a pipeline's row of the table: a poller.Checkpointer. It
// is safe for concurrent use.
type Store struct {
	db      *sqlx.DB
	name    string
	history int
	dialect Dialect
	sql     statements
	handle  *fence.Handle
	ready   atomic.Bool // the table exists
}

// New returns a handle on the row of the pipeline called name. It does not ask
// the database yet. The db stays the caller's to close.
func New(db *sqlx.DB, name string, o Options) (*Store, error) {
	fail := func(err error) (*Store, error) { return nil, fmt.Errorf("sqlcheckpoint: %w", err) }
	if db == nil {
		return fail(errors.New("the database is nil"))
	}
	if err := checkName(name); err != nil {
		return fail(err)
	}
	history, err := fence.History(o.History)
	if err != nil {
		return fail(err)
	}
	switch o.Dialect {
	case Postgres, MySQL, SQLite:
	case "":
		if o.Dialect, err = dialectOf(db.DriverName()); err != nil {
			return fail(err)
		}
	default:
		return fail(fmt.Errorf("Options.Dialect %q is not known: set it to Postgres, MySQL or SQLite", o.Dialect))
	}
	if o.Table == "" {
		o.Table = "devotion_checkpoint"
	}
	table, err := o.Dialect.quote(o.Table)
	if err != nil {
		return fail(err)
	}
	return &Store{
		db: db, name: name, history: history, dialect: o.Dialect,
		sql: o.Dialect.statements(table), handle: fence.NewHandle(),
	}, nil
}

// Schema returns the statement that creates the table.
func (s *Store) Schema() string { return s.sql.create }

// Load returns the stored cursor. If there is no row yet it inserts one with the
// empty cursor, and if there is no table it creates that. It is an error if this
// handle has loaded the row before and it has gone.
func (s *Store) Load(ctx context.Context) (source.Cursor, error) {
	r, err := s.loadOrInsert(ctx, false)
	if err != nil {
		return "", s.error("load", err)
	}
	s.handle.Loaded(r.state())
	return r.Cursor, nil
}

// Save moves the cursor, see poller.Checkpointer. Before the first Load of this
// handle it returns an error that wraps poller.ErrConflict.
func (s *Store) Save(ctx context.Context, from, to source.Cursor) error {
	if err := s.check(from, to); err != nil {
		return s.error("save", err)
	}
	err := s.swap(ctx, func() (row, error) { return s.load(ctx, s.db, s.sql.load) }, func(r row) (row, bool, error) {
		next, moved, err := s.handle.Move(r.state(), from, to)
		return r.next(next, s.history), moved, err
	})
	if err != nil {
		return s.error("save", err)
	}
	return nil
}

// Advance does within the caller's transaction what Save does, for a sink that
// writes rows to the same database. It returns
//
//   - true if it has moved the cursor: write the rows, and commit;
//   - false if this handle has moved it already: the commit of an earlier try went
//     through though its answer was lost. Its rows are stored; write none;
//   - an error that wraps poller.ErrConflict if another writer has moved it, or any
//     other error. Roll back.
//
// Call it first in the transaction: it locks the pipeline's row, so that a
// second pipeline waits rather than write the same rows, and then has its
// conflict. If the transaction is rolled back, or its commit fails, call Advance
// again in the next one. The Save that follows in a Poller finds the cursor
// moved already. Load must have been called before.
//
// On Postgres it sets idle_in_transaction_session_timeout for this transaction
// to what is left until ctx's deadline, if there is one.
func (s *Store) Advance(ctx context.Context, tx sqlx.ExtContext, from, to source.Cursor) (moved bool, err error) {
	if _, plain := tx.(*sqlx.DB); plain {
		return false, s.error("advance", errors.New("tx is a *sqlx.DB, which commits each statement: begin a transaction and pass that"))
	}
	if err := s.check(from, to); err != nil {
		return false, s.error("advance", err)
	}
	if moved, err = s.advance(ctx, tx, from, to); err != nil {
		return false, s.error("advance", err)
	}
	return moved, nil
}

func (s *Store) advance(ctx context.Context, tx sqlx.ExtContext, from, to source.Cursor) (bool, error) {
	if at, limited := ctx.Deadline(); limited && s.dialect == Postgres {
		ms := min(max(time.Until(at).Milliseconds(), 1), math.MaxInt32)
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", ms)); err != nil {
			return false, err
		}
	}
	if s.sql.lock != "" {
		if _, err := tx.ExecContext(ctx, s.sql.lock, s.name); err != nil {
			return false, err
		}
	}
	r, err := s.load(ctx, tx, s.sql.loadLocked)
	if err != nil {
		return false, err
	}
	next, moved, err := s.handle.Move(r.state(), from, to)
	if err != nil || !moved {
		return false, err
	}
	switch stored, err := s.update(ctx, tx, r, r.next(next, s.history)); {
	case err != nil:
		return false, err
	case !stored:
		return false, errors.New("the row changed though it is locked: is tx a transaction, and the table's engine one that has them?")
	}
	return true, nil
}

// History returns the last cursors, newest first, beginning with the current
// one. A rewind in plain SQL shows with the time of the cursor it replaced,
// unless it set saved_at.
func (s *Store) History(ctx context.Context) ([]Entry, error) {
	r, err := s.load(ctx, s.db, s.sql.load)
	if err != nil {
		return nil, s.error("history", err)
	}
	entries, err := r.entries(s.history)
	if err != nil {
		return nil, s.error("history", err)
	}
	return entries, nil
}

// Rewind sets the cursor to any of the same source, such as one of History, or
// to the empty one for the beginning. It stores a writer token that is new, so
// that a pipeline that runs, on this handle or another, ends with
// poller.ErrConflict at its next Save or Write rather than undo the rewind. It
// also mends a row that has gone.
func (s *Store) Rewind(ctx context.Context, to source.Cursor) error {
	if err := fence.Valid(to); err != nil {
		return s.error("rewind", err)
	}
	err := s.swap(ctx, func() (row, error) { return s.loadOrInsert(ctx, true) }, func(r row) (row, bool, error) {
		return r.next(fence.Rewound(r.state(), to), s.history), true, nil
	})
	if err != nil {
		return s.error("rewind", err)
	}
	return nil
}

func (s *Store) check(from, to source.Cursor) error {
	if err := fence.Valid(from, to); err != nil {
		return err
	}
	return s.handle.Ready()
}

// swap loads the row and stores what decide makes of it, unless that is
// nothing. If the row has changed in between it begins again: only decide can
// tell a rival from a statement of this handle's that came late.
func (s *Store) swap(ctx context.Context, load func() (row, error), decide func(row) (next row, moved bool, err error)) error {
	var last row
	for try := 0; ; try++ {
		r, err := load()
		if err != nil {
			return err
		}
		if try > 0 && r == last { // nobody came between
			return errors.New("the row can be read but does not change: is there a trigger, a rule or a policy on the table that skips updates, or a replica that is read instead?")
		}
		last = r
		next, moved, err := decide(r)
		if err != nil || !moved {
			return err
		}
		if stored, err := s.update(ctx, s.db, r, next); err != nil || stored {
			return err
		}
	}
}

// update stores next if the row is still r. Every update changes seq, so MySQL
// counts the row also where it counts changed rows only.
func (s *Store) update(ctx context.Context, db sqlx.ExtContext, r, next row) (stored bool, err error) {
	result, err := db.ExecContext(ctx, s.sql.update,
		string(next.Cursor), next.Writer, next.Seq, next.SavedAt, next.History, s.name, r.Writer, r.Seq)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

var errGone = errors.New("the row has gone, which is no new start: insert it again, or Rewind to where to go on from")

func (s *Store) load(ctx context.Context, db sqlx.QueryerContext, query string) (row, error) {
	var r row // not by its fields' names, which the caller's sqlx.DB may map in its own way
	var name string
	err := db.QueryRowxContext(ctx, query, s.name).Scan(&name, &r.Cursor, &r.Writer, &r.Seq, &r.SavedAt, &r.History)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = errGone
	case err == nil && name != s.name:
		err = fmt.Errorf("the row found is that of %q: the table's column name takes the two for one, so make the table as Store.Schema has it", name)
	}
	return r, err
}

// loadOrInsert loads the row, and makes what is missing: the table, unless this
// handle has seen it, and the row, unless it has loaded that or anew is true.
func (s *Store) loadOrInsert(ctx context.Context, anew bool) (row, error) {
	if err := s.makeTable(ctx); err != nil {
		return row{}, err
	}
	r, err := s.load(ctx, s.db, s.sql.load)
	if known := s.handle.Ready() == nil; !errors.Is(err, errGone) || known && !anew {
		return r, err
	}
	_, failed := s.db.ExecContext(ctx, s.sql.insert, s.name, "", "", 0, time.Now().UTC().Format(timeFormat), "")
	r, err = s.load(ctx, s.db, s.sql.load)
	if err != nil && failed != nil { // else another handle was first
		return r, failed
	}
	return r, err
}

// makeTable creates the table if it cannot be read. Where two do so at once
// Postgres may refuse one of them in spite of IF NOT EXISTS, and where the table
// exists the role need not be allowed to create it: so reading decides.
func (s *Store) makeTable(ctx context.Context) error {
	if s.ready.Load() {
		return nil
	}
	probe := func() error {
		rows, err := s.db.QueryContext(ctx, s.sql.probe)
		if err != nil {
			return err
		}
		return errors.Join(rows.Err(), rows.Close())
	}
	err := probe()
	if err != nil {
		if _, failed := s.db.ExecContext(ctx, s.sql.create); failed != nil {
			if again := probe(); again != nil {
				return fmt.Errorf("the table cannot be read (%w) nor created: %w", again, failed)
			}
		} else if err = probe(); err != nil {
			return fmt.Errorf("the table exists but cannot be read; if it is not one of this package, set Options.Table: %w", err)
		}
	}
	s.ready.Store(true)
	return nil
}

// safeError shows a driver's error without the values it may hold, such as a
// data source name with its password.
type safeError struct {
	prefix string
	err    error
}

func (s *Store) error(op string, err error) error {
	return &safeError{fmt.Sprintf("sqlcheckpoint: %q: %s: ", s.name, op), err}
}

func (e *safeError) Error() string { return e.prefix + retry.Text(e.err) }
func (e *safeError) Unwrap() error { return e.err }
