package sqlsource

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// query is made of the fields of a Table or a Query.
type query struct {
	db          *sqlx.DB
	conn        *sql.Conn // the only one to use; nil: those of db
	sql         dialect.Dialect
	ceiling     ceiling.Ceiling // nil: the one that fits the table
	label       string          // for messages: the table's name, or "query"
	from        string          // what follows FROM; its alias is t
	where       string          // a condition, or empty
	table       []string        // the parts of the name of the table that has the key; nil: not known
	key         []string
	columns     []string // nil: all
	selected    bool     // the rows are those of the user's SELECT
	rows        bool     // records are rows of a Table: a value that a driver changes is selected another way
	start       source.Cursor
	session     dialect.Session // nil: not known
	maxBytes    int
	maxRowBytes int
	print       string                // fingerprint
	identity    string                // fingerprint of the table and its key alone
	usable      func(*sql.Conn) error // whether a connection leads to the database's file
	log         *slog.Logger
}

// plan is how the statement for the present columns is written and read.
type plan struct {
	nonce     int              // 0 for the first plan
	columns   []dialect.Column // as the statement returns them, after the extra columns
	names     []string         // of the columns
	row       *row.Columns
	invisible []string            // columns that a star leaves out
	types     map[string]row.Type // of the table's columns, as far as the catalogue is known
	list      string              // what is selected: the extra columns, then the columns; of a large row no large value
	whole     string              // the list with all values
	short     string              // the list without the values that a digest leaves out
	size      string              // the expression for the size of a row's large values; "": no row can be large
	extraKeys []int               // the columns of the key that are selected first, as extra columns
	sameAs    []int               // for each key column, the column that has the same value; -1: an extra column has it
	key       []dialect.KeyColumn
	schema    int64
	steady    string // a condition under which the list with all values can be read, and the columns are these; "": none is known
}

var typeTime = reflect.TypeFor[time.Time]()

// makePlan asks the database for the columns.
func (q *query) makePlan(ctx context.Context, db ceiling.Queryer, nonce int) (*plan, error) {
	p := &plan{nonce: nonce}
	var err error
	if p.schema, err = q.schema(ctx, db); err != nil { // before the columns, so that no change is missed
		return nil, err
	}
	if q.rows && !q.selected {
		if p.steady, err = q.sql.Steady(ctx, db, q.table); err != nil { // before the columns, too
			return nil, q.wrap(fmt.Errorf("reading how the table is stored: %w", err), nil)
		}
	}
	if q.rows && q.columns == nil {
		if p.invisible, err = q.sql.Invisible(ctx, db, q.table); err != nil {
			return nil, q.wrap(fmt.Errorf("reading the invisible columns: %w", err), nil)
		}
	}
	all, err := q.describeColumns(ctx, db, p)
	if err != nil {
		return nil, q.wrap(fmt.Errorf("reading the columns: %w", err), nil)
	}
	if err := q.planKey(ctx, db, p, all[:len(q.key)]); err != nil {
		return nil, err
	}
	p.columns = all[len(q.key):]
	q.planList(p)
	return p, nil
}

// hasVersion says that the schema has a version, which is compared in place of the columns.
func (q *query) hasVersion() bool { return q.sql.SchemaVersion(q.table) != "" }

func (q *query) schema(ctx context.Context, db ceiling.Queryer) (version int64, err error) {
	if q.hasVersion() {
		err = db.QueryRowContext(ctx, q.sql.SchemaVersion(q.table)).Scan(&version)
	}
	if err != nil {
		err = q.wrap(fmt.Errorf("reading the schema's version: %w", err), nil)
	}
	return version, err
}

// isCurrent reports whether the columns still are those of the plan.
func (p *plan) isCurrent(ctx context.Context, q *query, db ceiling.Queryer) (bool, error) {
	if q.hasVersion() {
		now, err := q.schema(ctx, db)
		return now == p.schema, err
	}
	all, err := q.describeColumns(ctx, db, p)
	if err != nil {
		if q.sql.ColumnsChanged(err) {
			return false, nil
		}
		return false, q.wrap(fmt.Errorf("reading the columns: %w", err), nil)
	}
	sameKey := slices.EqualFunc(all[:len(q.key)], p.key, func(c dialect.Column, k dialect.KeyColumn) bool { return c.Type == k.Type })
	return sameKey && slices.Equal(all[len(q.key):], p.columns), nil
}

func (q *query) ref(name string) string { return "t." + q.sql.Quote(name) }

// refs returns columns for SQL, with commas between them.
func (q *query) refs(names []string) string {
	refs := make([]string, len(names))
	for i, name := range names {
		refs[i] = q.ref(name)
	}
	return strings.Join(refs, ", ")
}

// star returns the columns in the form that the table has.
func (q *query) star(p *plan) string {
	switch {
	case q.columns != nil:
		return q.refs(q.columns)
	case p.invisible != nil:
		return "t.*, " + q.refs(p.invisible)
	}
	return "t.*"
}

// comment makes the statements of each plan different from those of all earlier plans:
// connections may still have one prepared for columns that no longer exist.
func (p *plan) comment(statement string) string {
	if p.nonce == 0 {
		return statement
	}
	return fmt.Sprintf("%s /* columns read again, %x */", statement, p.nonce)
}

// describeColumns returns the columns of the key, and then those of the table.
func (q *query) describeColumns(ctx context.Context, db ceiling.Queryer, p *plan) ([]dialect.Column, error) {
	from := q.from + " WHERE 1 = 0"
	if q.hasVersion() {
		// It returns a row, of NULLs: the database sees that the schema changed at the first step.
		from = "(SELECT 1) AS one LEFT JOIN " + q.from + " ON 1 = 0"
	}
	rows, err := db.QueryContext(ctx, p.comment("SELECT "+q.refs(q.key)+", "+q.star(p)+" FROM "+from))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if q.hasVersion() && !rows.Next() {
		return nil, cmp.Or(rows.Err(), errChanged)
	}
	columns, err := dialect.ResultColumns(rows)
	return columns, cmp.Or(err, rows.Close())
}

