package sqlsink

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Options change how a [Sink] works. The zero value is ready to use.
type Options struct {
	// Key has the columns that identify a row, for Upsert and for Create. For Upsert the table must have a unique key of
	// these columns. Defaults to the table's primary key, or else to its first unique key.
	Key []string

	// Create creates a table that does not exist, with the types that the source states and Key as
	// the primary key, and adds columns that the table lacks. It changes no existing column. Values
	// that the type of the source allows and that of the target does not are rejected one by one.
	Create bool

	// Target returns the table that Apply writes the changes of a source's table to. Nil removes
	// the schema: those of public.orders go to orders.
	Target func(source string) string

	// Checkpoint has the options of the table that keeps the cursor. It is in the database that
	// the rows are written to.
	Checkpoint sqlcheckpoint.Options
}

// Sink writes batches into a database, each with its cursor in one transaction. It is a
// [sink.Sink] and, by the embedded Store, a poller.Checkpointer. Only one Write may run at a
// time; the methods of the Store are safe for concurrent use.
type Sink[T any] struct {
	*sqlcheckpoint.Store
	db      *sqlx.DB
	engine  engine
	batches func(records []T, single bool) ([]run, error)
	targets map[string]*target // by the table's name
	create  bool
	folds   bool // a batch is written in another order than that of its records
}

// engine writes into one database.
type engine interface {
	dialect.Dialect

	// read returns a table from the catalogue, and nil if it does not exist.
	read(ctx context.Context, db *sqlx.Conn, name []string) (*table, error)

	// session prepares a connection for the transaction, and returns what sets it back.
	session(ctx context.Context, conn *sqlx.Conn, runs []run) (restore func(), err error)

	// write writes rows as the plan says.
	write(ctx context.Context, tx *sqlx.Tx, p *plan, rows []row.Row) error

	// remove deletes the rows with these keys.
	remove(ctx context.Context, tx *sqlx.Tx, p *plan, keys []row.Row) error

	// expr returns an expression for a value. It adds the argument, if there is one, to args.
	expr(f *field, v value, args *dialect.Args) (string, error)

	// culprit returns the column whose value of a row the database refuses, and "" if it
	// cannot tell.
	culprit(ctx context.Context, conn *sqlx.Conn, p *plan, r row.Row) string

	// declare returns the type of a new column for values of a type. key is how many columns the
	// key has that it belongs to, 0 if it belongs to none.
	declare(t row.Type, key int) string

	traits() traits
}

// run is a series of rows of one table with the same columns, which are written in the same way.
type run struct {
	table string
	use   use
	key   []string // the columns that identify a row
	rows  []row.Row
	old   row.Row // the key of the one row of an update
	moves bool    // the update changes the key
	plan  *plan
	found *plan // for old
}

// use says what rows are for.
type use uint8

const (
	inserts   use = iota
	upserts       // by the key
	updates       // of a row that exists, with some of its columns; old is its key before
	deletes       // rows are keys
	truncates     // without rows
)

// Insert returns a sink that inserts each row into a table as a new one. A row whose key exists
// is rejected, see [sink.Reject]. name is the pipeline's name in the table of cursors. table is
// TABLE or SCHEMA.TABLE, as of [github.com/artifactofdevotion/devotion/source/sqlsource.Table].
// Insert does not access the database yet. The caller closes db.
func Insert(db *sqlx.DB, name, table string, o Options) (*Sink[row.Row], error) {
	if len(o.Key) > 0 && !o.Create {
		return nil, errors.New("sqlsink: Options.Key is set: it is for Upsert and for Create")
	}
	return rowsInto(db, name, table, o, inserts)
}

// Upsert returns a sink that inserts each row, or updates the row of the table that has its key.
// Columns that the source lacks keep their value. Of several rows of one batch with the same key
// the last one counts. The other arguments are those of [Insert].
func Upsert(db *sqlx.DB, name, table string, o Options) (*Sink[row.Row], error) {
	return rowsInto(db, name, table, o, upserts)
}

func rowsInto(db *sqlx.DB, name, table string, o Options, how use) (*Sink[row.Row], error) {
	s, err := open[row.Row](db, name, o)
	if err == nil && o.Target != nil {
		err = errors.New("Options.Target is set: it is for Apply")
	}
	if err == nil {
		err = s.addTarget(table)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlsink: %w", err)
	}
	s.batches = func(rows []row.Row, _ bool) ([]run, error) {
		return runsOf(run{table: table, use: how, key: o.Key}, rows), nil
	}
	return s, nil
}

