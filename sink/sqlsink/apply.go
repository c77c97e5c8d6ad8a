package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Apply returns a sink that applies changes of any number of tables: it inserts, updates and
// deletes the row of each change's key, whatever exists there. Each table must have a unique key of
// the columns of the change's key. name is the pipeline's name in the table of cursors. Apply does
// not access the database yet. The caller closes db.
func Apply(db *sqlx.DB, name string, o Options) (*Sink[row.Change], error) {
	fail := func(err error) (*Sink[row.Change], error) { return nil, fmt.Errorf("sqlsink: %w", err) }
	if len(o.Key) > 0 {
		return fail(errors.New("Options.Key is set: a change says its key"))
	}
	s, err := open[row.Change](db, name, o)
	if err != nil {
		return fail(err)
	}
	targetOf := o.Target
	if targetOf == nil {
		targetOf = withoutSchema
	}
	s.folds = true
	s.batches = func(changes []row.Change, single bool) (runs []run, err error) {
		for from := 0; from < len(changes); {
			to := from + 1
			for to < len(changes) && changes[to].Table == changes[from].Table {
				to++
			}
			table := targetOf(changes[from].Table)
			if s.targets[table] == nil {
				if err := s.addTarget(table); err != nil {
					return nil, dialect.Permanent("changes of %q: %w", changes[from].Table, err)
				}
			}
			part, err := runsOfChanges(table, changes[from:to], single)
			if err != nil {
				return nil, err
			}
			runs, from = append(runs, part...), to
		}
		return runs, nil
	}
	return s, nil
}

func withoutSchema(table string) string {
	if parts, err := dialect.SplitName(table); err == nil {
		return dialect.Relation{Name: parts[len(parts)-1]}.Label()
	}
	return table
}

// runsOfChanges folds changes of one table.
func runsOfChanges(table string, changes []row.Change, single bool) (runs []run, err error) {
	for _, c := range changes {
		switch {
		case c.Op == row.Truncate:
		case c.Key.Columns() == nil:
			return nil, dialect.Permanent("%s: a change has no key, so its row cannot be found: the table of the source needs a key", table)
		case c.Op != row.Delete && c.Row.Columns() == nil:
			return nil, dialect.Permanent("%s: an %v has no row", table, c.Op)
		}
	}
	for from := 0; from < len(changes); { // the columns of the key can change
		to := from + 1
		for to < len(changes) && changes[to].Key.Columns().Equal(changes[from].Key.Columns()) {
			to++
		}
		for _, s := range fold(changes[from:to], single) {
			runs = append(runs, s.runs(table, keyNames(changes[from].Key))...)
		}
		from = to
	}
	return runs, nil
}

func keyNames(key row.Row) (names []string) {
	for i := range key.Len() {
		names = append(names, key.Columns().Name(i))
	}
	return names
}

// runs returns what a step writes, in order.
func (s step) runs(table string, key []string) (runs []run) {
	r := run{table: table, key: key}
	if s.truncate {
		r.use = truncates
		runs = append(runs, r)
	}
	r.use = deletes
	runs = append(runs, runsOf(r, s.deleted)...)
	r.use = updates
	for _, c := range s.partial {
		r.rows, r.old = []row.Row{knownValues(c.Row)}, c.Key
		runs = append(runs, r)
	}
	if s.moved != nil {
		r.rows = []row.Row{knownValues(s.moved.Row)}
		r.old, r.moves = oldKey(s.moved)
		runs = append(runs, r)
	}
	r.use, r.old, r.moves = upserts, row.Row{}, false
	return append(runs, runsOf(r, s.rows)...)
}

// update updates one row, which must exist.
func update(ctx context.Context, tx *sqlx.Tx, e engine, r *run) error {
	args := &dialect.Args{Writer: e}
	sets, err := equals(e, r.plan, r.rows[0], args, func(f field) bool { return r.moves || !f.inKey })
	if err != nil || len(sets) == 0 {
		return err
	}
	where, err := equals(e, r.found, r.old, args, all)
	if err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, "UPDATE "+r.plan.name+" SET "+strings.Join(sets, ", ")+" WHERE "+strings.Join(where, " AND "), args.List...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	// Some drivers count only the rows whose values changed.
	args = &dialect.Args{Writer: e}
	if where, err = equals(e, r.found, r.old, args, all); err != nil {
		return err
	}
	var n int
	err = tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+r.plan.name+" WHERE "+strings.Join(where, " AND "), args.List...).Scan(&n)
	if err == nil && n == 0 {
		return errMissing
	}
	return err
}

// missingError is that of an update that leaves out values of a row which does not exist.
type missingError struct{}

func (missingError) Error() string {
	return "the row to update does not exist, and the change does not have all of its values: copy the table again"
}

var errMissing = missingError{}

func all(field) bool { return true }

// equals returns column = value for those columns of a row that are wanted.
func equals(e engine, p *plan, r row.Row, args *dialect.Args, wanted func(field) bool) (list []string, err error) {
	values := make([]value, len(p.fields))
	if err := p.values(r, values); err != nil {
		return nil, err
	}
	for i := range p.fields {
		if !wanted(p.fields[i]) {
			continue
		}
		expr, err := e.expr(&p.fields[i], values[i], args)
		if err != nil {
			return nil, err
		}
		list = append(list, e.Quote(p.fields[i].name)+" = "+expr)
	}
	return list, nil
}

// removed is how many rows one statement deletes.
const removed = 100

// removeSome deletes rows by conditions for their keys.
func removeSome(ctx context.Context, tx *sqlx.Tx, e engine, p *plan, keys []row.Row) error {
	for len(keys) > 0 {
		part := keys[:min(len(keys), removed)]
		keys = keys[len(part):]
		args, conditions := &dialect.Args{Writer: e}, make([]string, len(part))
		for i, key := range part {
			list, err := equals(e, p, key, args, all)
			if err != nil {
				return err
			}
			conditions[i] = "(" + strings.Join(list, " AND ") + ")"
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+p.name+" WHERE "+strings.Join(conditions, " OR "), args.List...); err != nil {
			return err
		}
	}
	return nil
}
