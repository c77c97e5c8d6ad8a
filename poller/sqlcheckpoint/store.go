package sqlcheckpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Options change how a [Store] works. The zero value is ready to use.
type Options struct {
	// Table is the table: TABLE or SCHEMA.TABLE, quoted as written. Any number of
	// pipelines may share it. Defaults to devotion_checkpoint.
	Table string

	// History is how many cursors the row keeps, including the current one.
	// Defaults to 20; at most 1,000.
	History int

	// Dialect is the database's SQL. nil finds it by the driver.
	Dialect dialect.Dialect
}

// Store is a handle on a pipeline's row of the table: a poller.Checkpointer. It
// is safe for concurrent use.
type Store struct {
	db      *sqlx.DB
	name    string
	history int
	dialect dialect.Dialect
	sql     statements
	fence   durable.Fence
	trip    atomic.Pointer[rewrite]
	ready   atomic.Bool // the table exists
	loaded  atomic.Bool // this handle has loaded the row
}

// New returns a handle on the row of the pipeline called name. It does not
// access the database yet. The caller closes db.
func New(db *sqlx.DB, name string, o Options) (*Store, error) {
	fail := func(err error) (*Store, error) { return nil, fmt.Errorf("sqlcheckpoint: %w", err) }
	if db == nil {
		return fail(errors.New("the database is nil"))
	}
	if err := checkName(name); err != nil {
		return fail(err)
	}
	history := cmp.Or(o.History, 20)
	if history < 1 || history > 1000 {
		return fail(fmt.Errorf("Options.History is %d: set it to 1 up to 1,000, or leave it out for 20", history))
	}
	if o.Dialect == nil {
		d, err := builtin.Find(db)
		if err != nil {
			return fail(err)
		}
		o.Dialect = d
	}
	table, err := quote(o.Dialect, cmp.Or(o.Table, "devotion_checkpoint"))
	if err != nil {
		return fail(err)
	}
	return &Store{
		db: db, name: name, history: history, dialect: o.Dialect,
		sql: statementsFor(o.Dialect, table),
	}, nil
}

// Schema returns the statement that creates the table.
func (s *Store) Schema() string { return s.sql.create }

// Load returns the stored cursor. It creates the table and the row, with the
// empty cursor, if they do not exist. It is an error if this handle has loaded
// the row before and it no longer exists.
func (s *Store) Load(ctx context.Context) (source.Cursor, error) {
	r, err := s.loadOrInsert(ctx, false)
	if err != nil {
		return "", s.error("load", err)
	}
	s.fence.Loaded(r.state())
	s.loaded.Store(true)
	return r.Cursor, nil
}

// Save moves the cursor, see poller.Checkpointer. Before the first Load of this
// handle the error wraps poller.ErrConflict.
func (s *Store) Save(ctx context.Context, from, to source.Cursor) error {
	if err := s.fence.Check(from, to); err != nil {
		return s.error("save", err)
	}
	load := func() (row, error) { return s.load(ctx, pool{s}, s.sql.load) }
	return s.error("save", s.swap(ctx, load, func(r row) (durable.State, bool, error) {
		return s.fence.Move(r.state(), from, to)
	}))
}

