package sqlsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Latest as a Start begins behind the greatest key that is there at the first
// Fetch. A row of a smaller key that is committed later is behind it, too: to begin
// with all rows of transactions that are in flight, begin at a key of your own.
const Latest source.Cursor = "latest"

// Table reads any table or view, a row.Row for each of its rows. DB, Name and
// Key must be set. No field may be changed after the first Fetch, and the Table
// must not be copied.
//
// It makes no connection before the first Fetch. Its methods are safe for
// concurrent use, but fetch one after the other.
type Table struct {
	DB *sqlx.DB

	// Name is the table's name as the database has it, upper and lower case
	// included, with a schema ahead if need be: orders, public.orders. Where a
	// name holds a dot or a quote, put it into double quotes, and double its
	// own: "odd.name", public."a ""quoted"" one".
	Name string

	// Key are the columns that order the rows and tell them apart: together
	// unique, never NULL, never changed, and first in an index, in this order.
	Key []string

	// Columns are the columns to read, in order. nil reads all of them, also
	// those added later.
	Columns []string

	// Where is a condition in SQL for the rows to read, such as
	// "t.kind = 'order'". The table's name in it is t. It goes into the
	// statement as it is: never make it of a user's input. A row for which it
	// turns true only after later rows were read is missed.
	Where string

	// Ceiling decides how far the table can be read without missing rows that
	// commit late. nil chooses the one that fits the table; where none does,
	// Fetch returns a *ceiling.UnsafeError that says what can be done.
	Ceiling ceiling.Ceiling

	// Start is where an empty cursor stands: "" before the first row, Latest
	// behind the last one at the first Fetch, or a cursor of At.
	Start source.Cursor

	// MaxBytes ends a batch before it grows larger, by the measure of
	// source.Batch.Bytes; it has one row at least. 0 means DefaultMaxBytes.
	MaxBytes int

	// MaxRowBytes is the size of the largest row that is read. A larger one is
	// a permanent error that names its key. 0 means DefaultMaxRowBytes.
	MaxRowBytes int

	// Dialect is the database's SQL. nil finds it by the driver among those that
	// are built in. It must be set for other databases, and for a driver that
	// wraps another one under a name of its own.
	Dialect dialect.Dialect

	// Logger gets a line that says what the Ceiling guarantees, and one when the
	// columns change. nil means slog.Default().
	Logger *slog.Logger

	state state
}

// Fetch implements [source.Source]. An error wraps that of the driver. What
// retrying does not help against is marked with [retry.Permanent].
func (t *Table) Fetch(ctx context.Context, after source.Cursor, max int) (source.Batch[row.Row], error) {
	if _, err := t.state.init(t.query); err != nil {
		return source.Batch[row.Row]{From: after, To: after}, err
	}
	return fetch(ctx, &t.state, after, max, func(p *plan, limit int) (records[row.Row], error) {
		return rowRecords{row.NewBuilder(p.row, limit+1)}, nil
	})
}

// At returns the cursor behind the row of that key, for Start or a rewind: the
// first row delivered is the one after it. The row need not exist. The values
// are integers, strings, []byte or time.Time, one for each column of Key; a
// string may stand for any type; that of a binary column is its bytes, and one of
// digits is refused where SQLite has no type for the column, as in a view. Of a
// time.Time a column without a zone gets the clock as it stands. At does not ask
// the database: that a value does not fit its column is an error of Fetch.
//
// Without values it is the cursor before the first row. For a rewind that differs
// from the empty cursor, which stands where Start says.
func (t *Table) At(key ...any) (source.Cursor, error) {
	q, err := checked(t.query)
	if err != nil {
		return "", err
	}
	return q.at(key)
}

// Adopt returns a cursor that stands where c does, in the history of the
// database that is there, and for this Table as it is now. It is for going on
// after an [ErrHistory], or with a changed Where, if you know that the rows up to
// c's key are those that were read. At and Adopt do not ask the database.
func (t *Table) Adopt(c source.Cursor) (source.Cursor, error) {
	q, err := checked(t.query)
	if err != nil {
		return "", err
	}
	return q.adopt(c)
}

// Describe returns where a cursor stands, for a human.
func (t *Table) Describe(c source.Cursor) string {
	q, err := checked(t.query)
	if err != nil {
		return err.Error()
	}
	return q.describe(c)
}

// Position returns the key of a cursor in words, such as "id 42", or an empty
// string if c holds no key. It is what source.Batch.Position says of Batch.To.
func (t *Table) Position(c source.Cursor) string { return positionText(t.Key, c) }

// Keys returns the keys of the rows after one cursor and up to another, in order,
// at most max of them. Each is the cursor that stands after its row, without a
// history, as [Table.Adopt] returns it: equal keys are equal cursors. An empty
// after stands where it does in Fetch, an empty to sets no bound. Keys reads what
// is committed, above the ceiling too. It waits for a Fetch that is running.
func (t *Table) Keys(ctx context.Context, after, to source.Cursor, max int) ([]source.Cursor, error) {
	if _, err := t.state.init(t.query); err != nil {
		return nil, err
	}
	return t.state.keysBetween(ctx, after, to, max)
}

