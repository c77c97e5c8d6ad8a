package sqlsink

import (
	"slices"

	"github.com/artifactofdevotion/devotion/source/row"
)

// step is a part of the changes of one table that is written by sets: the table is emptied, then
// rows are deleted, then those of partial are updated, then those of rows are inserted or updated.
// No two of them have the same key. Or it is one change that moves a row and does not say all of
// its values.
type step struct {
	truncate bool
	deleted  []row.Row // keys
	partial  []row.Change
	rows     []row.Row
	moved    *row.Change
}

// folding folds changes of one table: for each key the last change counts.
type folding struct {
	steps    []step
	truncate bool
	order    []string
	last     map[string]*row.Change // by the key; a Delete has the key in Key
}

// fold returns the steps that have the effect of the changes of one table, one after the other.
// Each change must have a key, or be a Truncate. single makes a step of each change.
func fold(changes []row.Change, single bool) []step {
	f := folding{last: map[string]*row.Change{}}
	for i := range changes {
		f.add(&changes[i])
		if single {
			f.flush()
		}
	}
	f.flush()
	return f.steps
}

func (f *folding) add(c *row.Change) {
	if c.Op == row.Truncate {
		clear(f.last)
		f.order, f.truncate = f.order[:0], true
		return
	}
	key := keyText(c.Key)
	if c.Op == row.Delete {
		f.set(key, c)
		return
	}
	old, moved := oldKey(c)
	if isPartial(c.Row) {
		if moved { // only an update of the old row keeps the values that are not known
			f.flush()
			f.steps = append(f.steps, step{moved: c})
			return
		}
		if before := f.last[key]; before != nil && (before.Op == row.Delete || !covers(c.Row, before.Row)) {
			f.flush()
		}
	}
	if moved {
		f.set(keyText(old), &row.Change{Op: row.Delete, Key: old})
	}
	f.set(key, c)
}

func (f *folding) set(key string, c *row.Change) {
	if f.last[key] == nil {
		f.order = append(f.order, key)
	}
	f.last[key] = c
}

// flush ends a step.
func (f *folding) flush() {
	s := step{truncate: f.truncate}
	for _, key := range f.order {
		switch c := f.last[key]; {
		case c.Op == row.Delete:
			s.deleted = append(s.deleted, c.Key)
		case isPartial(c.Row):
			s.partial = append(s.partial, *c)
		default:
			s.rows = append(s.rows, c.Row)
		}
	}
	if f.truncate {
		s.deleted = nil
	}
	if f.truncate || len(f.order) > 0 {
		f.steps = append(f.steps, s)
	}
	clear(f.last)
	f.order, f.truncate = nil, false
}

func keyText(key row.Row) string { return string(key.AppendCells(nil)) }

// oldKey returns the key before a change, and whether it is known and another one.
func oldKey(c *row.Change) (old row.Row, moved bool) {
	if c.Old.Columns() == nil {
		return old, false
	}
	indexes := make([]int, c.Key.Len())
	for i := range indexes {
		if indexes[i] = c.Old.Columns().Index(c.Key.Columns().Name(i)); indexes[i] < 0 || c.Old.IsUnchanged(indexes[i]) {
			return old, false
		}
	}
	old = row.Pick([]row.Row{c.Old}, indexes...)[0]
	return old, keyText(old) != keyText(c.Key)
}

// isPartial reports whether a value of a row is not known.
func isPartial(r row.Row) bool {
	return slices.ContainsFunc(indexes(r), r.IsUnchanged)
}

// covers reports whether a row says each value that one before it says.
func covers(r, before row.Row) bool {
	return r.Columns().Equal(before.Columns()) && !slices.ContainsFunc(indexes(r), func(i int) bool { return r.IsUnchanged(i) && !before.IsUnchanged(i) })
}

func indexes(r row.Row) []int {
	all := make([]int, r.Len())
	for i := range all {
		all[i] = i
	}
	return all
}

// knownValues returns a row with those columns whose values are known.
func knownValues(r row.Row) row.Row {
	known := slices.DeleteFunc(indexes(r), r.IsUnchanged)
	return row.Pick([]row.Row{r}, known...)[0]
}
