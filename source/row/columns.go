package row

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Columns are the names and kinds of a row's columns, in order. They never
// change once made, and are safe for concurrent use.
type Columns struct {
	names []string
	kinds []Kind
	keys  []string // what precedes each value in JSON, such as ,"name":
}

// NewColumns returns columns of the names given. A column whose kind is missing
// in kinds is [Auto]; it panics if there are more kinds than names.
//
// Names are made valid UTF-8 and unique, since JSON and CSV readers would drop
// one of two columns of one name: the second "id" becomes "id_2", and so on.
func NewColumns(names []string, kinds []Kind) *Columns {
	if len(kinds) > len(names) {
		panic(fmt.Sprintf("row: %d kinds for %d columns", len(kinds), len(names)))
	}
	c := &Columns{
		names: make([]string, len(names)),
		kinds: make([]Kind, len(names)),
		keys:  make([]string, len(names)),
	}
	copy(c.kinds, kinds)
	for i, name := range names {
		c.names[i] = unique(strings.ToValidUTF8(name, "\uFFFD"), c.names[:i])
		key := appendString([]byte{','}, []byte(c.names[i]))
		c.keys[i] = string(append(key, ':'))
	}
	return c
}

// unique returns name, with a number appended if it is among taken.
func unique(name string, taken []string) string {
	free := name
	for n := 2; slices.Contains(taken, free); n++ {
		free = name + "_" + strconv.Itoa(n)
	}
	return free
}

// Len returns the number of columns.
func (c *Columns) Len() int { return len(c.names) }

// Name returns the name of column i.
func (c *Columns) Name(i int) string { return c.names[i] }

// Kind returns the kind of column i.
func (c *Columns) Kind(i int) Kind { return c.kinds[i] }

// Index returns the number of the column of that name, or -1.
func (c *Columns) Index(name string) int { return slices.Index(c.names, name) }

// Equal reports whether both have the same columns, with the same names and
// kinds, in the same order.
func (c *Columns) Equal(d *Columns) bool {
	if c == nil || d == nil {
		return c == d
	}
	return slices.Equal(c.names, d.names) && slices.Equal(c.kinds, d.kinds)
}

// AppendCSVHeader appends the names as one CSV record.
func (c *Columns) AppendCSVHeader(dst []byte) []byte {
	for i, name := range c.names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, []byte(name))
	}
	return append(dst, '\r', '\n')
}
