package sqlsource

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// openGuard opens a ceiling for the table that the key comes from. For a Select that must be the
// table that is named, which the guard watches: a Select can return the key of another table under the same
// name, and rows that are added there late would be missed. For a view it is found.
func (s *state) openGuard(ctx context.Context, db ceiling.Queryer, c ceiling.Ceiling) (ceiling.Guard, error) {
	q, t := s.query, s.target()
	s.base, s.origin, s.asked = q.table, dialect.Origin{}, time.Now()
	g, err := c.Open(ctx, db, t)
	var unsafe *ceiling.UnsafeError
	named, refused := q.rows && !q.selected, errors.As(err, &unsafe)
	viewed := named && err == nil && g.Report().Lossy // such a ceiling accepts a view
	if q.table == nil || named != refused && !viewed || err != nil && !refused {
		return g, err
	}
	o, failed := q.origin(ctx, db, q.table, q.key[0])
	if failed != nil {
		return nil, failed
	}
	if named && !o.Same && o.Column != "" {
		s.base = o.Table
	}
	if viewed {
		return g, nil
	}
	name := dialect.QuoteAll(q.sql, o.Table)
	if named {
		if o.Same || o.Column == "" { // the refusal says why
			return nil, err
		}
		t.Parts, t.Name = o.Table, name
		t.Key[0].Name, t.Key[0].Quoted = o.Column, q.sql.Quote(o.Column)
		if g, failed = c.Open(ctx, db, t); failed != nil {
			return nil, failed
		}
	}
	r := g.Report()
	switch {
	case named:
		r.Indexed = false // the view may hide it
		r.Add(ceiling.Note, nil, "%s takes %q from %s, whose rows are watched: a row that the view shows only after later rows were read is missed", q.label, q.key[0], name)
	case o.Same:
	case o.Table != nil:
		r.Add(ceiling.Unsafe, ceiling.Advice("set Table to the table that has the key, or let the Select return the key of "+t.Name),
			"the Select takes %q from %s.%s, and not from %s, whose rows are watched", q.key[0], name, q.sql.Quote(o.Column), t.Name)
		return nil, r.Err(t)
	default:
		r.Add(ceiling.Warning, ceiling.Advice("write the Select without DISTINCT, GROUP BY, UNION or a function around the key"),
			"the database does not show which table the Select takes %q from: if it is not %s, rows are missed", q.key[0], t.Name)
	}
	s.origin = dialect.Origin{Table: o.Table, Column: cmp.Or(o.Column, t.Key[0].Name)}
	return followed{g, r}, nil
}

// origin says which column of which table the key's first column is.
func (q *query) origin(ctx context.Context, db ceiling.Queryer, table []string, column string) (dialect.Origin, error) {
	return q.sql.Origin(ctx, db, "SELECT "+q.ref(q.key[0])+" FROM "+q.from, table, column)
}

// sameOrigin reports whether the key still comes from the column that the guard watches. A view can be
// replaced by one that takes it from another table. Then a new guard is needed.
func (s *state) sameOrigin(ctx context.Context, db ceiling.Queryer) (bool, error) {
	at := time.Now()
	now, err := s.query.origin(ctx, db, s.origin.Table, s.origin.Column)
	switch {
	case err != nil:
		return false, s.query.wrap(err, nil)
	case now.Same:
		s.asked, s.unasked = at, false
	default:
		s.guard = nil
	}
	return now.Same, nil
}

// followed is the Guard of the table that a view or a Select takes the key from.
type followed struct {
	ceiling.Guard
	report ceiling.Report
}

func (g followed) Report() ceiling.Report { return g.report }