func open[T any](db *sqlx.DB, name string, o Options) (*Sink[T], error) {
	s := &Sink[T]{db: db, targets: map[string]*target{}, create: o.Create}
	var err error
	if s.Store, err = sqlcheckpoint.New(db, name, o.Checkpoint); err != nil {
		return nil, err
	}
	d := o.Checkpoint.Dialect
	if d == nil {
		if d, err = builtin.Find(db); err != nil {
			return nil, err
		}
	}
	s.engine, err = engineOf(d)
	return s, err
}

func (s *Sink[T]) addTarget(label string) error {
	parts, err := dialect.SplitName(label)
	if err != nil {
		return fmt.Errorf("the table %q: %w", label, err)
	}
	s.targets[label] = &target{label: label, parts: parts}
	return nil
}

// runsOf splits rows where their columns change.
func runsOf(r run, rows []row.Row) (runs []run) {
	for from := 0; from < len(rows); {
		columns, to := rows[from].Columns(), from+1
		for to < len(rows) && sameColumns(rows[to].Columns(), columns) {
			to++
		}
		r.rows = rows[from:to]
		runs = append(runs, r)
		from = to
	}
	return runs
}

// Write stores the records and moves the cursor, in one transaction. An error of a record's
// values is a rejection, see [sink.Reject]. An error that retrying does not help against, such as
// a column that the table lacks, is marked with [retry.Permanent].
func (s *Sink[T]) Write(ctx context.Context, b source.Batch[T]) error {
	if len(b.Records) == 0 {
		return s.Save(ctx, b.From, b.To)
	}
	conn, err := s.db.Connx(ctx)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	var last *run // the one that failed
	err = s.attempt(ctx, conn, b, false, &last)
	if last != nil && (s.folds && retry.Classify(err) == retry.Data || dberr.SQLState(err) == twice) {
		s.forget()
		err = s.attempt(ctx, conn, b, true, &last)
	}
	if err == nil {
		return nil
	}
	s.forget()
	if retry.Classify(err) != retry.Data && !refused(err) {
		return failed(err)
	}
	if last != nil && len(last.rows) == 1 && ctx.Err() == nil {
		if name := s.engine.culprit(ctx, conn, last.plan, last.rows[0]); name != "" {
			err = fmt.Errorf("column %q: %w", name, err)
		}
	}
	return failed(sink.Reject(err))
}

// twice is the SQLSTATE of a statement that would update a row twice: the database takes two keys
// for equal whose texts differ.
const twice = "21000"

// attempt writes a batch in one transaction. single writes each record by a separate statement,
// in their order. last is the run that is being written.
func (s *Sink[T]) attempt(ctx context.Context, conn *sqlx.Conn, b source.Batch[T], single bool, last **run) error {
	runs, err := s.batches(b.Records, single)
	if err == nil {
		err = s.plan(ctx, conn, runs, single)
	}
	if err != nil {
		return err
	}
	restore, err := s.engine.session(ctx, conn, runs)
	if restore != nil {
		defer restore()
	}
	if err != nil {
		return err
	}
	tx, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	moved, err := s.Advance(ctx, tx, b.From, b.To)
	if err != nil || !moved {
		return err // not moved: an earlier attempt was committed
	}
	for i := range runs {
		*last = &runs[i]
		if err := s.write(ctx, tx, &runs[i]); err != nil {
			return fmt.Errorf("%s: %w", runs[i].table, err)
		}
	}
	return tx.Commit()
}

func (s *Sink[T]) write(ctx context.Context, tx *sqlx.Tx, r *run) error {
	switch r.use {
	case truncates:
		if r.plan.absent {
			return nil
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM "+r.plan.name) // TRUNCATE would commit in some databases
		return err
	case deletes:
		return s.engine.remove(ctx, tx, r.plan, r.rows)
	case updates:
		return update(ctx, tx, s.engine, r)
	}
	return s.engine.write(ctx, tx, r.plan, r.rows)
}

// failure shows a driver's error without the values that it may contain.
type failure struct{ err error }

func failed(err error) error     { return &failure{err} }
func (e *failure) Error() string { return "sqlsink: " + retry.Text(e.err) }
func (e *failure) Unwrap() error { return e.err }

// valueError says why a value does not fit its column. It does not contain the value.
type valueError struct {
	column string
	why    string
}

func (e *valueError) Error() string { return fmt.Sprintf("column %q: %s", e.column, e.why) }