// Advance is Save within the caller's transaction, for a sink that writes rows to
// the same database. It returns
//
//   - true if it has moved the cursor: write the rows and commit;
//   - false if this handle has moved it already: the commit of an earlier attempt
//     succeeded although its answer was lost. Write no rows;
//   - an error that wraps poller.ErrConflict if another writer has moved it, or
//     another error: roll back.
//
// Call it first in the transaction. It locks the pipeline's row, so a second
// pipeline waits, and gets a conflict instead of writing the same rows. If the
// transaction is rolled back or its commit fails, call Advance again in the next
// one. The Poller calls Save after Write, which finds the cursor moved already.
// Load must have been called before.
//
// On Postgres, if ctx has a deadline, Advance sets
// idle_in_transaction_session_timeout for this transaction to the time left.
func (s *Store) Advance(ctx context.Context, tx sqlx.ExtContext, from, to source.Cursor) (moved bool, err error) {
	defer func() { err = s.error("advance", err) }()
	if _, plain := tx.(*sqlx.DB); plain {
		return false, errors.New("tx is a *sqlx.DB, which commits each statement: begin a transaction and pass that")
	}
	if err := s.fence.Check(from, to); err != nil {
		return false, err
	}
	if at, limited := ctx.Deadline(); limited {
		ms := min(max(time.Until(at).Milliseconds(), 1), math.MaxInt32)
		if limit := s.dialect.IdleTimeout(ms); limit != "" {
			if _, err := tx.ExecContext(ctx, limit); err != nil {
				return false, err
			}
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
	next, moved, err := s.fence.Move(r.state(), from, to)
	if err != nil || !moved {
		return false, err
	}
	switch stored, err := s.update(ctx, tx, r, next); {
	case err != nil:
		return false, err
	case !stored:
		return false, errors.New("the row changed although it is locked: is tx a transaction, and does the table's engine support transactions?")
	}
	return true, nil
}

// History returns the last cursors, newest first, beginning with the current
// one. A rewind in plain SQL that does not set saved_at has the time of the
// cursor it replaced.
func (s *Store) History(ctx context.Context) ([]Entry, error) {
	r, err := s.load(ctx, pool{s}, s.sql.load)
	if err != nil {
		return nil, s.error("history", err)
	}
	entries, err := r.entries(s.history)
	return entries, s.error("history", err)
}

// Rewind sets the cursor to any cursor of the same source, such as one of
// History, or to the empty cursor to start over. It stores a new writer token, so
// a running pipeline, on this handle or another, ends with poller.ErrConflict at
// its next Save or Write and does not undo the rewind. If the row no longer
// exists, Rewind creates it.
func (s *Store) Rewind(ctx context.Context, to source.Cursor) error {
	if err := to.Validate(); err != nil { // before a missing row is inserted
		return s.error("rewind", err)
	}
	load := func() (row, error) { return s.loadOrInsert(ctx, true) }
	return s.error("rewind", s.swap(ctx, load, func(r row) (durable.State, bool, error) {
		next, err := durable.Rewound(r.state(), to)
		return next, true, err
	}))
}

// swap loads the row and stores what decide returns, if it moved. If the row has
// changed in between, swap starts over: only decide can tell another writer from
// a late statement of this handle.
func (s *Store) swap(ctx context.Context, load func() (row, error), decide func(row) (next durable.State, moved bool, err error)) error {
	var last row
	for try := 0; ; try++ {
		r, err := load()
		if err != nil {
			return err
		}
		if try > 0 && r == last { // nobody else has changed it
			return errors.New("the row can be read but does not change: does a trigger, a rule or a policy on the table skip updates, or does db read from a replica?")
		}
		last = r
		next, moved, err := decide(r)
		if err != nil || !moved {
			return err
		}
		if stored, err := s.update(ctx, pool{s}, r, next); err != nil || stored {
			return err
		}
	}
}

// update stores the state if the row is still r. Every update changes seq, so MySQL
// counts the row even where it counts changed rows only.
func (s *Store) update(ctx context.Context, db queryer, r row, to durable.State) (stored bool, err error) {
	next := r.next(to, s.history)
	result, err := db.ExecContext(ctx, s.sql.update,
		string(next.Cursor), next.Writer, next.Seq, next.SavedAt, next.History, s.name, r.Writer, r.Seq)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

var errGone = errors.New("the row no longer exists, which is not a new start: stop the pipeline, then insert it again, or Rewind to the cursor to continue from")

func (s *Store) load(ctx context.Context, db queryer, query string) (row, error) {
	var r row // scanned by position: the caller's sqlx.DB may map field names differently
	var name string
	rows, err := db.QueryContext(ctx, query, s.name)
	if err != nil {
		return r, err
	}
	defer rows.Close()
	found := rows.Next()
	if found {
		err = rows.Scan(&name, &r.Cursor, &r.Writer, &r.Seq, &r.SavedAt, &r.History)
	}
	err = cmp.Or(err, rows.Err(), rows.Close())
	switch {
	case err == nil && !found:
		err = errGone
	case err == nil && name != s.name:
		err = fmt.Errorf("the database returned the row of %q: the table's column name compares the two as equal, so create the table with Store.Schema", name)
	}
	return r, err
}

// loadOrInsert loads the row. It creates the table if this handle has not seen
// it, and the row if this handle has not loaded it or recreate is true.
func (s *Store) loadOrInsert(ctx context.Context, recreate bool) (row, error) {
	if err := s.makeTable(ctx); err != nil {
		return row{}, err
	}
	r, err := s.load(ctx, pool{s}, s.sql.load)
	if !errors.Is(err, errGone) || s.loaded.Load() && !recreate {
		return r, err
	}
	_, failed := pool{s}.ExecContext(ctx, s.sql.insert, s.name, "", "", 0, time.Now().UTC().Format(timeFormat), "")
	r, err = s.load(ctx, pool{s}, s.sql.load)
	if err != nil && failed != nil { // otherwise another handle has inserted it
		return r, failed
	}
	return r, err
}

// makeTable creates the table if it cannot be read. It decides by reading,
// because Postgres may refuse one of two concurrent CREATE TABLE IF NOT EXISTS,
// and because the role may lack the privilege to create a table that exists.
func (s *Store) makeTable(ctx context.Context) error {
	if s.ready.Load() {
		return nil
	}
	probe := func() error {
		rows, err := pool{s}.QueryContext(ctx, s.sql.probe)
		if err != nil {
			return err
		}
		return errors.Join(rows.Err(), rows.Close())
	}
	if probe() != nil {
		_, failed := pool{s}.ExecContext(ctx, s.sql.create)
		switch err := probe(); {
		case err != nil && failed != nil:
			return fmt.Errorf("the table cannot be read (%w) nor created: %w", err, failed)
		case err != nil:
			return fmt.Errorf("the table exists but cannot be read; if it belongs to something else, set Options.Table: %w", err)
		}
	}
	s.ready.Store(true)
	return nil
}

// safeError shows a driver's error without the values it may contain, such as a
// data source name with its password.
type safeError struct {
	prefix string
	err    error
}

func (s *Store) error(op string, err error) error {
	if err == nil {
		return nil
	}
	return &safeError{fmt.Sprintf("sqlcheckpoint: %q: %s: ", s.name, op), err}
}

func (e *safeError) Error() string { return e.prefix + retry.Text(e.err) }
func (e *safeError) Unwrap() error { return e.err }
