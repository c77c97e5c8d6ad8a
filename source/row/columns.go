package row

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Columns are the names, kinds and types of the columns of a row, in order. They
// are immutable and safe for concurrent use.
type Columns struct {
	names []string
	kinds []Kind
	types []Type
	keys  []string // the text before each value in JSON, such as ,"name":
}

// NewColumns returns columns with the given names, kinds and types. If kinds or
// types is shorter than names, the other columns have kind [Auto], or a type that is
// not known. NewColumns panics if kinds or types is longer than names.
//
// Names are changed to valid UTF-8, and made unique, because a reader of JSON or
// CSV would drop one of two columns with the same name: the second "id" becomes
// "id_2", and so on.
func NewColumns(names []string, kinds []Kind, types ...Type) *Columns {
	if max(len(kinds), len(types)) > len(names) {
		panic(fmt.Sprintf("row: %d kinds and %d types for %d columns", len(kinds), len(types), len(names)))
	}
	c := &Columns{
		names: make([]string, len(names)),
		kinds: make([]Kind, len(names)),
		types: make([]Type, len(names)),
		keys:  make([]string, len(names)),
	}
	copy(c.kinds, kinds)
	copy(c.types, types)
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

// Type returns the SQL type of column i. It panics if i is out of range.
func (c *Columns) Type(i int) Type { return c.types[i] }

// Index returns the index of the column with that name, or -1.
func (c *Columns) Index(name string) int { return slices.Index(c.names, name) }

// Equal reports whether c and d have the same names and kinds in the same order,
// whatever their types: rows with equal columns are written the same way.
// A nil Columns equals only nil.
func (c *Columns) Equal(d *Columns) bool {
	if c == nil || d == nil {
		return c == d
	}
	return slices.Equal(c.names, d.names) && slices.Equal(c.kinds, d.kinds)
}
