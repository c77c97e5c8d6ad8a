package changelog

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// reader reads an installed change table.
type reader struct {
	facts    *facts
	label    string
	keysOnly bool
	db       *sqlx.DB
	store    string // the change table's name for SQL
	checked  time.Time

	table  *sqlsource.Table // the changes
	lookUp *sqlsource.Table // the same changes, joined to the present rows
	rows   *sqlsource.Table // the table itself
	rowKey []int            // the columns of the key among the table's

	order           []string // of the columns for new values
	width, keyWidth int      // how many of them a trigger must know to record all columns, and the key

	guarantee, by *source.Guarantee
}

func newReader(ctx context.Context, db ceiling.Queryer, t *Table, f *facts) (*reader, error) {
	parts := []string{f.schema, f.store.name}
	r := &reader{facts: f, label: f.label, keysOnly: t.KeysOnly, db: t.DB, store: dialect.QuoteAll(f.sql, parts), checked: time.Now()}
	r.order, r.keyWidth = f.order(), f.keyWidth()
	for _, c := range f.columns {
		r.width = max(r.width, 1+slices.Index(r.order, f.store.new(c)))
	}
	source := func(name []string, key ...string) *sqlsource.Table {
		return &sqlsource.Table{DB: t.DB, Name: joinName(name), Key: key, Logger: t.Logger, MaxBytes: t.MaxBytes, MaxRowBytes: t.MaxRowBytes}
	}
	r.rows = source(f.parts, f.key...)
	r.rows.Columns, r.rows.Ceiling, r.rows.Logger = f.all, ceiling.None{}, slog.New(slog.DiscardHandler) // changes have the missed rows
	for _, name := range f.key {
		r.rowKey = append(r.rowKey, slices.Index(f.all, name))
	}
	r.lookUp = source(parts, "seq")
	r.lookUp.Select, r.lookUp.Ceiling, r.lookUp.Logger = r.joined(), ceiling.None{}, r.rows.Logger
	r.table = source(parts, "seq")
	if r.table.Select = r.joined(); !r.keysOnly {
		r.table.Select, r.table.Columns = "", slices.Clone(fixed)
		for _, c := range f.columns {
			r.table.Columns = append(r.table.Columns, f.store.old(c), f.store.new(c))
		}
	}
	return r, nil
}

// joinName writes a name as sqlsource.Table.Name has it.
func joinName(parts []string) string { return dialect.QuoteAll(pgQuoter, parts) }

// same reports whether a reader made from these facts would read in the same way.
func (r *reader) same(f *facts) bool {
	return slices.Equal(r.facts.columns, f.columns) && slices.Equal(r.facts.all, f.all) && slices.Equal(r.facts.order(), f.order()) &&
		maps.Equal(r.facts.types, f.types) && slices.Equal(r.facts.parts, f.parts) && slices.Equal(r.facts.key, f.key) && r.facts.store.name == f.store.name && reflect.TypeOf(r.facts.more) == reflect.TypeOf(f.more)
}

// joined selects the changes, in which the key is that before and after, and the present rows.
func (r *reader) joined() string {
	f, q := r.facts, r.facts.sql.Quote
	present, keys := "t."+q(f.key[0]), f.keyColumns()
	cols := []string{"c.seq", "c.op", "c.at", "c.width", "CASE WHEN " + present + " IS NULL THEN 0 ELSE 1 END AS present"}
	for _, c := range keys {
		cols = append(cols, "c."+q(f.store.old(c)), "c."+q(f.store.new(c)))
	}
	for i, name := range f.all {
		cols = append(cols, fmt.Sprintf("t.%s AS %s", q(name), q("row_"+strconv.Itoa(i))))
	}
	on := list(keys, " AND ", func(c column) string {
		equal := c.equal
		if equal == "" {
			equal = "="
		}
		return fmt.Sprintf("t.%s %s %s", q(c.name), equal, c.pg.value("c."+q(f.store.new(c))))
	})
	return "SELECT " + strings.Join(cols, ", ") + " FROM " + r.store + " AS c LEFT JOIN " + dialect.QuoteAll(f.sql, f.parts) + " AS t ON " + on
}

