package changelog

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// The operations in the change table.
const (
	opInsert   = "I"
	opUpdate   = "U"
	opDelete   = "D"
	opTruncate = "T"
	opState    = "P" // the row after all changes by the transaction so far
	opLookUp   = "C" // the row with the key may have changed, or be gone
	opReplaced = "R" // the row with the key may be gone
	opStart    = "S" // recording began here: earlier changes may be missing
)

// facts are the database's facts about a table and its change table.
type facts struct {
	sql     dialect.Dialect
	parts   []string // the table's name, the schema first where there are schemas
	label   string   // the name in Change.Table
	schema  string   // in front of the change table's name; "" if it is the default
	columns []column // those that are recorded, in the table's order
	all     []string // the columns that are delivered
	key     []string // in the order of Key
	absent  []string // those of Omit that do not exist
	types   map[string]row.Type
	store   store
	marks   string // a value that TRUNCATE changes, where it runs no trigger
	unseen  string // what is not recorded, as a clause of the guarantee; "" if nothing
	last    int64  // the number of the last change that is recorded

	more any // what only the engine needs
}

// column is a column of the table.
type column struct {
	name  string // as the database has it
	typ   string // in the change table; "" for no type
	key   bool
	pair  int    // which of its pairs in the change table, from 1 on
	equal string // the operator that compares keys, by default =
	pg    pgColumn
}

// store is the change table.
type store struct {
	name    string
	limit   int  // the length of a name
	fold    bool // names of columns are equal without regard to case
	exists  bool
	columns []stored // without those that each change table has
}

// stored is a column of the change table.
type stored struct{ name, typ string }

// fixed are the columns that each change table has, in this order, before those with values. Width
// is how many columns the trigger knew, of those that the change table has for new values: a column
// that was added later has no value in earlier changes.
var fixed = []string{"seq", "op", "at", "width"}

// newColumn matches the names of columns for new values, as prefixed writes them.
var newColumn = regexp.MustCompile(`^new[0-9]*_`)

// prefixed returns the name of the column for values before or after a change: old_x, and old2_x in the
// second pair of x. One that differs in case only is that column where it cannot be another.
func (s *store) prefixed(when string, c column) string {
	if c.pair > 1 {
		when += strconv.Itoa(c.pair)
	}
	name := s.short(when + "_" + c.name)
	if i := slices.IndexFunc(s.columns, func(c stored) bool { return s.fold && strings.EqualFold(c.name, name) }); i >= 0 {
		return s.columns[i].name
	}
	return name
}

// short returns a name that is not longer than the limit.
func (s *store) short(name string) string {
	if len(name) <= s.limit {
		return name
	}
	cut := strings.ToValidUTF8(name[:s.limit-9], "")
	return fmt.Sprintf("%s_%08x", cut, crc32.ChecksumIEEE([]byte(name)))
}

func (s *store) old(c column) string { return s.prefixed("old", c) }
func (s *store) new(c column) string { return s.prefixed("new", c) }

// object returns the name of a trigger or function.
func (s *store) object(suffix string) string { return s.short(s.name + suffix) }

// has returns the type of a column, and whether it exists.
func (s *store) has(name string) (string, bool) {
	i := slices.IndexFunc(s.columns, func(c stored) bool { return c.name == name })
	if i < 0 {
		return "", false
	}
	return s.columns[i].typ, true
}

