package sqlsource

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Latest is a Start that skips every row that exists at the first Fetch, and those with
// a smaller key that commit later. To include these, start at a cursor of At.
const Latest source.Cursor = "latest"

// Table reads any table or view, one row.Row for each of its rows. DB, Name and Key must be set.
// No field may be changed after the first Fetch, and a Table must not be copied.
//
// A Table makes no connection before the first Fetch. Its methods are safe for
// concurrent use, but fetches run one after the other.
type Table struct {
	DB *sqlx.DB

	// Name is the table's name as the database spells it, with a schema in front if
	// needed: orders, public.orders. Put a name that contains a dot or a quote into
	// double quotes, and double the quotes inside: public."a ""quoted"" one".
	Name string

	// Key are the columns that order the rows and tell them apart: together
	// unique, never NULL, never changed, and first in an index, in this order.
	Key []string

	// Columns are the columns to read, in order. nil reads all, also those added later.
	Columns []string

	// Where is a condition in SQL for the rows to read, such as "t.kind = 'order'". In it the
	// table is called t. It goes into the statement unchanged: never build it from a user's
	// input. A row for which it becomes true only after later rows were read is missed. It runs
	// in the time zone UTC; write times in it with their zone.
	Where string

	// Select, if not empty, is a SELECT whose rows are read instead of the table's, with any
	// joins and conditions, as Query.Select. Name is then the table that has the key.
	Select string

	// Ceiling decides how far the table can be read without missing rows that
	// commit late. nil chooses the one that fits the table. If none fits, Fetch
	// returns a *ceiling.UnsafeError that says what can be done.
	Ceiling ceiling.Ceiling

	// Start is where an empty cursor stands: "" before the first row, Latest
	// after the last row at the first Fetch, or a cursor of At.
	Start source.Cursor

	// MaxBytes is the size in memory at which a batch ends, as in
	// source.Batch.Bytes. A batch has at least one row. 0 means DefaultMaxBytes.
	MaxBytes int

	// MaxRowBytes is the size in memory of the largest row that is read. A larger
	// row is not fetched: it is a *source.BadRecord. A copy takes at most 64 MB and
	// three times MaxRowBytes (with SQLite, whose drivers keep the memory of the
	// largest row, four times), see DESIGN.md. 0 means DefaultMaxRowBytes.
	MaxRowBytes int

	// Conn, if not nil, is used for every statement instead of a connection of DB. It may have
	// begun a transaction, which the Table neither ends nor leaves, so that all fetches read the
	// same snapshot. Where an error aborts a transaction, as in Postgres, set the savepoint
	// dialect.Savepoint in it: the Table goes back to that after an error that it can handle, such as
	// that of a row that cannot be read. A Conn that is dead is not replaced, and its statements are
	// not explained. DB must be the Conn's pool.
	Conn *sql.Conn

	// Dialect is the database's SQL. nil finds it by the driver. It must be set for
	// databases that are not built in, and for a driver that wraps another one.
	Dialect dialect.Dialect

	// Logger gets one line that says what the Ceiling guarantees, one when the
	// columns change, and one if no index is used. nil means slog.Default().
	Logger *slog.Logger

	state state
}

// Fetch implements [source.Source]. An error wraps that of the driver. Errors that
// retrying cannot fix are marked with [retry.Permanent]. A row that is too large, or that
// the database cannot return, is a [*source.BadRecord].
func (t *Table) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], error) {
	return fetch(ctx, &t.state, t.query, after, limit, t.open)
}

func (t *Table) open(p *plan, n int) (records[row.Row], error) {
	return rowRecords{row.NewBuilder(p.row, n+1)}, nil
}

// At returns the cursor after the row with a key, for Start or a rewind. The row need
// not exist. The values are integers, strings, []byte or time.Time, one for each column
// of Key. A string can stand for any type; for a binary column it holds the bytes. For a
// column without a time zone, the zone of a time.Time is ignored. At does not ask the
// database: a value that does not fit its column is an error of Fetch. So is a string of
// digits for a column that may hold numbers and texts.
//
// Without values At returns the cursor before the first row. In a rewind that
// differs from the empty cursor, which stands where Start says.
func (t *Table) At(key ...any) (source.Cursor, error) { return at(t.query, key) }

