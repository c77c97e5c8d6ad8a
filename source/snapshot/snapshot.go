package snapshot

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Table is a table or view to read. Only Name must be set.
type Table struct {
	// Name is the table's name as the database spells it, with a schema in front if needed. Its
	// form is that of [sqlsource.Table].
	Name string

	// Key are columns that order the rows and tell them apart. nil chooses the primary key, or
	// else a unique index without NULL. Without either the rows are read by one statement, in no
	// order. Set it for a large view that is read again and again.
	Key []string

	// Columns are the columns to read, in order. nil reads all.
	Columns []string

	// Where is a condition in SQL for the rows to read. In it the table is called t. It goes into
	// the statement unchanged: never build it from a user's input.
	Where string

	// Select, if not empty, is a SELECT whose rows are read instead of the table's. Its rows have
	// no Key. Name is then only a label.
	Select string
}

// ErrInterrupted is wrapped by the error of Fetch, if Strict is set, when the rest of the rows could
// only be read as of another moment. It is permanent: start over with an empty cursor.
var ErrInterrupted = errors.New("the snapshot was interrupted, and the rest of the rows would be of another moment")

// Options are the options of all snapshots. DB must be set.
type Options struct {
	DB *sqlx.DB

	// MaxBytes is the size in memory at which a batch ends. 0 means sqlsource.DefaultMaxBytes.
	MaxBytes int

	// MaxRowBytes is the size in memory of the largest row that is read. A larger row is not
	// fetched: it is a *source.BadRecord. 0 means sqlsource.DefaultMaxRowBytes.
	MaxRowBytes int

	// Strict makes the end of a transaction before all rows are read an error, ErrInterrupted.
	// Otherwise the rest is read in a new transaction, with a warning.
	Strict bool

	// Dialect is the database's SQL. nil finds it by the driver. It must be set for a driver that
	// wraps another one.
	Dialect dialect.Dialect

	// Logger gets a line when a snapshot begins, and when it is interrupted. nil means
	// slog.Default().
	Logger *slog.Logger
}

// Rows reads one table. Options.DB and Table.Name must be set, and no field may be changed after the
// first Fetch. Its methods are safe for concurrent use, but fetches run one after the other.
type Rows struct {
	Options
	Table Table

	engine engine
}

// Fetch implements [source.Source]. The first call begins the transaction, and it stays open until
// Close. After the last row, Fetch returns [source.ErrEnd], for ever.
func (r *Rows) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], error) {
	p, err := r.engine.fetch(ctx, r.Options, []Table{r.Table}, after, limit)
	if err != nil {
		return source.Batch[row.Row]{From: after, To: after}, err
	}
	return p.Batch, nil
}

// Close ends the transaction. A later Fetch begins a new one. Call it when the pipeline has ended.
func (r *Rows) Close() error { return r.engine.close() }

// Changes reads many tables, one after the other, in the order of Tables. Each row is a [row.Change]
// with the name of its table: an Upsert with the key, and an Insert for a table without one.
// Options.DB and Tables must be set, and no field may be changed after the first Fetch. Its methods
// are safe for concurrent use, but fetches run one after the other.
type Changes struct {
	Options

	// Tables are the tables to read. A cursor is refused with another list, or in another order.
	Tables []Table

	engine engine
}

// Fetch implements [source.Source]. The first call begins the transaction, and it stays open until
// Close. After the last row, Fetch returns [source.ErrEnd], for ever. A batch has rows of one table.
func (c *Changes) Fetch(ctx context.Context, after source.Cursor, limit int) (b source.Batch[row.Change], err error) {
	b.From, b.To = after, after
	p, err := c.engine.fetch(ctx, c.Options, c.Tables, after, limit)
	if err != nil {
		return b, err
	}
	b = source.Batch[row.Change]{From: p.From, To: p.To, Bytes: p.Bytes, More: p.More, AsOf: p.AsOf, Held: p.Held,
		Guarantee: p.Guarantee, Position: p.Position, Pending: p.Pending}
	if len(p.Records) == 0 {
		return b, nil
	}
	var keys []row.Row
	var indexes []int
	for _, name := range p.key {
		if i := p.Records[0].Columns().Index(name); i >= 0 {
			indexes = append(indexes, i)
		}
	}
	if len(indexes) > 0 && len(indexes) == len(p.key) {
		keys = row.Pick(p.Records, indexes...)
	}
	b.Records = make([]row.Change, len(p.Records))
	for i, r := range p.Records {
		b.Records[i] = row.Change{Op: row.Insert, Table: p.name, Row: r}
		if keys != nil {
			b.Records[i].Op, b.Records[i].Key = row.Upsert, keys[i]
		}
	}
	return b, nil
}

// Close ends the transaction. A later Fetch begins a new one. Call it when the pipeline has ended.
func (c *Changes) Close() error { return c.engine.close() }

// Made reports whether a cursor was made by this package.
func Made(c source.Cursor) bool { return hasPrefix(c) }

// complete sets the defaults.
func (o *Options) complete() {
	o.MaxBytes = cmp.Or(o.MaxBytes, sqlsource.DefaultMaxBytes)
	o.MaxRowBytes = cmp.Or(o.MaxRowBytes, sqlsource.DefaultMaxRowBytes)
	o.Logger = cmp.Or(o.Logger, slog.Default())
}

// engine reads the tables of one snapshot after the other. The zero value is ready.
type engine struct {
	mu      sync.Mutex
	ready   bool
	opts    Options
	tables  []*table
	sql     dialect.Dialect
	server  server
	session *session // nil: no transaction is open
	apart   bool     // the next batch is read without a transaction

	guarantee  *source.Guarantee
	resumed    *source.Guarantee // of a cursor that other transactions have led to
	resumedFor int               // how many they were

	previous string // the session whose interruption was logged
	progress progress
}
