package row

import (
	"fmt"
	"unsafe"
)

// The first allocations for a batch. They are small, because a batch of an idle
// table has only a row or two.
const (
	firstArena = 4 << 10
	firstRows  = 16
)

// maxStep is how much an arena grows at most at once while it is small.
const maxStep = 4 << 20

// Builder builds batches of rows, one after the other. It does not touch a batch
// after Rows has returned it. A Builder is not safe for concurrent use.
type Builder struct {
	columns *Columns
	hint    int    // the expected number of rows in a batch
	cells   []cell // one for each column
	dest    []any  // pointers to cells

	b     *batch
	rows  int
	start int // where the row being scanned begins in b.arena
}

// NewBuilder returns a Builder for rows with these columns. RowsHint is the
// expected maximum number of rows in a batch. It affects only memory use, and may
// be wrong.
func NewBuilder(columns *Columns, rowsHint int) *Builder {
	b := &Builder{columns: columns, hint: max(rowsHint, 1), b: &batch{columns: columns}}
	b.cells = make([]cell, columns.Len())
	b.dest = make([]any, columns.Len())
	for i := range b.cells {
		b.cells[i] = cell{builder: b, index: i, kind: columns.kinds[i]}
		b.dest[i] = &b.cells[i]
	}
	return b
}

// Dest returns the arguments for [database/sql.Rows.Scan], one for each column.
// They must be scanned in order. It returns the same slice each time. After a
// failed scan the row can be scanned again, and nothing of the failed scan
// remains.
func (b *Builder) Dest() []any { return b.dest }

// ScanText scans the text of column i, as a driver returns it in a []byte. It is Scan of Dest()[i]
// without the allocation for an interface.
func (b *Builder) ScanText(i int, text []byte) error {
	c := &b.cells[i]
	if err := b.begin(i); err != nil {
		return err
	}
	arena, f := appendBytes(b.b.arena, c.kind, text)
	return c.set(arena, f, nil)
}

// Add adds the row that was scanned to the batch, and returns its size in bytes.
// It panics if no complete row was scanned since the last Add.
func (b *Builder) Add() (bytes int) {
	n := len(b.cells)
	if len(b.b.cells) != (b.rows+1)*n {
		panic(fmt.Sprintf("row: Add after %d of %d cells were scanned", len(b.b.cells)-b.rows*n, n))
	}
	bytes = len(b.b.arena) - b.start + 4*n + int(unsafe.Sizeof(Row{}))
	b.rows++
	b.start = len(b.b.arena)
	return bytes
}

// Len returns the number of rows in the current batch.
func (b *Builder) Len() int { return b.rows }

// Rows returns the rows of the current batch, and starts a new batch. It returns
// nil if no rows were added.
func (b *Builder) Rows() []Row {
	if b.rows == 0 {
		return nil
	}
	rows := make([]Row, b.rows)
	for i := range rows {
		rows[i] = Row{b.b, i}
	}
	b.b, b.rows, b.start = &batch{columns: b.columns}, 0, 0
	return rows
}

// begin makes room for cell i.
func (b *Builder) begin(i int) error {
	t := b.b
	if i == 0 {
		t.arena = t.arena[:b.start]
		t.cells = t.cells[:b.rows*len(b.cells)]
	}
	if len(t.cells) != b.rows*len(b.cells)+i {
		return fmt.Errorf("row: column %q was scanned out of order", b.columns.names[i])
	}
	if len(t.cells) == cap(t.cells) {
		rows := min(4*b.rows+firstRows, b.hint)
		if rows <= b.rows {
			rows = 2*b.rows + 1
		}
		t.cells = append(make([]uint32, 0, rows*len(b.cells)), t.cells...)
	}
	if i == 0 {
		t.arena = b.grow(t.arena)
	}
	return nil
}

// grow returns the arena with room for a row of average size. If it must allocate,
// it quadruples the arena, or takes the size estimated for the whole batch if that
// is not much more. A large arena grows by maxStep, or by half. Append alone would
// grow in steps of a quarter, and copy the arena about a dozen times. It does so if
// the rows are large.
func (b *Builder) grow(arena []byte) []byte {
	n, rows := len(arena), max(b.rows, 1)
	if arena == nil {
		return make([]byte, 0, firstArena)
	}
	if average := n/rows + 1; average < maxStep && cap(arena)-n <= 2*average {
		size := n + min(3*n, max(maxStep, n/2))
		if whole := (average + average/16) * b.hint; rows < b.hint && whole < size+size/4 {
			size = whole
		}
		arena = append(make([]byte, 0, max(size, n+4*average)), arena...)
	}
	return arena
}