// Adopt returns a cursor with c's key, for this Table as it is now and without a
// history. Use it to continue after an [ErrHistory], or with a changed Where, if the rows
// up to that key are those that were read. Adopt does not ask the database; Check tells
// from the new cursor whether keys below it are drawn again, and then only a rewind loses no rows.
func (t *Table) Adopt(c source.Cursor) (source.Cursor, error) { return adopt(t.query, c) }

// Describe returns where a cursor stands, in words.
func (t *Table) Describe(c source.Cursor) string { return describe(t.query, c) }

// Position returns the key of a cursor in words, such as "id 42", "" if c holds none.
func (t *Table) Position(c source.Cursor) string { return positionText(t.Key, c) }

// Keys returns the keys of the rows after one cursor and up to another, in order,
// at most limit of them. Each is the cursor that stands after its row, without a
// history, as [Table.Adopt] returns it: equal keys are equal cursors. An empty
// after stands where it does in Fetch, an empty to sets no bound. Keys reads what
// is committed, above the ceiling too. It waits for a Fetch that is running.
func (t *Table) Keys(ctx context.Context, after, to source.Cursor, limit int) ([]source.Cursor, error) {
	return t.state.keysBetween(ctx, t.query, after, to, limit)
}

func (t *Table) query() (*query, error) {
	parts, err := dialect.SplitName(t.Name)
	if err != nil {
		return nil, fmt.Errorf("Name %q: %w", t.Name, err)
	}
	if t.Columns != nil && len(t.Columns) == 0 {
		return nil, errors.New("Columns is empty; nil means all")
	}
	q := &query{db: t.DB, conn: t.Conn, sql: t.Dialect, ceiling: t.Ceiling, label: t.Name, table: parts, key: t.Key, columns: t.Columns, rows: true,
		start: t.Start, maxBytes: t.MaxBytes, maxRowBytes: t.MaxRowBytes, log: t.Logger}
	if err := cmp.Or(checkSQL("Where", t.Where), checkSQL("Select", t.Select), q.complete()); err != nil {
		return nil, err
	}
	if strings.TrimSpace(t.Where) != "" {
		q.where = "(" + t.Where + "\n)" // its last line may end in a comment
	}
	q.from = dialect.QuoteAll(q.sql, parts) + " AS t"
	identity := []string{"table", t.Name, t.Where}
	if text := strings.TrimRight(t.Select, "; \t\r\n"); text != "" {
		q.from, identity = "("+text+"\n) AS t", append(identity, text)
		q.selected = true
	}
	q.print = fingerprint(append(identity, t.Key...)...)
	q.identity = fingerprint(append([]string{"key", t.Name}, t.Key...)...)
	return q, nil
}

// fields makes a query of what the fields of a Table or a Query are now.
type fields func() (*query, error)

