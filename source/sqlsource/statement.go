package sqlsource

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// keyRange is a range of keys.
type keyRange struct {
	after, to []dialect.Value // nil: no bound
	below     ceiling.Limit
	falling   bool
	limit     int
}

// statement writes the statement that selects list in a range.
func (q *query) statement(p *plan, list string, r keyRange) (string, []any, error) {
	args := dialect.Args{Writer: q.sql}
	var conds []string
	for i, bound := range [][]dialect.Value{r.after, r.to} {
		if bound == nil {
			continue
		}
		cond, err := q.sql.Compare(p.key, bound, i == 1, &args)
		if err != nil {
			return "", nil, q.wrap(err, nil)
		}
		conds = append(conds, cond)
	}
	if r.below.Where != "" {
		cond, marks := args.Fill(r.below.Where, r.below.Args)
		if marks != len(r.below.Args) {
			return "", nil, permanent("%s: the ceiling (%s) gave a condition with %d arguments for %d question marks", q.label, q.ceiling, len(r.below.Args), marks)
		}
		conds = append(conds, cond)
	}
	order := make([]string, len(p.key))
	for i, k := range p.key {
		order[i] = k.Ref
		if r.falling {
			order[i] += " DESC"
		}
	}
	return p.comment(q.selects(list, conds, strings.Join(order, ", "), r.limit)), args.List, nil
}

// selects writes a SELECT of rows for which the user's condition and conds hold.
func (q *query) selects(list string, conds []string, order string, limit int) string {
	if q.where != "" {
		conds = slices.Insert(conds, 0, q.where)
	}
	text := "SELECT " + list + " FROM " + q.from
	if len(conds) > 0 {
		text += " WHERE " + strings.Join(conds, " AND ")
	}
	return text + " ORDER BY " + order + " " + q.sql.Limit(limit)
}

// findNull returns an error if NULL in the i-th column of its key hides a row. The first
// column must never be NULL. A later one hides a row only where the columns before it equal
// the cursor's: any other row is read, and its NULL is seen.
func (q *query) findNull(ctx context.Context, db ceiling.Queryer, p *plan, i int, after []dialect.Value) error {
	if !p.key[i].Nullable {
		return nil
	}
	args := dialect.Args{Writer: q.sql}
	conds := []string{p.key[i].Ref + " IS NULL"}
	for j, k := range p.key[:i] {
		expr, arg, err := k.Bind(after[j])
		if err != nil {
			return q.wrap(dialect.Misfit(k, after[j], err), nil)
		}
		conds = append(conds, k.Ref+" = "+args.Add(expr, arg))
	}
	found, err := q.some(ctx, db, q.selects("1", conds, p.key[i].Ref, 1), args.List, after)
	if err == nil && found {
		err = nullKey(p.key[i].Name)
	}
	return err
}

// some reports whether a statement returns a row.
func (q *query) some(ctx context.Context, db ceiling.Queryer, statement string, args []any, after []dialect.Value) (bool, error) {
	err := db.QueryRowContext(ctx, statement, args...).Scan(new(int))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, q.wrap(err, after)
}

// latest returns the greatest key, nil if the table is empty.
func (q *query) latest(ctx context.Context, db ceiling.Queryer, p *plan) (key []dialect.Value, err error) {
	err = q.eachKey(ctx, db, p, keyRange{falling: true, limit: 1}, func(k []dialect.Value) { key = k })
	return key, err
}

// eachKey calls each for every key in a range.
func (q *query) eachKey(ctx context.Context, db ceiling.Queryer, p *plan, where keyRange, each func([]dialect.Value)) error {
	only := &plan{nonce: p.nonce, key: p.key}
	list := make([]string, len(p.key))
	for i, k := range p.key {
		list[i] = cmp.Or(k.Expr, k.Ref)
		only.extraKeys = append(only.extraKeys, i)
	}
	only.list = strings.Join(list, ", ")
	r := &reader{query: q, db: db, plan: only, keys: newKeys(p.key, nil), limit: where.limit}
	r.add = func() int { each(values(r.keys.now)); return 0 }
	return cmp.Or(r.read(ctx, where, r.dest(func([]any) {})), r.unread)
}
