package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// target is a table that is written to, and the plans for it.
type target struct {
	label string
	parts []string
	table *table // as the catalogue was last read
	plans []*plan
}

// table is what the catalogue says about a table.
type table struct {
	columns []*column
	keys    [][]string // the columns of each unique key that can identify a row, the primary key first
	unique  int        // how many unique keys there are, of any kind
	packet  int        // the largest statement in bytes; 0: no limit
}

// column is a column of the target.
type column struct {
	name      string
	typ       row.Type
	cast      string // the type for CAST, without the limits of the column
	fraction  int    // digits after the second that a time can have; -1: not a time, or no limit
	affinity  affinity
	utc       bool // stores a point in time, and takes text for the session's time zone
	generated bool // the database computes it
	always    bool // an identity that takes a value only if the statement insists
	optional  bool // it has a default, or takes NULL
}

// plan says how rows with certain columns are written into a table.
type plan struct {
	use     use
	wanted  []string // the columns of the key, as the caller gave them
	name    string   // quoted
	columns *row.Columns
	fields  []field
	packet  int
	absent  bool   // the table does not exist, and nothing is written to it
	text    string // of the statement, without the values

	key    []int // the fields that identify a row; nil for inserts
	others bool  // the table has other unique keys
	single bool  // each row needs a statement
}

// field is a column of the source that is written.
type field struct {
	*column
	index  int  // in the row
	proven bool // the types say that each value fits
	from   row.Type
	kind   row.Kind
	traits traits
	inKey  bool
}

// plan finds or makes the plan of each run.
func (s *Sink[T]) plan(ctx context.Context, conn *sqlx.Conn, runs []run, single bool) (err error) {
	for i := range runs {
		r := &runs[i]
		t := s.targets[r.table]
		var columns *row.Columns
		if r.use != truncates {
			columns = r.rows[0].Columns()
		}
		if r.plan, err = s.planFor(ctx, conn, t, columns, r.use, r.key); err != nil {
			return fmt.Errorf("%s: %w", t.label, err)
		}
		r.plan.single = single
		if r.use == updates {
			if r.found, err = s.planFor(ctx, conn, t, r.old.Columns(), deletes, r.key); err != nil {
				return fmt.Errorf("%s: %w", t.label, err)
			}
		}
		if r.use == upserts {
			r.rows = r.plan.lasts(r.rows)
		}
	}
	return nil
}

// maxPlans is how many plans of a table are kept. There is one for each set of columns.
const maxPlans = 100

func (s *Sink[T]) planFor(ctx context.Context, conn *sqlx.Conn, t *target, columns *row.Columns, how use, key []string) (*plan, error) {
	for _, p := range t.plans {
		if p.use == how && sameColumns(p.columns, columns) && slices.Equal(p.wanted, key) {
			return p, nil
		}
	}
	if len(t.plans) >= maxPlans {
		t.plans = nil
	}
	var p *plan
	err := errStale
	if t.table != nil {
		p, err = newPlan(s.engine, t, columns, how, key)
	}
	if err != nil {
		if t.table, err = s.engine.read(ctx, conn, t.parts); err != nil {
			return nil, fmt.Errorf("reading the table's columns: %w", err)
		}
		if s.create && columns != nil {
			if err := create(ctx, s.engine, conn, t, columns, how, key); err != nil {
				return nil, err
			}
		}
		p, err = newPlan(s.engine, t, columns, how, key)
		if s.create && t.table == nil && how == truncates {
			p, err = &plan{use: how, wanted: key, absent: true}, nil
		}
	}
	if err == nil {
		t.plans = append(t.plans, p)
	}
	return p, err
}

var errStale = errors.New("the catalogue was not read")

// forget makes the next Write read the catalogue again.
func (s *Sink[T]) forget() {
	for _, t := range s.targets {
		t.table, t.plans = nil, nil
	}
}

