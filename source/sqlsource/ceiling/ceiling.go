package ceiling

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Ceiling is a strategy for finding ceilings. Its String is its name, as logs and
// settings show it. One value may serve any number of tables.
//
// Open probes the table and returns a Guard for it, or an [*UnsafeError] if rows could be
// missed. It is called when a source begins, and again after an [ErrChanged] of its Guard.
type Ceiling interface {
	String() string
	Open(ctx context.Context, db Queryer, t Table) (Guard, error)
}

// Guard is a strategy at work over one table.
//
// Advance returns how far the table can be read now, after the row whose key is after
// (nil: from the first row on). Every committed row at or below the limit must be visible
// to the statement that follows on db, and none may ever be added there. Advance does not
// wait: while rows exist that cannot be read yet, it says who holds them back. It is
// called again when all rows below the limit have been read, and by one goroutine at a time.
// db is one connection, also for the statement that reads the rows. An error that wraps
// [ErrChanged] makes the source replace the Guard by a new one. A [*RewoundError] ends the
// reading, because rows may be added below the cursor.
type Guard interface {
	Report() Report
	Advance(ctx context.Context, db Queryer, after []string) (Limit, error)
}

// Queryer runs a strategy's statements: a *sql.Conn or *sql.DB.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// SQL is what a ceiling for any database, such as [Stamp], must know about it. Package dialect includes it.
type SQL interface {
	// Name is the database's name, for messages, such as "SQL Server".
	Name() string

	// TimeLayout returns how a time of a type is written to compare a column with it, as package time has it, and
	// whether it is written in UTC. typ is the driver's name for the type. "" says that it is not a type of times of
	// day, or that its values can be anything.
	TimeLayout(typ string) (layout string, utc bool)

	// Transactions returns how to list the open transactions that can write to t. It adds to r what is wrong, such as
	// that rows of t come from another server.
	Transactions(ctx context.Context, db Queryer, t Table, r *Report) (Transactions, error)
}

// Table is the table to guard.
type Table struct {
	SQL   SQL      // the database's SQL; required
	Label string   // the source's name, for messages
	Parts []string // the table's name, with or without a schema before it; nil: a Query that names no table
	Name  string   // the table's name for SQL, quoted; "" if Parts is nil
	Key   []Column // the key's columns in order; at least one

	// End returns the key of the source's first or last row that is committed, whatever its age: texts, as
	// Advance gets them. It is nil without rows.
	End func(ctx context.Context, db Queryer, last bool) ([]string, error)
}

// Column is a column of the key.
type Column struct {
	Name   string // as the database has it
	Type   string // the driver's name for its type, such as "INT8"; "" if it has none
	Quoted string // for SQL
	Ref    string // for SQL with the table's alias, as Limit.Where needs it: t."id"
}

// Columns returns the key's columns for SQL, quoted, with commas between them.
func (t Table) Columns() string {
	var names []string
	for _, k := range t.Key {
		names = append(names, k.Quoted)
	}
	return strings.Join(names, ", ")
}

// After returns the key after which to read, where its first column holds integers: math.MinInt64
// without a cursor.
func (t Table) After(after []string) (int64, error) {
	if after == nil {
		return math.MinInt64, nil
	}
	key, err := strconv.ParseInt(after[0], 10, 64)
	if err != nil {
		err = retry.Permanent(fmt.Errorf("the cursor's value for %q is not an integer up to %d; rewind to a cursor that At returns", t.Key[0].Name, int64(math.MaxInt64)))
	}
	return key, err
}

// Names returns the names of the key's columns.
func (t Table) Names() (names []string) {
	for _, k := range t.Key {
		names = append(names, k.Name)
	}
	return names
}

var updateName = regexp.MustCompile(`(?i)updated|modified|changed|mtime|last_?(update|change|edit)|(update|change|modification)_?(time|date|at|ts)$`)

// UpdateColumn returns the first column of the key whose name says that each UPDATE sets it,
// such as updated_at. It is "" without one.
func (t Table) UpdateColumn() string {
	for _, name := range t.Names() {
		if updateName.MatchString(name) {
			return name
		}
	}
	return ""
}