func (t *Table) query() (*query, error) {
	parts, err := splitName(t.Name)
	if err != nil {
		return nil, fmt.Errorf("Name %q: %w", t.Name, err)
	}
	if t.Columns != nil && len(t.Columns) == 0 {
		return nil, errors.New("Columns is empty; nil means all")
	}
	for i, c := range t.Columns {
		if err := checkIdent(c); err != nil {
			return nil, fmt.Errorf("Columns[%d]: %w", i, err)
		}
	}
	q := &query{label: t.Name, table: parts, key: t.Key, columns: t.Columns, rows: true}
	err = q.fill(t.DB, t.Dialect, t.Ceiling, t.Start, t.MaxBytes, t.MaxRowBytes, t.Logger)
	if err != nil {
		return nil, err
	}
	if strings.ContainsRune(t.Where, 0) {
		return nil, errors.New("Where holds a NUL byte")
	}
	if strings.TrimSpace(t.Where) != "" {
		q.where = "(" + t.Where + "\n)" // the line may end in a comment
	}
	q.from = dialect.QuoteAll(q.sql, parts) + " AS t"
	q.print = fingerprint(append([]string{"table", t.Name, t.Where}, t.Key...)...)
	return q, nil
}

// checked makes a query of the fields as they stand.
func checked(of func() (*query, error)) (*query, error) {
	q, err := of()
	if err == nil && q.start != "" && q.start != Latest {
		if _, _, err = decode(q.start, q.print, len(q.key)); err != nil {
			err = fmt.Errorf("Start: %w", err)
		}
	}
	if err != nil {
		return nil, retry.Permanent(fmt.Errorf("sqlsource: %w", err))
	}
	return q, nil
}

// init makes the query that all fetches go by. At and Describe make their own,
// so that Start can be set to what At returns.
func (s *state) init(of func() (*query, error)) (*query, error) {
	s.setup.Do(func() { s.query, s.err = checked(of) })
	return s.query, s.err
}

// fill sets and checks what Table and Query have in common.
func (q *query) fill(db *sqlx.DB, d dialect.Dialect, c ceiling.Ceiling, start source.Cursor, maxBytes, maxRowBytes int, log *slog.Logger) error {
	if db == nil {
		return errors.New("DB is nil")
	}
	if len(q.key) == 0 {
		return errors.New("Key is empty; name the columns that order the rows, such as the primary key")
	}
	for i, c := range q.key {
		if err := checkIdent(c); err != nil {
			return fmt.Errorf("Key[%d]: %w", i, err)
		}
		for _, other := range q.key[:i] {
			if c == other {
				return fmt.Errorf("Key names the column %q twice", c)
			}
		}
	}
	if maxBytes < 0 || maxRowBytes < 0 {
		return errors.New("MaxBytes or MaxRowBytes is negative")
	}
	if d == nil {
		var err error
		if d, err = builtin.Find(db); err != nil {
			return err
		}
	}
	q.db, q.sql, q.start, q.log = db, d, start, log
	q.ceiling = c
	q.maxBytes, q.maxRowBytes = maxBytes, maxRowBytes
	if maxBytes == 0 {
		q.maxBytes = DefaultMaxBytes
	}
	if maxRowBytes == 0 {
		q.maxRowBytes = DefaultMaxRowBytes
	}
	return nil
}

func (q *query) at(key []any) (source.Cursor, error) {
	if len(key) != 0 && len(key) != len(q.key) {
		return "", permanent("At got %d values for the key %s", len(key), strings.Join(q.key, ", "))
	}
	values := make([]dialect.Value, len(key))
	for i, x := range key {
		v, err := keyValue(x)
		if err != nil {
			return "", permanent("At: the value for %q %w", q.key[i], err)
		}
		values[i] = v
	}
	return encode(q.print, origin{}, values)
}

func (q *query) adopt(c source.Cursor) (source.Cursor, error) {
	if c == "" {
		return "", nil
	}
	key, _, err := decode(c, "", len(q.key))
	if err != nil {
		return "", err
	}
	return encode(q.print, origin{}, key)
}

func (q *query) describe(c source.Cursor) string {
	switch c {
	case "":
		if q.start == Latest {
			return q.label + ", not begun: behind the rows that are there at the first fetch"
		}
		if q.start != "" {
			return q.label + ", not begun: " + q.describe(q.start)
		}
		return q.label + " before the first row"
	case Latest:
		return q.label + " behind the rows that are there at the first fetch"
	}
	key, _, err := decode(c, q.print, len(q.key))
	switch {
	case err != nil:
		return err.Error()
	case key == nil:
		return q.label + " before the first row"
	}
	return q.label + " after " + describeKey(q.key, key)
}

// rowRecords are the rows of a Table.
type rowRecords struct{ *row.Builder }

func (r rowRecords) bind(dest []any)      { copy(dest, r.Dest()) }
func (r rowRecords) add() int             { return r.Add() }
func (r rowRecords) take(n int) []row.Row { return r.Rows()[:n:n] }