// sameColumns reports whether rows can be written by one plan.
func sameColumns(a, b *row.Columns) bool {
	if a == b {
		return true
	}
	if a == nil || !a.Equal(b) {
		return false
	}
	for i := range a.Len() {
		if a.Type(i) != b.Type(i) {
			return false
		}
	}
	return true
}

func newPlan(e engine, t *target, columns *row.Columns, how use, key []string) (*plan, error) {
	p := &plan{name: dialect.QuoteAll(e, t.parts), columns: columns, use: how, wanted: key}
	switch {
	case t.table == nil:
		return nil, dialect.Permanent("the table does not exist, or the role may not see it: create it")
	case how == truncates:
		return p, nil
	case columns == nil:
		return nil, dialect.Permanent("a row is the zero Row, which has no columns")
	}
	p.packet = t.table.packet
	if err := p.match(e, t.table); err != nil {
		return nil, err
	}
	if how == inserts {
		return p, nil
	}
	return p, p.identify(t.table, key, e.traits())
}

// match finds the column of the target for each of the source, and refuses what does not fit.
func (p *plan) match(e engine, into *table) error {
	tr, used := e.traits(), map[*column]bool{}
	for i := range p.columns.Len() {
		name := p.columns.Name(i)
		c := into.column(name, tr.anyCase)
		switch {
		case c == nil:
			return dialect.Permanent("the table has no column %q, which the source has: add it, or read fewer columns", name)
		case used[c]:
			return dialect.Permanent("two columns of the source would be written to the column %q", c.name)
		case c.generated:
			used[c] = true // the database computes the value
			continue
		}
		used[c] = true
		f := field{column: c, index: i, from: p.columns.Type(i), kind: p.columns.Kind(i), traits: tr}
		var why string
		if f.proven, why = fits(f.from, c, tr); why != "" {
			return dialect.Permanent("the column %q of the source has the type %s, that of the table has the type %s: %s", name, nameOf(f.from), nameOf(c.typ), why)
		}
		p.fields = append(p.fields, f)
	}
	if len(p.fields) == 0 {
		return dialect.Permanent("all columns of the source are generated in the table: none can be written")
	}
	for _, c := range into.columns {
		if p.use <= upserts && !used[c] && !c.optional && !c.generated {
			return dialect.Permanent("the column %q of the table is NOT NULL and has no default, and the source does not have it: give it a default, or read it", c.name)
		}
	}
	return p.zones(tr)
}

// zones refuses a table for which the session would need two time zones.
func (p *plan) zones(tr traits) error {
	var instant, local string
	for _, f := range p.fields {
		switch {
		case !f.utc:
		case f.from.Class == row.Instant:
			instant = f.name
		default:
			local = f.name
		}
	}
	if instant != "" && local != "" {
		return dialect.Permanent("the column %q receives points in time and %q local times, and both have a type that depends on the session's time zone: make one of them a DATETIME", instant, local)
	}
	return nil
}

// utc reports whether the session must have the time zone UTC.
func (p *plan) utc() bool {
	for _, f := range p.fields {
		if f.utc && f.from.Class == row.Instant {
			return true
		}
	}
	return false
}

func (t *table) column(name string, anyCase bool) *column {
	for _, c := range t.columns {
		if c.name == name {
			return c
		}
	}
	for _, c := range t.columns {
		if anyCase && strings.EqualFold(c.name, name) {
			return c
		}
	}
	return nil
}

func nameOf(t row.Type) string {
	if t.Name == "" {
		return "that is not known"
	}
	return t.Name
}

// names returns the quoted names of the columns, separated by commas.
func (p *plan) names(e engine) string {
	var names []string
	for _, f := range p.fields {
		names = append(names, e.Quote(f.name))
	}
	return strings.Join(names, ", ")
}

// values converts the cells of a row, into values of the same length as fields.
func (p *plan) values(r row.Row, values []value) error {
	for i := range p.fields {
		f := &p.fields[i]
		v, why := f.value(r)
		if why != "" {
			return &valueError{f.name, why}
		}
		values[i] = v
	}
	return nil
}