// checked makes a query, or says which field is wrong.
func checked(of fields) (*query, error) {
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

// init makes the query that all fetches use. At and Describe make another one, so
// that Start can be set to what At returns.
func (s *state) init(of fields) (*query, error) {
	s.setup.Do(func() {
		if s.query, s.err = checked(of); s.err == nil {
			s.query.usable = s.current
		}
	})
	return s.query, s.err
}

// complete checks the fields that Table and Query share, and sets their defaults.
func (q *query) complete() error {
	switch {
	case q.db == nil:
		return errors.New("DB is nil")
	case len(q.key) == 0:
		return errors.New("Key is empty; name the columns that order the rows, such as the primary key")
	case q.maxBytes < 0 || q.maxRowBytes < 0:
		return errors.New("MaxBytes or MaxRowBytes is negative")
	}
	if err := cmp.Or(checkIdents("Key", q.key), checkIdents("Columns", q.columns)); err != nil {
		return err
	}
	for i, c := range q.key {
		if slices.Contains(q.key[:i], c) {
			return fmt.Errorf("Key names the column %q twice", c)
		}
	}
	q.maxBytes, q.maxRowBytes = cmp.Or(q.maxBytes, DefaultMaxBytes), cmp.Or(q.maxRowBytes, DefaultMaxRowBytes)
	var err error
	if q.sql == nil {
		q.sql, err = builtin.Find(q.db)
	}
	return err
}

// lexemes are parentheses, and the texts, names and comments in which they do not count.
var lexemes = regexp.MustCompile(`'[^']*'|"[^"]*"|` + "`[^`]*`" + `|--[^\n]*|(?s:/\*.*?\*/)|[()]`)

// ambiguous is what databases read differently.
var ambiguous = regexp.MustCompile(`[\\#$[]|--\S|(?s:/\*.*/\*)`)

// checkSQL returns an error if a user's condition or statement would end the parentheses that are
// written around it. What is ambiguous is left to the database.
func checkSQL(field, sql string) error {
	depth := 0
	for _, lexeme := range lexemes.FindAllString(sql, -1) {
		if depth += strings.Count(lexeme[:1], "(") - strings.Count(lexeme[:1], ")"); depth < 0 {
			break
		}
	}
	switch {
	case strings.ContainsRune(sql, 0):
		return fmt.Errorf("%s holds a NUL byte", field)
	case depth != 0 && !ambiguous.MatchString(sql):
		return fmt.Errorf("%s has a parenthesis without its other one, so that it would change the rest of the statement", field)
	}
	return nil
}

func at(of fields, key []any) (source.Cursor, error) {
	q, err := checked(of)
	if err != nil {
		return "", err
	}
	if len(key) != 0 && len(key) != len(q.key) {
		return "", permanent("At got %d values for the key %s", len(key), strings.Join(q.key, ", "))
	}
	values := make([]dialect.Value, len(key))
	for i, x := range key {
		if values[i], err = keyValue(x); err != nil {
			return "", permanent("At: the value for %q %w", q.key[i], err)
		}
	}
	return encode(q.print, origin{}, values)
}

func adopt(of fields, c source.Cursor) (source.Cursor, error) {
	q, err := checked(of)
	if err != nil || c == "" {
		return "", err
	}
	key, _, err := decode(c, "", len(q.key))
	if err != nil {
		return "", err
	}
	return encode(q.print, origin{}, key)
}

func describe(of fields, c source.Cursor) string {
	q, err := checked(of)
	if err != nil {
		return err.Error()
	}
	return q.describe(c)
}

func (q *query) describe(c source.Cursor) string {
	if c == "" && q.start != "" {
		return q.label + ", not begun: " + q.describe(q.start)
	}
	if c == Latest {
		return q.label + " after the existing rows at the first fetch"
	}
	at, err := q.position(c)
	switch {
	case err != nil:
		return err.Error()
	case at.key == nil:
		return q.label + " before the first row"
	}
	return q.label + " after " + describeKey(q.key, at.key)
}

type rowRecords struct{ *row.Builder }

func (r rowRecords) bind(dest []any)      { copy(dest, r.Dest()) }
func (r rowRecords) add() int             { return r.Add() }
func (rowRecords) note([][]byte)          {}
func (r rowRecords) take(n int) []row.Row { return r.Rows()[:n:n] }

func (r rowRecords) digest(of row.Row, i int) uint32 {
	if of.IsNull(i) {
		return null
	}
	return digestText(of.Text(i))
}

// permanent returns an error of this package that is not worth retrying.
func permanent(format string, args ...any) error {
	return retry.Permanent(fmt.Errorf("sqlsource: "+format, args...))
}

func checkIdents(field string, names []string) error {
	for i, name := range names {
		if err := dialect.CheckName(name); err != nil {
			return fmt.Errorf("%s[%d]: %w", field, i, err)
		}
	}
	return nil
}
