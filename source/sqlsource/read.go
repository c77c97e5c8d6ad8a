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

type reader struct {
	*query
	db    ceiling.Queryer
	plan  *plan
	keys  *keys
	limit int
	add   func() int

	rows, bytes int   // of the batch
	more        bool  // another row follows
	unread      error // why that row could not be read

	seen []rowKey // the keys of the rows 1, 2, 4, 8, ... and some more of the batch, for anchors
}

type rowKey struct {
	row int // from 1
	key []dialect.Value
}

type scanner func(src any) error

// Scan implements [sql.Scanner].
func (s scanner) Scan(src any) error { return s(src) }

// dest returns what a row is scanned into: the extra columns, then what bind sets.
func (r *reader) dest(bind func([]any)) []any {
	p := r.plan
	n := len(p.extraKeys) + len(p.extraForms)
	all := make([]any, n+len(p.columns))
	extra, columns := all[:0], all[n:]
	bind(columns)
	for _, k := range p.extraKeys {
		extra = append(extra, r.keys.scanner(k, p.key[k].Kind, nil))
	}
	for _, c := range p.extraForms {
		cell := columns[c].(sql.Scanner)
		var form any // it is the driver's own memory, which is valid until the next row
		extra = append(extra, scanner(func(src any) error { form = src; return nil }))
		columns[c] = scanner(func(any) error { return cell.Scan(form) }) // instead of what the driver made
	}
	for i, at := range p.sameAs {
		if at >= 0 {
			columns[at] = r.keys.scanner(i, p.key[i].Kind, columns[at].(sql.Scanner))
		}
	}
	return all
}

// readBelow reads the rows after a position and below a window, and returns where the last is.
func (r *reader) readBelow(ctx context.Context, w *window, at position, dest []any) (position, error) {
	if w.Nothing {
		return at, nil
	}
	before := r.rows
	if err := r.read(ctx, keyRange{after: at.key, below: w.Limit, limit: r.limit + 1}, dest); err != nil || r.rows == before {
		return at, err
	}
	return position{key: values(r.keys.last), origin: w.origin}, nil
}

// read reads up to the limit of rows, and one more to see whether it exists and has the same
// key. It asks for the same number each time: every number makes another statement.
func (r *reader) read(ctx context.Context, where keyRange, dest []any) error {
	statement, args, err := r.statement(r.plan, r.plan.list, where)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := r.db.QueryContext(ctx, statement, args...)
	if err != nil {
		return r.wrap(err, where.after)
	}
	defer rows.Close()
	if err := r.plan.fits(r.query, rows); err != nil {
		return r.wrap(err, where.after)
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			err = r.scanError(ctx, err, r.keys)
			if r.rows > 0 && ctx.Err() == nil { // deliver the rows before it first
				r.more, r.unread = true, err
				return nil
			}
			return err
		}
		if err := r.keys.check(); err != nil {
			return err
		}
		size := r.add()
		if r.rows == r.limit || r.rows > 0 && (r.bytes+size > r.maxBytes || size > r.maxRowBytes) {
			r.more = true
			// Drivers read a closed result to its end. Where that is much, a new connection costs less.
			if left := r.limit - r.rows; left*(max(size, r.bytes/r.rows)/4) > r.maxBytes {
				cancel()
			}
			return nil
		}
		if size > r.maxRowBytes {
			return permanent("%s: the row with the key %s takes %d bytes, more than MaxRowBytes, which is %d; raise it, or exclude the row by a condition",
				r.label, describeKey(r.keys.names, values(r.keys.now)), size, r.maxRowBytes)
		}
		r.rows++
		r.bytes += size
		r.keys.keep()
		if r.rows&(r.rows-1) == 0 || r.rows%anchorEvery == 0 {
			r.seen = append(r.seen, rowKey{r.rows, values(r.keys.last)})
		}
	}
	return r.wrap(errors.Join(rows.Err(), rows.Close()), where.after)
}

type keyRange struct {
	after, to []dialect.Value   // nil: no bound
	keys      [][]dialect.Value // not nil: only rows with one of these keys
	below     ceiling.Limit
	falling   bool
	limit     int
}

func (q *query) statement(p *plan, list string, r keyRange) (string, []any, error) {
	bounds := [][]dialect.Value{r.after, r.to}
	if r.below.UpTo != "" {
		key, _, err := decode(r.below.UpTo, q.print, len(q.key))
		if err != nil {
			return "", nil, err
		}
		bounds = append(bounds, key) // nil only if the limit is that no row can be read
	}
	args := dialect.Args{Writer: q.sql}
	var conds []string
	if r.keys != nil {
		cond, err := q.oneOf(p, r.keys, &args)
		if err != nil {
			return "", nil, err
		}
		conds = append(conds, cond)
	}
	for i, bound := range bounds {
		if bound == nil {
			continue
		}
		cond, err := q.sql.Compare(p.key, bound, i > 0, &args)
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
			if k.Nullable { // Postgres has NULL before the greatest value
				conds = append(conds, k.Ref+" IS NOT NULL")
			}
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

// equal writes the conditions that columns have the values of a key.
func (q *query) equal(columns []dialect.KeyColumn, key []dialect.Value, args *dialect.Args) (conds []string, err error) {
	for i, k := range columns {
		expr, arg, err := k.Bind(key[i])
		if err != nil {
			return nil, q.wrap(dialect.Misfit(k, key[i], err), nil)
		}
		conds = append(conds, k.Ref+" = "+args.Add(expr, arg))
	}
	return conds, nil
}

// oneOf writes the condition that a row has one of the keys.
func (q *query) oneOf(p *plan, keys [][]dialect.Value, args *dialect.Args) (string, error) {
	var rows []string
	for _, key := range keys {
		conds, err := q.equal(p.key, key, args)
		if err != nil {
			return "", err
		}
		rows = append(rows, strings.Join(conds, " AND "))
	}
	return "(" + strings.Join(rows, " OR ") + ")", nil
}

// findNull returns an error if NULL in the i-th column of its key hides a row. The first
// column must never be NULL. A later one hides a row only where the columns before it equal
// the cursor's: any other row is read, and its NULL is seen.
func (q *query) findNull(ctx context.Context, db ceiling.Queryer, p *plan, i int, after []dialect.Value) error {
	if !p.key[i].Nullable {
		return nil
	}
	args := dialect.Args{Writer: q.sql}
	conds, err := q.equal(p.key[:i], after, &args)
	if err != nil {
		return err
	}
	conds = append(conds, p.key[i].Ref+" IS NULL")
	found, err := q.some(ctx, db, q.selects("1", conds, p.key[i].Ref, 1), args.List, after)
	if err == nil && found {
		err = nullKey(p.key[i].Name)
	}
	return err
}

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
