package row

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Columns are the names and kinds of the columns of a row, in order. They are
// immutable and safe for concurrent use.
type Columns struct {
	names []string
	kinds []Kind
	keys  []string // the text before each value in JSON, such as ,"name":
}

// NewColumns returns columns with the given names and kinds. If kinds is shorter
// than names, the other columns have kind [Auto]. NewColumns panics if kinds is
// longer than names.
//
// Names are changed to valid UTF-8, and made unique, because a reader of JSON or
// CSV would drop one of two columns with the same name: the second "id" becomes
// "id_2", and so on.
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
		name = strings.ToValidUTF8(name, "\uFFFD")
		free := name
		for n := 2; slices.Contains(c.names[:i], free); n++ {
			free = name + "_" + strconv.Itoa(n)
		}
		c.names[i] = free
		key := appendString([]byte{','}, []byte(free))
		c.keys[i] = string(append(key, ':'))
	}
	return c
}

// Len returns the number of columns.
func (c *Columns) Len() int { return len(c.names) }

// Name returns the name of column i. It panics if i is out of range.
func (c *Columns) Name(i int) string { return c.names[i] }

// Kind returns the kind of column i. It panics if i is out of range.
func (c *Columns) Kind(i int) Kind { return c.kinds[i] }

// Index returns the index of the column with that name, or -1.
func (c *Columns) Index(name string) int { return slices.Index(c.names, name) }

// Equal reports whether c and d have the same names and kinds in the same order.
// A nil Columns equals only nil.
func (c *Columns) Equal(d *Columns) bool {
	if c == nil || d == nil {
		return c == d
	}
	return slices.Equal(c.names, d.names) && slices.Equal(c.kinds, d.kinds)
}