// fits returns an error if the result of the list with all values has not the types of the plan.
func (p *plan) fits(rows *sql.Rows) error {
	got, err := dialect.ResultColumns(rows)
	if err != nil {
		return err
	}
	sameKey := slices.EqualFunc(p.extraKeys, got[:len(got)-len(p.columns)], func(k int, c dialect.Column) bool { return c.Type == p.key[k].Type })
	if !sameKey || !slices.Equal(got[len(p.extraKeys):], p.columns) {
		return errChanged
	}
	return nil
}

func (q *query) planKey(ctx context.Context, db ceiling.Queryer, p *plan, columns []dialect.Column) error {
	var named []string
	if q.rows && !q.selected {
		named = slices.Concat(q.key, q.columns)
	}
	if q.table != nil {
		var err error
		if p.types, err = q.sql.Types(ctx, db, q.table, named); err != nil {
			return q.wrap(err, nil)
		}
	}
	for i, c := range columns {
		k, err := q.sql.Key(ctx, db, c, q.ref(q.key[i]), q.rows)
		if err != nil {
			return q.wrap(err, nil)
		}
		k.Name, k.Type = q.key[i], c.Type
		k.Nullable = !c.NotNull && !p.types[c.Name].NotNull
		p.key = append(p.key, k)
	}
	return nil
}

// planList decides how each column is selected.
func (q *query) planList(p *plan) {
	for _, c := range p.columns {
		p.names = append(p.names, c.Name)
	}
	var extra []string
	for i, k := range p.key {
		at := slices.Index(p.names, k.Name)
		if !q.rows || at < 0 {
			at = -1
			p.extraKeys = append(p.extraKeys, i)
			extra = append(extra, cmp.Or(k.Expr, k.Ref))
			if k.Expr != "" {
				p.steady = ""
			}
		}
		p.sameAs = append(p.sameAs, at)
	}
	kinds, types := make([]row.Kind, len(p.columns)), make([]row.Type, len(p.columns))
	whole, sizes, large := make([]string, len(p.columns)), make([]string, len(p.columns)), 0
	for i, c := range p.columns {
		ref := q.ref(c.Name)
		types[i] = q.sql.Type(c)
		if t, ok := p.types[c.Name]; q.rows && !q.selected && ok {
			types[i] = t
		}
		if q.rows {
			kinds[i], whole[i] = q.sql.Column(c, ref)
		}
		if whole[i] != "" { // the result does not show the type of the column
			p.steady = ""
		}
		whole[i] = cmp.Or(whole[i], ref)
		if !slices.Contains(q.key, c.Name) {
			sizes[i] = q.sql.Size(c, ref)
		}
		if sizes[i] != "" {
			large++
		}
	}
	p.row = row.NewColumns(p.names, kinds, types...)
	p.whole = strings.Join(slices.Concat(extra, whole), ", ")
	p.list, p.short = p.whole, p.whole
	if large > 0 {
		if q.most(large) < dialect.MaxInline {
			p.steady = ""
		}
		p.guard(q.most(large), extra, whole, sizes)
	}
}

// most is the size up to which one of n large values of a row is selected together with other
// rows: then the row is not larger than maxRowBytes.
func (q *query) most(n int) int { return min(q.maxBytes, q.maxRowBytes/n) }

// guard makes the list return NULL in place of each value that is larger than most, and the
// size of the row in front of such a row. DESIGN.md says why.
func (p *plan) guard(most int, extra, whole, sizes []string) {
	capped := func(most int) string {
		list := slices.Concat(extra, whole)
		for i, size := range sizes {
			if size != "" {
				list[len(extra)+i] = fmt.Sprintf("CASE WHEN %s <= %d THEN %s END", size, most, whole[i])
			}
		}
		return strings.Join(list, ", ")
	}
	var any, all []string
	for _, size := range sizes {
		if size != "" {
			any = append(any, fmt.Sprintf("%s > %d", size, most))
			all = append(all, "COALESCE("+size+", 0)")
		}
	}
	p.size = joined(all, " + ")
	p.list = "CASE WHEN " + joined(any, " OR ") + " THEN " + p.size + " END, " + capped(most)
	p.short = capped(16 * maxDigested)
}

// joined joins terms in a balanced tree: SQLite refuses one with a depth of more than 1000.
func joined(terms []string, operator string) string {
	half := len(terms) / 2
	if half < 2 {
		return strings.Join(terms, operator)
	}
	return "(" + joined(terms[:half], operator) + ")" + operator + "(" + joined(terms[half:], operator) + ")"
}

// logChange says in one line how the columns of two plans differ, if they do.
func (q *query) logChange(ctx context.Context, old, now *plan) {
	same := func(a, b dialect.Column) bool { return a.Name == b.Name && a.Type == b.Type }
	if old == nil || slices.EqualFunc(old.columns, now.columns, same) {
		return
	}
	before, after := old.names, now.names
	missing := func(from, names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(from, name) })
	}
	changed := []string{}
	for _, c := range now.columns {
		if at := slices.Index(before, c.Name); at >= 0 && old.columns[at].Type != c.Type {
			changed = append(changed, c.Name)
		}
	}
	q.logger().InfoContext(ctx, "columns changed", "table", q.label, "added", missing(before, after), "removed", missing(after, before), "changed", changed)
}

func (q *query) logger() *slog.Logger { return cmp.Or(q.log, slog.Default()) }