// order returns the names of the columns for new values, in the order in which they were added,
// once the script has run.
func (f *facts) order() (names []string) {
	for _, c := range f.store.columns {
		if newColumn.MatchString(c.name) {
			names = append(names, c.name)
		}
	}
	for _, c := range f.columns {
		if name := f.store.new(c); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// width is how many columns for new values there are once the script has run.
func (f *facts) width() int { return len(f.order()) }

// unrecorded adds a clause to what is not recorded.
func (f *facts) unrecorded(clause string) {
	if f.unseen != "" {
		f.unseen += "; "
	}
	f.unseen += clause
}

// keyColumns are the columns of the key, in its order.
func (f *facts) keyColumns() (columns []column) {
	for _, name := range f.key {
		i := slices.IndexFunc(f.columns, func(c column) bool { return c.name == name })
		columns = append(columns, f.columns[i])
	}
	return columns
}

// keep leaves only the columns to record, and marks those of the key.
func (f *facts) keep(t *Table, primary []string) error {
	key := t.Key
	if key == nil {
		key = primary
	}
	if len(key) == 0 {
		return refuse(f, "it has no primary key; set Key to columns that tell its rows apart: together unique and never NULL")
	}
	for _, name := range slices.Concat(key, t.Omit) {
		switch exists := slices.ContainsFunc(f.columns, func(c column) bool { return c.name == name }); {
		case !exists && slices.Contains(key, name):
			return refuse(f, "it has no column %q", name)
		case !exists:
			f.absent = append(f.absent, name)
		}
		if slices.Contains(key, name) && slices.Contains(t.Omit, name) {
			return refuse(f, "Omit names %q, which is a column of the key", name)
		}
	}
	f.key = key
	for _, c := range f.columns {
		f.all = append(f.all, c.name)
	}
	f.all = slices.DeleteFunc(f.all, func(name string) bool { return slices.Contains(t.Omit, name) })
	f.columns = slices.DeleteFunc(f.columns, func(c column) bool {
		return slices.Contains(t.Omit, c.name) || t.KeysOnly && !slices.Contains(key, c.name)
	})
	for i := range f.columns {
		f.columns[i].key = slices.Contains(key, f.columns[i].name)
	}
	return nil
}

// keyWidth is how many columns for new values a trigger must know to record the key.
func (f *facts) keyWidth() int {
	order, width := f.order(), 0
	for _, c := range f.keyColumns() {
		width = max(width, 1+slices.Index(order, f.store.new(c)))
	}
	return width
}

// choosePairs decides for each column which pair of columns of the change table holds its values: the
// last one, or the next one if its type was changed or the triggers have not filled it. Earlier changes
// do not have the values of a new pair, so their rows are looked up, and those without the key are a gap. triggers is the triggers' text;
// without any, the script writes an S.
func (f *facts) choosePairs(q quoter, triggers string) {
	for i := range f.columns {
		c := &f.columns[i]
		for c.pair = 1; ; c.pair++ {
			next := *c
			next.pair++
			if _, ok := f.store.has(f.store.new(next)); !ok {
				break
			}
		}
		typ, ok := f.store.has(f.store.new(*c))
		if ok && (typ != c.typ || triggers != "" && !strings.Contains(triggers, q.Quote(f.store.new(*c)))) {
			c.pair++
		}
	}
}

// wrongColumns returns how the change table differs from what the table's columns need.
func (f *facts) wrongColumns() (wrong []finding) {
	if !f.store.exists {
		return []finding{{"the change table " + f.store.name + " does not exist", true}}
	}
	for _, c := range f.columns {
		for _, name := range []string{f.store.old(c), f.store.new(c)} {
			_, ok := f.store.has(name)
			if !ok && c.pair > 1 {
				wrong = append(wrong, finding{fmt.Sprintf("the type of the column %q was changed, or it was not recorded for some time", c.name), c.key})
				break
			}
			if !ok {
				wrong = append(wrong, finding{fmt.Sprintf("the column %q was added or renamed, and is not recorded", c.name), c.key})
				break
			}
		}
	}
	return wrong
}

// alter returns the statements that add columns to an existing change table. add writes one.
func (f *facts) alter(add func(name, typ string) string) (statements []string) {
	for _, c := range f.columns {
		for _, name := range []string{f.store.old(c), f.store.new(c)} {
			if _, ok := f.store.has(name); !ok {
				statements = append(statements, add(name, c.typ))
			}
		}
	}
	return statements
}

// definitions returns the columns with values for CREATE TABLE.
func (f *facts) definitions(suffix string) (list []string) {
	for _, c := range f.columns {
		for _, name := range []string{f.store.old(c), f.store.new(c)} {
			list = append(list, strings.TrimSpace(f.sql.Quote(name)+" "+c.typ)+suffix)
		}
	}
	return list
}

// findStore finds the change table: the one with the name, or the first one with a free name. read returns
// the columns of a table, none if it does not exist.
func (f *facts) findStore(t *Table, limit int, read func(name string) ([]stored, error)) error {
	f.store.limit = limit
	base := t.Changes
	if base == "" {
		long := store{limit: limit - 20} // leaves room for the ends of names
		base = long.short(f.parts[len(f.parts)-1] + "_changes")
	}
	for i := 1; ; i++ {
		f.store.name = base
		if i > 1 {
			f.store.name = fmt.Sprint(base, i)
		}
		columns, err := read(f.store.name)
		if err != nil {
			return err
		}
		if len(columns) == 0 {
			return f.wereColumns()
		}
		ours := len(columns) >= len(fixed)
		for k, name := range fixed {
			ours = ours && columns[k].name == name
		}
		if ours {
			f.store.exists, f.store.columns = true, columns[len(fixed):]
			return f.wereColumns()
		}
		if t.Changes != "" {
			return refuse(f, "the table %s exists and is not a change table; set Changes to a free name", t.Changes)
		}
	}
}

// wereColumns refuses names in Omit that are not those of columns, unless they were: a column is named there before it
// is dropped.
func (f *facts) wereColumns() error {
	for _, name := range f.absent {
		if _, ok := f.store.has(f.store.old(column{name: name})); !ok {
			return refuse(f, "it has no column %q", name)
		}
	}
	return nil
}

// list joins the results of calling of for each column.
func list(columns []column, separator string, of func(column) string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = of(c)
	}
	return strings.Join(parts, separator)
}

// namePart is a part of a table's name: in double quotes, with "" for a quote, or without dots and quotes.
var namePart = regexp.MustCompile(`^(?:"((?:[^"]|"")*)"|([^".]+))(\.|$)`)

func splitName(name string) (parts []string, err error) {
	for rest, more := name, true; more; {
		m := namePart.FindStringSubmatch(rest)
		if m == nil || len(parts) == 2 || m[1]+m[2] == "" {
			return nil, errors.New("want a name, or a schema, a dot and a name; put a name with dots or quotes into double quotes, and double the quotes inside")
		}
		parts = append(parts, m[2]+strings.ReplaceAll(m[1], `""`, `"`)) // one of them is empty
		rest, more = rest[len(m[0]):], m[3] == "."
	}
	return parts, nil
}

// spaced returns a text with single spaces, because a client can have indented it.
func spaced(s string) string { return strings.Join(strings.Fields(s), " ") }

// readStored is for findStore: it runs a statement that returns names and types.
func readStored(ctx context.Context, db ceiling.Queryer, statement string, args ...any) ([]stored, error) {
	return ceiling.List(ctx, db, func(s *stored) []any { return []any{&s.name, &s.typ} }, statement, args...)
}