// convert makes changes of the rows of the change table. It returns how many rows it has read before an
// error.
func (r *reader) convert(ctx context.Context, rows []row.Row) (all []row.Change, done int, err error) {
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Text(1) == rows[0].Text(1) && rows[n].Text(3) == rows[0].Text(3) {
			n++
		}
		run, op := rows[:n], rows[0].Text(1)
		var changes []row.Change
		looked := 0
		switch {
		case r.unkeyed(run[0]): // before a gap that was adopted, or before the load
		case r.isLookedUp(run[0]):
			changes, looked, err = r.look(ctx, run, op)
		case r.keysOnly:
			changes = r.fromJoined(run)
		default:
			changes = r.fromStored(run)
		}
		if err != nil {
			return nil, done + looked, err
		}
		all, rows, done = append(all, changes...), rows[n:], done+n
	}
	return all, done, nil
}

// isLookedUp reports whether the present row is read for a change.
func (r *reader) isLookedUp(c row.Row) bool {
	op := c.Text(1)
	return op == opLookUp || op == opReplaced || r.stale(c)
}

// stale reports whether a change was recorded without a column that is recorded now. Its value may
// have been changed without another record, so the row is looked up.
func (r *reader) stale(c row.Row) bool {
	op := c.Text(1)
	if r.keysOnly || op != opInsert && op != opUpdate && op != opState {
		return false
	}
	return widthOf(c) < r.width
}

// unkeyed reports whether a change was recorded without a column of the key, because it had another name or type, so
// its key is not known.
func (r *reader) unkeyed(c row.Row) bool {
	op, width := c.Text(1), widthOf(c)
	return op != opStart && op != opTruncate && max(width, -width) < r.keyWidth
}

// widthOf returns how many columns for new values the trigger knew that recorded a change. It is negative if the trigger
// recorded the key only, for a deletion.
func widthOf(c row.Row) int {
	width, _ := strconv.Atoi(c.Text(3))
	return width
}

// head makes the change of a row without its values.
func (r *reader) head(c row.Row, op row.Op) row.Change {
	at, _ := time.Parse(time.RFC3339Nano, c.Text(2))
	if at.IsZero() {
		at, _ = time.Parse("2006-01-02T15:04:05.999999999", c.Text(2))
	}
	return row.Change{Op: op, Table: r.label, At: at, Position: c.Text(0)}
}

// fromStored makes changes of rows of one operation and width that hold the values.
func (r *reader) fromStored(run []row.Row) []row.Change {
	f, op := r.facts, run[0].Text(1)
	width := widthOf(run[0])
	from := run[0].Columns()
	var olds, news []int
	names, kinds, types := make([]string, len(f.columns)), make([]row.Kind, len(f.columns)), make([]row.Type, len(f.columns))
	for i, c := range f.columns {
		names[i], kinds[i], types[i] = c.name, from.Kind(len(fixed)+2*i), f.types[c.name]
		at := len(fixed) + 2*i
		if !c.key && slices.Index(r.order, f.store.new(c)) >= width { // the trigger did not know it
			at = -2
		}
		olds, news = append(olds, at), append(news, max(at+1, -1))
	}
	columns := row.NewColumns(names, kinds, types...)
	kind := map[string]row.Op{opInsert: row.Insert, opUpdate: row.Update, opDelete: row.Delete, opTruncate: row.Truncate, opState: row.Upsert}[op]
	if _, lite := f.more.(*liteFacts); lite && op == opUpdate {
		kind = row.Upsert
	}
	var before, after, keys []row.Row
	keyed := news
	switch op {
	case opStart:
		return nil
	case opDelete:
		before, keyed = row.Project(run, columns, olds), olds
		if width < 0 {
			before = nil
		}
	case opUpdate:
		before, after = row.Project(run, columns, olds), row.Project(run, columns, news)
	case opInsert, opState:
		after = row.Project(run, columns, news)
	}
	if op != opTruncate {
		keys = r.pickKey(run, columns, keyed)
	}
	changes := make([]row.Change, len(run))
	for i, c := range run {
		changes[i] = r.head(c, kind)
		if keys != nil {
			changes[i].Key = keys[i]
		}
		if before != nil {
			changes[i].Old = before[i]
		}
		if after != nil {
			changes[i].Row = after[i]
		}
	}
	return changes
}

