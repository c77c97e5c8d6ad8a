package sqlsource

import (
	"context"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// checkOrigin compares the first column of a Query's key with that of its Table, which the guard
// watches: a Select can return the key of another table under the same name, and rows that are added
// there late would be missed. A Table needs no check.
func (s *state) checkOrigin(ctx context.Context, db ceiling.Queryer, t ceiling.Table, g ceiling.Guard) (ceiling.Guard, error) {
	q := s.query
	if q.rows || q.table == nil {
		return g, nil
	}
	of, same, err := q.sql.Origin(ctx, db, "SELECT "+q.ref(q.key[0])+" FROM "+q.from, q.table, q.key[0])
	if err != nil {
		return nil, err
	}
	r := g.Report()
	switch {
	case same:
		return g, nil
	case of != "":
		r.Add(ceiling.Unsafe, ceiling.Advice("set Table to the table that has the key, or let the Select return the key of "+t.Label), "the Select takes %q from %s, and not from %s, whose rows are watched", q.key[0], of, t.Name)
		return nil, r.Err(t)
	}
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
