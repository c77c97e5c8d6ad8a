package sqlsource

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// lateBatch is how many late rows a batch has at most.
const lateBatch = 512

// fetchLate looks for late rows, and reads those that wait to be handed out. ok
// is false if there are none, or none yet, which b.Held then says. They are in a
// batch of their own, whose cursors have the same key and differ in the number of
// late rows delivered.
func fetchLate[T any](ctx context.Context, s *state, db ceiling.Queryer, after position, limit int, open func(*plan, int) (records[T], error)) (b source.Batch[T], ok bool, err error) {
	b.From, b.To = after.cursor, after.cursor
	a, q, p := s.audit, s.query, s.plan
	a.place(p, after, time.Now())
	if err := s.look(ctx, db); err != nil {
		return b, false, err
	}
	waiting := a.pending[after.past.late-a.base:]
	n := 0
	for n < min(len(waiting), limit, lateBatch) && waiting[n].pass == waiting[0].pass {
		n++
	}
	if n == 0 {
		return b, false, nil
	}
	h, err := q.sql.history(ctx, db, q.table)
	if err != nil {
		return b, false, q.wrap(err, nil)
	}
	if err := h.follows(after.past); err != nil {
		return b, false, q.notFollowed(err, adoptAdvice)
	}
	if a.noticed {
		a.mark, a.noticed, a.since = h.mark, false, time.Now()
	}
	if h.flushed < a.mark { // a crash of the server could take them back
		b.Held = &source.Held{Since: a.since, Retry: flushRetry, By: []string{unflushed}}
		return b, false, nil
	}

	// Whether there is more at once is asked of the other rows.
	other, err := fetchBelow(ctx, s, db, after, 1, open)
	a.fetched = a.fetched[:0]
	if err != nil {
		return b, false, err
	}
	where, args, err := anyOf(p, waiting[:n])
	if err != nil {
		return b, false, err
	}
	into, err := open(p, n)
	if err != nil {
		return b, false, err
	}
	r := reader{query: q, db: db, below: ceiling.Limit{Where: where, Args: args}, plan: p, keys: newKeys(p.key, nil), limit: n, add: into.add}
	if err := r.read(ctx, nil, r.dest(into.bind)); err != nil {
		return b, false, err
	}
	if r.more { // a row too large for the batch is the first of the next
		last := r.keys.lastValues()
		n = 1 + slices.IndexFunc(waiting[:n], func(k pending) bool { return slices.Equal(k.values, last) })
	}
	made := h.past().joined(after.past)
	made.late += uint64(n)
	b.Records, b.Bytes = into.take(r.rows), r.bytes
	b.To, err = encode(q.print, made, after.key)
	b.AsOf, b.Held, b.More = other.AsOf, other.Held, len(other.Records) > 0
	if n < len(waiting) {
		b.AsOf, b.More = time.Time{}, true
	}
	return b, true, err
}

// anyOf writes the condition for the rows of some keys. It fills up to a power of
// two, since every number makes another statement, which drivers keep prepared.
func anyOf(p *plan, rows []pending) (string, []any, error) {
	var list []any
	var conds []string
	for n := 1; ; n *= 2 {
		for i := len(conds); i < n; i++ {
			var equal []string
			key := rows[min(i, len(rows)-1)].values
			for j, c := range p.key {
				expr, arg, err := c.bind(key[j])
				if err != nil {
					return "", nil, misfit(c, key[j], err)
				}
				list = append(list, arg)
				equal = append(equal, c.ref+" = "+strings.Replace(expr, "%s", "?", 1))
			}
			conds = append(conds, "("+strings.Join(equal, " AND ")+")")
		}
		if n >= len(rows) {
			return "(" + strings.Join(conds, " OR ") + ")", list, nil
		}
	}
}