// pickKey returns the rows with the columns of the key alone. indexes are those of all columns.
func (r *reader) pickKey(run []row.Row, columns *row.Columns, indexes []int) []row.Row {
	var names []string
	var kinds []row.Kind
	var types []row.Type
	var from []int
	for _, name := range r.facts.key {
		i := columns.Index(name)
		names, kinds, types, from = append(names, name), append(kinds, columns.Kind(i)), append(types, columns.Type(i)), append(from, indexes[i])
	}
	return row.Project(run, row.NewColumns(names, kinds, types...), from)
}

// fromJoined makes changes of rows that are joined to the present ones.
func (r *reader) fromJoined(run []row.Row) (changes []row.Change) {
	f, from := r.facts, run[0].Columns()
	op := run[0].Text(1)
	switch op {
	case opStart:
		return nil
	case opTruncate:
		for _, c := range run {
			changes = append(changes, r.head(c, row.Truncate))
		}
		return changes
	}
	first := len(fixed) + 1 // of the pairs of the key
	var olds, news []int
	kinds, types := make([]row.Kind, len(f.key)), make([]row.Type, len(f.key))
	for i, name := range f.key {
		olds, news = append(olds, first+2*i), append(news, first+2*i+1)
		kinds[i], types[i] = from.Kind(first+2*i), f.types[name]
	}
	keyed := row.NewColumns(f.key, kinds, types...)
	before, keys := row.Project(run, keyed, olds), row.Project(run, keyed, news)
	var values []int
	kinds, types = nil, nil
	for i, name := range f.all {
		at := first + 2*len(f.key) + i
		values, kinds, types = append(values, at), append(kinds, from.Kind(at)), append(types, f.types[name])
	}
	present := row.Project(run, row.NewColumns(f.all, kinds, types...), values)
	for i, c := range run {
		change := r.head(c, row.Upsert)
		change.Key, change.Row = keys[i], present[i]
		if c.Text(4) == "0" || r.renamed(c, news, values) { // no such row exists now
			change.Op, change.Row = row.Delete, row.Row{}
		}
		if op == opDelete {
			change.Key = before[i]
		} else if op == opUpdate && !before[i].Equal(keys[i]) {
			change.Old = before[i]
		}
		if change.Op == row.Delete && change.Old.Columns() != nil { // the row was moved, and a later change deleted it
			change.Key, change.Old = change.Old, row.Row{}
		}
		changes = append(changes, change)
	}
	return changes
}

// renamed reports whether the present row's key has another text than that of the change, although the database finds
// them equal, such as a and A.
func (r *reader) renamed(c row.Row, news, values []int) bool {
	for i, at := range r.rowKey {
		if c.Text(news[i]) != c.Text(values[at]) {
			return true
		}
	}
	return false
}

// lookWait limits how long look waits until the present rows are on the server's disk. A server that commits
// asynchronously writes its log several times a second.
const lookWait = 2 * time.Second

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(max(d, time.Millisecond)):
		return nil
	}
}

// look reads the present rows for changes that hold a key only. It returns how many it has read before an error.
func (r *reader) look(ctx context.Context, run []row.Row, op string) (changes []row.Change, done int, err error) {
	begun := time.Now()
	first, _ := strconv.ParseInt(run[0].Text(0), 10, 64)
	after, err := r.lookUp.At(first - 1)
	for len(changes) < len(run) && err == nil {
		var b source.Batch[row.Row]
		if b, err = r.lookUp.Fetch(ctx, after, len(run)-len(changes)); err == nil {
			if len(b.Records) == 0 && b.Held != nil && time.Since(begun) < lookWait {
				err = pause(ctx, b.Held.Retry)
				continue
			}
			if len(b.Records) == 0 {
				return nil, 0, fmt.Errorf("changelog: %s: changes that were read cannot be read again now", r.label)
			}
			changes, after = append(changes, r.fromJoined(b.Records)...), b.To
		}
	}
	done = len(changes)
	if op == opReplaced {
		changes = slices.DeleteFunc(changes, func(c row.Change) bool { return c.Op != row.Delete })
	}
	return changes, done, err
}
