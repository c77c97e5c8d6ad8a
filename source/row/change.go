package row

import (
	"fmt"
	"log/slog"
	"time"
)

// Change is a change of one row: what a source of changes delivers. It is immutable
// and safe for concurrent use.
//
// Key, Row and Old have the columns of one table, and of no other. A sink that applies
// changes finds the row by Key, and sets the columns of Row but for the unchanged ones,
// see [Row.IsUnchanged]. If Old is known and its key differs from Key, the row was
// moved: the row with the old key is gone.
type Change struct {
	// Op is what happened.
	Op Op

	// Table is the table's name, with its schema where the database has schemas:
	// public.orders.
	Table string

	// Key has the columns of the key, as they are after the change, and after a Delete
	// as they were before it. It is the zero Row for a Truncate, and for a table
	// without a key.
	Key Row

	// Row is the row after the change. It is the zero Row for a Delete and a Truncate.
	// A source that reads the current row has it as it was read, which can be later
	// than this change; its guarantee says so.
	Row Row

	// Old is what is known of the row before the change: all of its columns, or some,
	// such as those of its key. It is the zero Row if nothing is known.
	Old Row

	// At is the time of the commit, or that of the write if triggers have recorded it. It is the
	// zero time if neither is known.
	At time.Time

	// Position is where the change stands in the source, in words that ascend in its
	// log, such as 0/16B3748 in that of Postgres. It is empty if it is not known.
	Position string

	// Transaction identifies the transaction, such as 771. Changes of one transaction
	// follow each other. It is empty if it is not known.
	Transaction string
}

// Op is what happened to a row. The zero value is not valid.
type Op uint8

// The operations.
const (
	Insert   Op = iota + 1 // the row is new
	Update                 // the row existed before
	Upsert                 // the row is new, or it existed before: the source cannot tell
	Delete                 // the row is gone
	Truncate               // all rows of the table are gone
)

var opNames = [...]string{"", "insert", "update", "upsert", "delete", "truncate"}

// String returns the name of the operation in lower case.
func (o Op) String() string {
	if 0 < o && int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// Equal reports whether c and d are the same in each field, and their rows by
// [Row.Equal].
func (c Change) Equal(d Change) bool {
	return c.Op == d.Op && c.Table == d.Table && c.At.Equal(d.At) && c.Position == d.Position && c.Transaction == d.Transaction &&
		c.Key.Equal(d.Key) && c.Row.Equal(d.Row) && c.Old.Equal(d.Old)
}

// Size returns how many bytes the texts of all columns have together, those of Key
// twice.
func (c Change) Size() int { return c.Key.Size() + c.Row.Size() + c.Old.Size() }

// String returns what happened to which table. It omits the values, which may be
// secret.
func (c Change) String() string { return fmt.Sprintf("%v of %s", c.Op, c.Table) }

// LogValue returns the text of String, so that logs do not contain values.
func (c Change) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Pick returns for each row one with some of its columns, by their indexes, such as
// those of the key. All rows must have the same columns. The rows that it returns
// share their memory.
func Pick(rows []Row, indexes ...int) []Row {
	if len(rows) == 0 {
		return nil
	}
	all := rows[0].batch.columns
	b := &batch{columns: all.pick(indexes), cells: make([]uint32, 0, len(rows)*len(indexes))}
	picked := make([]Row, len(rows))
	for n, r := range rows {
		for _, i := range indexes {
			text, f := r.cell(i)
			b.arena = append(b.arena, text...)
			b.cells = append(b.cells, uint32(len(b.arena))<<formBits|uint32(f))
		}
		picked[n] = Row{b, n}
	}
	return picked
}

// pick returns some of the columns.
func (c *Columns) pick(indexes []int) *Columns {
	d := &Columns{}
	for _, i := range indexes {
		d.names, d.kinds = append(d.names, c.names[i]), append(d.kinds, c.kinds[i])
		d.types, d.keys = append(d.types, c.types[i]), append(d.keys, c.keys[i])
	}
	return d
}
