package sqlsource

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
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
	sql         dialect.Dialect
	ceiling     ceiling.Ceiling // nil: the one that fits the table
	label       string          // for messages: the table's name, or "query"
	from        string          // what follows FROM; its alias is t
	where       string          // a condition, or empty
	table       []string        // the parts of the name of the table that has the key; nil: not known
	key         []string
	columns     []string // nil: all
	rows        bool     // records are rows of a Table: a value that a driver changes is selected another way
	start       source.Cursor
	maxBytes    int
	maxRowBytes int
	print       string // fingerprint
	identity    string // fingerprint of the table and its key alone
	log         *slog.Logger
}

// plan is how the statement for the present columns is written and read.
type plan struct {
	nonce      int              // 0 for the first plan
	columns    []dialect.Column // as the statement returns them, after the extra columns
	row        *row.Columns
	list       string // what is selected: the extra columns, then the columns
	extraKeys  []int  // the columns of the key that are selected first, as extra columns
	extraForms []int  // the columns that are selected in another form next
	sameAs     []int  // for each key column, the column that has the same value; -1: an extra column has it
	key        []dialect.KeyColumn
	schema     int64
}

var (
	typeTime     = reflect.TypeFor[time.Time]()
	typeNullTime = reflect.TypeFor[sql.NullTime]()
)

// makePlan asks the database for the columns.
func (q *query) makePlan(ctx context.Context, db ceiling.Queryer, nonce int) (*plan, error) {
	p := &plan{nonce: nonce}
	var err error
	if p.schema, err = q.schema(ctx, db); err != nil { // before the columns, so that no change is missed
		return nil, err
	}
	from := q.from + " WHERE 1 = 0"
	if q.listsColumns() {
		// It returns a row, of NULLs: the database sees that the schema changed at the first step.
		from = "(SELECT 1) AS one LEFT JOIN " + q.from + " ON 1 = 0"
	}
	all, err := q.columnsOf(ctx, db, p.comment("SELECT "+q.refs(q.key)+", "+q.star()+" FROM "+from))
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

// listsColumns says that columns are selected one by one.
func (q *query) listsColumns() bool { return q.sql.SchemaVersion(q.table) != "" }

func (q *query) schema(ctx context.Context, db ceiling.Queryer) (version int64, err error) {
	if q.listsColumns() {
		err = db.QueryRowContext(ctx, q.sql.SchemaVersion(q.table)).Scan(&version)
	}
	if err != nil {
		err = q.wrap(fmt.Errorf("reading the schema's version: %w", err), nil)
	}
	return version, err
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
func (q *query) star() string {
	if q.columns == nil {
		return "t.*"
	}
	return q.refs(q.columns)
}

// comment makes the statements of each plan different from those of all earlier plans:
// connections may still have one prepared for columns that no longer exist.
func (p *plan) comment(statement string) string {
	if p.nonce == 0 {
		return statement
	}
	return fmt.Sprintf("%s /* columns read again, %x */", statement, p.nonce)
}

// columnsOf returns the columns of a statement's result.
func (q *query) columnsOf(ctx context.Context, db ceiling.Queryer, statement string) ([]dialect.Column, error) {
	rows, err := db.QueryContext(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if q.listsColumns() && !rows.Next() {
		return nil, cmp.Or(rows.Err(), errChanged)
	}
	columns, err := resultColumns(rows)
	return columns, errors.Join(err, rows.Close())
}

func resultColumns(rows *sql.Rows) ([]dialect.Column, error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	columns := make([]dialect.Column, len(types))
	for i, t := range types {
		null, known := t.Nullable()
		columns[i] = dialect.Column{Name: t.Name(), Type: t.DatabaseTypeName(), NotNull: known && !null,
			Time: t.ScanType() == typeTime || t.ScanType() == typeNullTime}
	}
	return columns, nil
}

func (q *query) planKey(ctx context.Context, db ceiling.Queryer, p *plan, columns []dialect.Column) error {
	var named []string
	if q.rows {
		named = slices.Concat(q.key, q.columns)
	}
	var notNull map[string]bool
	if q.table != nil {
		var err error
		if notNull, err = q.sql.NotNull(ctx, db, q.table, named); err != nil {
			return q.wrap(err, nil)
		}
	}
	for i, c := range columns {
		k, err := q.sql.Key(ctx, db, c, q.ref(q.key[i]))
		if err != nil {
			return q.wrap(err, nil)
		}
		k.Name, k.Type = q.key[i], c.Type
		k.Nullable = !c.NotNull && !notNull[c.Name]
		p.key = append(p.key, k)
	}
	return nil
}

// planList decides how each column is selected.
func (q *query) planList(p *plan) {
	names, kinds, exprs := p.names(), make([]row.Kind, len(p.columns)), make([]string, len(p.columns))
	for i, c := range p.columns {
		if q.rows {
			kinds[i], exprs[i] = q.sql.Column(c, q.ref(c.Name))
		}
	}
	p.row = row.NewColumns(names, kinds)
	var list []string
	for i, k := range p.key {
		at := slices.Index(names, k.Name)
		p.sameAs = append(p.sameAs, at)
		if at >= 0 && q.rows && (exprs[at] == "" || q.listsColumns()) {
			continue
		}
		p.sameAs[i] = -1
		p.extraKeys = append(p.extraKeys, i)
		list = append(list, cmp.Or(k.Expr, k.Ref))
	}
	if q.rows && q.listsColumns() {
		p.list = strings.Join(append(list, exprs...), ", ")
		return
	}
	for i, expr := range exprs {
		if expr != "" {
			p.extraForms = append(p.extraForms, i)
			list = append(list, expr)
		}
	}
	p.list = strings.Join(append(list, q.star()), ", ")
}

func (p *plan) names() []string {
	names := make([]string, len(p.columns))
	for i, c := range p.columns {
		names[i] = c.Name
	}
	return names
}

// fits returns an error if a result does not have the columns that the plan expects.
func (p *plan) fits(q *query, rows *sql.Rows) error {
	got, err := resultColumns(rows)
	if err != nil {
		return err
	}
	extras := len(got) - len(p.columns)
	if extras != len(p.extraKeys)+len(p.extraForms) {
		return errChanged
	}
	if q.rows && q.listsColumns() {
		return nil
	}
	if !slices.EqualFunc(got[extras:], p.columns, sameColumn) {
		return errChanged
	}
	for i, k := range p.extraKeys {
		if p.key[k].Expr == "" && got[i].Type != p.key[k].Type {
			return errChanged
		}
	}
	return nil
}

func sameColumn(a, b dialect.Column) bool { return a.Name == b.Name && a.Type == b.Type }

// logChange says in one line how the columns of two plans differ, if they do.
func (q *query) logChange(ctx context.Context, old, now *plan) {
	if old == nil || slices.EqualFunc(old.columns, now.columns, sameColumn) {
		return
	}
	before, after := old.names(), now.names()
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
