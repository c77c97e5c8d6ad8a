package ceiling

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// Ceiling is a strategy for finding ceilings. Its String is its name, as in
// logs and in [Parse].
//
// Open looks at the table and returns a Guard over it, or an [UnsafeError] if
// rows could be missed. It is called when a source begins, and again when its
// Guard says that the table changed. The zero values of this package's
// strategies are ready for use, and one value may serve any number of tables.
type Ceiling interface {
	String() string
	Open(ctx context.Context, db Queryer, t Table) (Guard, error)
}

// Guard is a strategy at work over one table.
//
// Raise returns how far the table can be read now, behind the row whose key is
// after (nil: from the first row on). Every row at or below the limit must be
// there for the statement that follows on db, and none may ever be added. It
// does not wait: while rows exist that cannot be read yet, it says who holds
// them back. It is asked again when all below the limit has been read. An error
// that wraps [ErrChanged] has the Guard replaced by a new one, and a
// [*RewoundError] ends the reading: rows may be added below the cursor.
//
// A source calls Raise from one goroutine at a time. db is one connection for
// the whole call, and for the statement that reads the rows.
type Guard interface {
	Report() Report
	Raise(ctx context.Context, db Queryer, after []string) (Limit, error)
}

// Queryer is what a strategy asks: a *sql.Conn or *sql.DB.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Table is the table to guard.
type Table struct {
	Dialect string   // "postgres", "mysql", "sqlite", as in package sqlsource
	Label   string   // the source's name, for messages
	Parts   []string // the name, with a schema ahead or without; nil: a Query that names no table
	Name    string   // the same for SQL, quoted; "" if Parts is nil
	Key     []Column // at least one
}

// Column is a column of the key.
type Column struct {
	Name   string // as the database has it
	Quoted string // for SQL
	Ref    string // for SQL with the table's alias, as Limit.Where needs it: t."id"
}

// Limit is how far a table can be read.
type Limit struct {
	// Where is a condition that the rows to be read meet, in which t is the
	// table and each ? stands for one of Args. Empty means all rows. It should
	// be fixed when Raise returns, by Args, and not rise with the clock of the
	// statement that reads: rows are waited for until they are on disk, as of
	// the end of Raise.
	Where string
	Args  []any

	// Nothing says that there is no row to read, so that none is looked for.
	Nothing bool

	// More says that rows above the limit can be read at once: Raise is asked
	// again when those below it have been read, without waiting.
	More bool

	// AsOf is a moment such that every row committed before it is below the
	// limit. Zero: not claimed.
	AsOf time.Time

	// Sequence identifies what draws the keys, if anything can be told apart from
	// one that draws them again from the beginning. It goes into the cursors, and
	// one that was made under another Sequence is refused. Empty: not compared.
	Sequence string

	// Held is not nil if there are rows above the limit.
	Held *source.Held
}

// ErrChanged is wrapped by an error of Raise after which the table must be
// looked at anew, such as a sequence that was altered.
var ErrChanged = errors.New("the table changed")
