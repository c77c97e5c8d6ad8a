package sqlsource

import (
	"context"
	"errors"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// openGuard opens a ceiling for the table that the key comes from. For a Query that must be its
// Table, which the guard watches: a Select can return the key of another table under the same name,
// and rows that are added there late would be missed. For a view it is found.
func (s *state) openGuard(ctx context.Context, db ceiling.Queryer, c ceiling.Ceiling) (ceiling.Guard, error) {
	q, t := s.query, s.target()
	s.base = q.table
	g, err := c.Open(ctx, db, t)
	var unsafe *ceiling.UnsafeError
	refused := errors.As(err, &unsafe)
	if q.table == nil || q.rows != refused || err != nil && !refused {
		return g, err
	}
	o, failed := q.sql.Origin(ctx, db, "SELECT "+q.ref(q.key[0])+" FROM "+q.from, q.table, q.key[0])
	if failed != nil {
		return nil, failed
	}
	name := dialect.QuoteAll(q.sql, o.Table)
	switch {
	case o.Same:
		return g, err
	case q.rows && o.Column == "": // the refusal says why
		return nil, err
	case q.rows:
		s.base, t.Parts, t.Name = o.Table, o.Table, name
		t.Key[0].Name, t.Key[0].Quoted = o.Column, q.sql.Quote(o.Column)
		if g, failed = c.Open(ctx, db, t); failed != nil {
			return nil, failed
		}
		r := g.Report()
		r.Indexed = false // the view may hide it
		r.Add(ceiling.Note, nil, "%s takes %q from %s, whose rows are watched: a row that the view shows only after later rows were read is missed", q.label, q.key[0], name)
		return told{g, r}, nil
	case o.Table != nil:
		r := g.Report()
		r.Add(ceiling.Unsafe, ceiling.Advice("set Table to the table that has the key, or let the Select return the key of "+t.Name),
			"the Select takes %q from %s.%s, and not from %s, whose rows are watched", q.key[0], name, q.sql.Quote(o.Column), t.Name)
		return nil, r.Err(t)
	}
	r := g.Report()
	r.Add(ceiling.Warning, ceiling.Advice("write the Select without DISTINCT, GROUP BY, UNION or a function around the key"),
		"the database does not show which table the Select takes %q from: if it is not %s, rows are missed", q.key[0], t.Name)
	return told{g, r}, nil
}

// told is a Guard with a report of its own.
type told struct {
	ceiling.Guard
	report ceiling.Report
}

func (g told) Report() ceiling.Report { return g.report }
