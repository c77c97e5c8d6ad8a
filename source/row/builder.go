package row

import (
	"fmt"
	"unsafe"
)

// The first allocations of a batch. An idle table's batch has a row or two.
const (
	firstArena = 4 << 10
	firstRows  = 16
)

// Builder makes the rows of one batch after the other. It is not safe for
// concurrent use. What it handed over it never touches again.
type Builder struct {
	columns *Columns
	hint    int
	cells   []cell // one for each column
	dest    []any  // pointers to cells

	b     *batch
	rows  int
	start int // of the row being scanned, in b.arena
}

// NewBuilder returns a builder of rows of these columns. The hint is how many
// rows a batch will have at most; it may be wrong.
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

// Columns returns the columns of the rows it makes.
func (b *Builder) Columns() *Columns { return b.columns }

// Dest returns what to scan a row into, for [database/sql.Rows.Scan]. It is
// always the same slice, to be scanned in order. A scan that failed may be
// followed by another; nothing is left of it.
func (b *Builder) Dest() []any { return b.dest }

// Add ends the row that was scanned and returns how many bytes it takes. It
// panics if no row, or only half of one, was scanned since the last Add.
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

// Len returns how many rows were added since the last Rows.
func (b *Builder) Len() int { return b.rows }

// Rows hands over the rows added and begins a new batch. It returns nil if
// there are none.
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

// grow returns the arena with room for a usual row, if need be in memory four
// times as large, but no larger than the rows so far make the whole batch. Left
// to itself append would copy the arena a dozen times, in steps of a quarter.
func (b *Builder) grow(arena []byte) []byte {
	if arena == nil {
		return make([]byte, 0, firstArena)
	}
	usual := len(arena) / max(b.rows, 1)
	if cap(arena)-len(arena) > 2*usual {
		return arena
	}
	whole := (usual + usual/16) * max(b.hint, b.rows)
	return append(make([]byte, 0, max(min(4*len(arena), whole), len(arena)+4*usual)), arena...)
}
