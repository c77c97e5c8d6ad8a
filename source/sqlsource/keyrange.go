package sqlsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// keyRange is a range of keys to read, in their order, or in falling order.
type keyRange struct {
	after, to []value // nil: no bound
	falling   bool
	limit     int
}

// keysBetween is Keys for all kinds of records.
func (s *state) keysBetween(ctx context.Context, after, to source.Cursor, limit int) (all []source.Cursor, err error) {
	q := s.query
	r := keyRange{limit: limit}
	if after == "" && q.start == Latest || to == Latest || limit < 1 {
		return nil, permanent("%s: Keys was called with the cursors %q and %q and a max of %d", q.label, after, to, limit)
	}
	if after = cmp.Or(after, q.start); after != "" {
		if r.after, _, err = decode(after, q.print, len(q.key)); err != nil {
			return nil, err
		}
	}
	if to != "" {
		if r.to, _, err = decode(to, q.print, len(q.key)); err != nil || r.to == nil {
			return nil, err // nothing is before the first row
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return all, q.onConn(ctx, func(db ceiling.Queryer) error {
		if err := s.ready(ctx, db); err != nil {
			return err
		}
		all = all[:0]
		var failed error
		err := q.eachKey(ctx, db, s.plan, r, func(k *keys) {
			c, err := encode(q.print, past{}, k.lastValues())
			failed = errors.Join(failed, err)
			all = append(all, c)
		})
		if err != nil && q.sql.changed(err) {
			s.stale = true
		}
		return errors.Join(err, failed)
	})
}

// eachKey reads the keys of rows without the rest of them. Each is k.last when it
// is called for.
func (q *query) eachKey(ctx context.Context, db ceiling.Queryer, p *plan, r keyRange, each func(k *keys)) error {
	k := newKeys(p.key, nil)
	bound := args{numbered: q.sql == postgres{}}
	var list, order, conds []string
	var dest []any
	for i, c := range p.key {
		expr, by := c.expr, c.ref
		if expr == "" {
			expr = c.ref
		}
		if r.falling {
			by += " DESC"
		}
		list, order = append(list, expr), append(order, by)
		dest = append(dest, &keyCell{keys: k, index: i, kind: c.kind})
	}
	if q.where != "" {
		conds = append(conds, q.where)
	}
	if r.after != nil {
		cond, err := q.sql.after(p.key, r.after, &bound)
		if err != nil {
			return err
		}
		conds = append(conds, cond)
	}
	if r.to != nil {
		cond, err := q.sql.upTo(p.key, r.to, &bound)
		if err != nil {
			return err
		}
		conds = append(conds, cond)
	}
	rows, err := db.QueryContext(ctx, p.comment("SELECT "+strings.Join(list, ", ")+" FROM "+q.from+whereClause(conds)+
		fmt.Sprintf(" ORDER BY %s LIMIT %d", strings.Join(order, ", "), r.limit)), bound.list...)
	if err != nil {
		return q.wrap(err, r.to)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return q.scanError(ctx, err, k)
		}
		if err := k.check(); err != nil {
			return err
		}
		k.keep()
		each(k)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return q.wrap(err, r.to)
	}
	return nil
}
