package row

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"unsafe"
)

// Row is one row. It is immutable and safe for concurrent use. It is small: pass
// it by value. A Row keeps the memory of its whole batch alive.
//
// The zero Row has no columns, and writing it is an error.
type Row struct {
	batch *batch
	row   int
}

// batch is the memory that the rows of one batch share.
type batch struct {
	columns *Columns
	arena   []byte   // the text of all cells, one after the other
	cells   []uint32 // for each cell, its end in the arena, with its form in the low bits
}

// form says how the text of a cell is written in JSON.
type form uint32

const (
	null    form = iota
	text         // as a string
	literal      // as it is
	absent       // not at all: the value is not known
	blob         // as text, of binary data in a column whose kind does not say so

	formBits = 3
	maxArena = 1<<(32-formBits) - 1
)

var (
	errZero   = errors.New("row: the zero Row cannot be written")
	errAbsent = errors.New("row: a row with an unchanged column cannot be written as CSV; write the Change")
)

// cell returns the text and the form of column i.
func (r Row) cell(i int) ([]byte, form) {
	n := len(r.batch.columns.names)
	if uint(i) >= uint(n) {
		panic(fmt.Sprintf("row: column %d of %d", i, n))
	}
	i += r.row * n
	var start uint32
	if i > 0 {
		start = r.batch.cells[i-1] >> formBits
	}
	c := r.batch.cells[i]
	return r.batch.arena[start : c>>formBits : c>>formBits], form(c & (1<<formBits - 1))
}

// bytes returns the text of all cells.
func (r Row) bytes() []byte {
	cells, n := r.batch.cells, len(r.batch.columns.names)
	end := func(rows int) uint32 {
		if rows*n == 0 {
			return 0
		}
		return cells[rows*n-1] >> formBits
	}
	return r.batch.arena[end(r.row):end(r.row+1)]
}

// Columns returns the columns of the row, or nil for the zero Row.
func (r Row) Columns() *Columns {
	if r.batch == nil {
		return nil
	}
	return r.batch.columns
}

// Len returns the number of columns.
func (r Row) Len() int { return len(r.names()) }

// IsNull reports whether column i is NULL. It panics if i is out of range.
func (r Row) IsNull(i int) bool {
	_, f := r.cell(i)
	return f == null
}

// IsUnchanged reports whether column i is [Unchanged]: it has the value that it had
// before, which is not known. It panics if i is out of range.
func (r Row) IsUnchanged(i int) bool {
	_, f := r.cell(i)
	return f == absent
}

// Text returns the text of column i, or the empty string if it is NULL or unchanged. It panics
// if i is out of range. Text does not allocate: the string shares the memory
// of the batch and keeps it alive. Use strings.Clone to keep a string for long.
func (r Row) Text(i int) string {
	b, _ := r.cell(i)
	// Safe, because the arena is not written after a Row points into it.
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Get returns the text of the column with that name. It returns false if there is
// no such column, or if it is NULL or unchanged.
func (r Row) Get(name string) (string, bool) {
	i := slices.Index(r.names(), name)
	if i < 0 || r.IsNull(i) || r.IsUnchanged(i) {
		return "", false
	}
	return r.Text(i), true
}

// Equal reports whether r and s have equal columns and equal cells.
func (r Row) Equal(s Row) bool {
	if !r.Columns().Equal(s.Columns()) {
		return false
	}
	for i := range r.Len() {
		a, f := r.cell(i)
		b, g := s.cell(i)
		if written(f) != written(g) || !bytes.Equal(a, b) {
			return false
		}
	}
	return true
}

// written is the form in which a reader of JSON sees a cell.
func written(f form) form {
	if f == blob {
		return text
	}
	return f
}

// String returns the names of the columns. It omits the values, which may be
// secret.
func (r Row) String() string { return fmt.Sprintf("row of columns %q", r.names()) }

func (r Row) names() []string {
	if r.batch == nil {
		return nil
	}
	return r.batch.columns.names
}

// LogValue returns the text of String, so that logs do not contain values.
func (r Row) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Of returns a single row. The values are of the types that a driver returns. Of
// is meant for tests and fakes. It returns an error if the number of values
// differs from the number of columns, or if a value has an unknown type.
func Of(columns *Columns, values ...any) (Row, error) {
	b := NewBuilder(columns, 1)
	if len(values) != columns.Len() {
		return Row{}, fmt.Errorf("row: %d values for %d columns", len(values), columns.Len())
	}
	for i := range b.cells {
		if err := b.cells[i].Scan(values[i]); err != nil {
			return Row{}, err
		}
	}
	b.Add()
	return b.Rows()[0], nil
}