// Limit is how far a table can be read.
type Limit struct {
	// Where is a condition that holds for the rows to read. In it, t is the table and each
	// ? stands for one of Args. Empty means all rows. Args should fix it when Advance
	// returns, so that it does not rise with the clock of the statement that reads the
	// rows: the source waits for rows to be on disk as of the end of Advance.
	Where string
	Args  []any

	// UpTo is a cursor of the source, for the last row to read. Empty sets no bound. Rows must be up to it and meet Where. If it is the cursor itself, there is
	// nothing to read, and nothing is Held.
	UpTo source.Cursor

	Nothing bool         // no row can be read; the source then skips the statement
	More    bool         // rows above the limit can be read without waiting, by another Advance
	AsOf    time.Time    // every row committed before it is below the limit; zero: not known
	Held    *source.Held // not nil if there are rows above the limit that must wait

	// Unflushed says that rows may be read whose commit is not on disk yet, so that a crash of the
	// server can take them back: what reads them finds that later.
	Unflushed bool

	// Sequence identifies what draws the keys, such that it differs when keys are drawn
	// again from the beginning. The source keeps it in its cursors and refuses a cursor
	// made under another Sequence. Empty: not compared.
	Sequence string

	// Greatest is the greatest integer in the key's first column, of rows that are held back
	// too: no committed key is above it. 0 if it is not known without a further statement.
	Greatest int64
}

// ErrChanged is wrapped by an error of Advance after which the table must be probed again.
var ErrChanged = errors.New("the table changed")

// RewoundError says that keys below the cursor were drawn again, or will be. Package sqlsource
// turns it into an ErrHistory.
type RewoundError struct {
	Table string // the source's name
	What  string // what happened
}

// Rewound returns a [*RewoundError] about the table.
func (t Table) Rewound(format string, args ...any) error {
	return &RewoundError{Table: t.Label, What: fmt.Sprintf(format, args...)}
}

// Error names the table and what happened to it.
func (e *RewoundError) Error() string { return "ceiling: " + e.Table + ": " + e.What }

// Each calls f for each row of a result, until f returns an error.
func Each(ctx context.Context, db Queryer, f func(*sql.Rows) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// Exec runs a statement whose result has no meaning.
func Exec(ctx context.Context, db Queryer, statement string) error {
	return Each(ctx, db, func(*sql.Rows) error { return nil }, statement)
}

// restoreLimit is how long Restore may take.
const restoreLimit = 2 * time.Second

// Restore runs a statement that ends a transaction or sets a connection back, although ctx may have
// ended.
func Restore(ctx context.Context, db Queryer, statement string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreLimit)
	defer cancel()
	return Exec(ctx, db, statement)
}

// Discard closes a connection instead of giving it back to the pool. The server then ends its transaction.
func Discard(conn *sql.Conn) {
	conn.Raw(func(any) error { return driver.ErrBadConn }) //nolint:errcheck // it is closed
	conn.Close()
}

// List returns a value for each row of a result, scanned into what into returns.
func List[T any](ctx context.Context, db Queryer, into func(*T) []any, query string, args ...any) (list []T, err error) {
	err = Each(ctx, db, func(rows *sql.Rows) error {
		var item T
		err := rows.Scan(into(&item)...)
		list = append(list, item)
		return err
	}, query, args...)
	return list, err
}

// Texts returns the first column of a result.
func Texts(ctx context.Context, db Queryer, query string, args ...any) ([]string, error) {
	return List(ctx, db, func(text *string) []any { return []any{text} }, query, args...)
}

// DescribeHolders runs a statement that returns a text and, if it is known, for how many seconds
// that has been so: "pid 7 (nightly), open" and 72.
func DescribeHolders(ctx context.Context, db Queryer, query string, args ...any) (who []string, err error) {
	err = Each(ctx, db, func(rows *sql.Rows) error {
		var text string
		var seconds sql.NullFloat64
		err := rows.Scan(&text, &seconds)
		if seconds.Valid {
			text += " for " + FormatAge(seconds.Float64)
		}
		who = append(who, text)
		return err
	}, query, args...)
	if err != nil {
		err = fmt.Errorf("reading who holds rows back: %w", err)
	}
	return who, err
}
