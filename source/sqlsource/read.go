package sqlsource

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	dest  []any // what a row is scanned into
	skip  []any // the same, for the key alone
	add   func() int
	note  func(key [][]byte) // nil: keys are not taken

	rows, bytes int           // of the batch
	more        bool          // another row follows
	large       sql.NullInt64 // the size of that row, if its large values were not selected
	unread      error         // why that row cannot be read
	refused     error         // the database's answer in place of rows
	dropped     bool          // the connection was closed, because it had many rows left
	seen        []rowKey      // the keys of the rows 1, 2, 4, 8, ... and some more of the batch, for anchors

	front      bool     // the rows of anchors are being read, in front of the batch
	found      []string // their keys, by [keyText]
	unreadable bool     // not all of them could be read
	together   bool     // they were read together with the last row of the batch
	hidden     bool     // the plan's condition has hidden the rows, or no row exists: it is not used any more
}

type scanner func(src any) error

// Scan implements [sql.Scanner].
func (s scanner) Scan(src any) error { return s(src) }

func newReader(q *query, db ceiling.Queryer, p *plan, after []dialect.Value, limit int) *reader {
	return &reader{query: q, db: db, plan: p, keys: newKeys(p.key, after), limit: limit}
}

// bind sets what a row is scanned into: its size, the columns of the key that are extra, then
// what set sets.
func (r *reader) bind(set func([]any)) {
	p := r.plan
	var extra []any
	if p.size != "" {
		extra = append(extra, &r.large)
	}
	for _, k := range p.extraKeys {
		extra = append(extra, r.keys.scanner(k, p.key[k].Kind, nil))
	}
	n := len(extra)
	r.dest, r.skip = append(extra, make([]any, len(p.columns))...), append(slices.Clone(extra), make([]any, len(p.columns))...)
	columns, skip := r.dest[n:], r.skip[n:]
	set(columns)
	for i := range skip {
		skip[i] = scanner(func(any) error { return nil })
	}
	for i, at := range p.sameAs {
		if at >= 0 {
			skip[at] = r.keys.scanner(i, p.key[i].Kind, nil)
			columns[at] = r.keys.scanner(i, p.key[i].Kind, columns[at].(sql.Scanner))
		}
	}
}

// read reads up to the limit of rows, and one more to see whether it exists and has the same
// key. It asks for the same number each time: every number makes another statement.
func (r *reader) read(ctx context.Context, where keyRange) error {
	list, dest, skip := r.plan.list, r.dest, r.skip
	steady := where.steady != ""
	if r.plan.size != "" && (where.fits || steady || where.keys != nil) {
		list, dest, skip, r.large = r.plan.whole, dest[1:], skip[1:], sql.NullInt64{}
	}
	r.front, r.together = steady, steady && where.keys != nil
	if where.keys != nil && !steady && !where.whole {
		list = r.plan.short
	}
	statement, args, err := r.statement(r.plan, list, where)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := r.db.QueryContext(ctx, r.settings().Before+statement, args...)
	if err != nil {
		r.refused = err
		return r.wrap(err, where.after)
	}
	defer rows.Close()
	if steady {
		if err := r.plan.fits(rows); err != nil {
			return r.wrap(err, nil)
		}
	}
	for rows.Next() {
		size, err := r.scan(ctx, rows, dest, skip)
		if err != nil {
			return err
		} else if size < 0 {
			continue
		}
		if r.rows == r.limit || r.unread != nil || r.rows > 0 && r.bytes+size > r.maxBytes {
			r.more = true
			// Drivers read a closed result to its end. Where that is much, a new connection costs less.
			if left := where.limit - r.rows - 1; r.conn == nil && (steady || where.keys == nil) && left*(max(size, r.bytes/max(r.rows, 1))/4) > r.maxBytes {
				r.dropped = true
				cancel()
			}
			return nil
		}
		r.rows++
		r.bytes += size
		r.keys.keep()
		if r.note != nil {
			r.note(r.keys.last)
		}
		if r.rows&(r.rows-1) == 0 || r.rows%anchorEvery == 0 {
			r.seen = append(r.seen, rowKey{r.rows, values(r.keys.last)})
		}
	}
	r.refused = rows.Err()
	return r.wrap(errors.Join(r.refused, rows.Close()), where.after)
}

// scan scans a row and returns its size. If the row cannot be read, its key is, and r.unread
// says why. Of the row after the limit, only the key is read. The size of a row in front of the batch is -1.
func (r *reader) scan(ctx context.Context, rows *sql.Rows, dest, skip []any) (size int, err error) {
	extra, failed := r.rows == r.limit, error(nil)
	if !extra {
		failed = rows.Scan(dest...)
	}
	if failed != nil && (ctx.Err() != nil || !strings.HasPrefix(failed.Error(), scanErrorPrefix)) {
		return 0, r.wrap(failed, nil)
	}
	if extra || failed != nil {
		if err := rows.Scan(skip...); err != nil {
			return 0, r.scanError(err, len(skip))
		}
	}
	if r.front {
		switch {
		case len(r.keys.now[0]) == 0:
			r.front = false
		case failed != nil:
			r.unreadable = true
		default:
			r.add()
			r.found = append(r.found, keyText(values(r.keys.now)))
		}
		return -1, nil
	}
	if err := r.keys.check(); err != nil || extra {
		return 0, err
	}
	if r.large.Valid {
		size, r.unread = int(r.large.Int64), errLarge
	} else if failed != nil {
		r.unread = r.scanError(failed, len(dest))
		return 0, nil
	} else {
		size = r.add()
	}
	if size > r.maxRowBytes {
		r.unread = permanent("%s: the row takes %d bytes, more than MaxRowBytes, which is %d; raise it, or exclude the row by a condition", r.label, size, r.maxRowBytes)
	}
	return size, nil
}

// errLarge says that a row is large. It is read alone.
var errLarge = errors.New("a large row")

const scanErrorPrefix = "sql: Scan error on column index "

// scanError hides the value that database/sql writes into its error. n is how many columns the result has.
func (r *reader) scanError(err error, n int) error {
	if r.query.rows { // the error is of package row, which shows no values
		return permanent("%s: %w", r.label, errors.Unwrap(err))
	}
	index, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), scanErrorPrefix), ",")
	name := ""
	if at, _ := strconv.Atoi(index); at >= n-len(r.plan.columns) {
		name = r.plan.columns[at-n+len(r.plan.columns)].Name
	}
	return permanent("%s: the column %q does not fit its field: %w", r.label, name, hidden{"NULL, or a value of another type", err})
}

// hidden is an error whose own text may hold a row's values.
type hidden struct {
	text string
	err  error
}

func (h hidden) Error() string { return h.text }
func (h hidden) Unwrap() error { return h.err }

type keyRange struct {
	after, to []dialect.Value   // nil: no bound
	keys      [][]dialect.Value // not nil: only rows with one of these keys, for their digests; with steady in front of the others
	below     ceiling.Limit
	falling   bool
	whole     bool   // with all values, although the rows have one of keys
	ends      bool   // without NULL, which may be before the least value or after the greatest
	fits      bool   // only rows that are not larger than maxRowBytes
	steady    string // a condition that depends on no row, without which the result is empty; "": none
	plain     bool   // without what makes the text of values independent of the session: for plans
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
	delivered, err := q.oneOf(p, r.keys, &args)
	if err != nil {
		return "", nil, err
	}
	if r.keys != nil && r.steady == "" {
		conds = append(conds, delivered)
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
	if r.fits && p.size != "" {
		conds = append(conds, fmt.Sprintf("%s <= %d", p.size, q.maxRowBytes))
	}
	order := make([]string, len(p.key))
	for i, k := range p.key {
		order[i] = k.Ref
		if r.falling {
			order[i] += " DESC"
		}
		if r.ends && k.Nullable {
			conds = append(conds, k.Ref+" IS NOT NULL")
		}
	}
	set := q.settings()
	if r.plain {
		set = dialect.Settings{}
	}
	by := strings.Join(order, ", ")
	if r.steady == "" {
		return p.comment(q.selects(set, list, conds, by, r.limit)), args.List, nil
	}
	return p.comment(q.together(set, list, delivered, conds, by, r)), args.List, nil
}

// together writes one statement for delivered rows and those of a batch, while a condition holds. In WHERE that would
// cost time for each row. LIMIT is evaluated before the first row is read, and so are the settings. The parts are read one
// after the other. A row of NULL stands between them, because a key can be written in another way than it was.
func (q *query) together(set dialect.Settings, list, delivered string, conds []string, by string, r keyRange) string {
	gate := strings.Join(slices.DeleteFunc([]string{set.Where, r.steady}, func(c string) bool { return c == "" }), " AND ")
	set.Where = ""
	return fmt.Sprintf("(%s) UNION ALL (SELECT %s FROM (SELECT 1) AS one LEFT JOIN %s ON 1 = 0) UNION ALL (%s) LIMIT CASE WHEN %s THEN %d ELSE 0 END",
		q.selects(set, list, []string{delivered}, by, len(r.keys)+1), list, q.from, q.selects(set, list, conds, by, r.limit), gate, len(r.keys)+2+r.limit)
}

// settings fixes the text of values. A Query's values keep the time zone that its user chose for the
// session: its Select may use it, and a driver may have a setting that must agree with it.
func (q *query) settings() dialect.Settings { return q.sql.Settings(q.rows) }

// selects writes a SELECT of rows for which the user's condition and conds hold.
func (q *query) selects(set dialect.Settings, list string, conds []string, order string, limit int) string {
	if q.where != "" {
		conds = slices.Insert(conds, 0, q.where)
	}
	if set.Where != "" {
		conds = slices.Insert(conds, 0, set.Where)
	}
	text := "SELECT " + set.Hint + list + " FROM " + q.from
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
	conds, err := q.equal(p.key[:i], after, &args)
	if err != nil {
		return err
	}
	conds = append(conds, p.key[i].Ref+" IS NULL")
	found, err := q.some(ctx, db, q.selects(q.settings(), "1", conds, p.key[i].Ref, 1), args.List, after)
	if err == nil && found {
		err = nullKey(p.key[i].Name)
	}
	return err
}

// findHidden is findNull for the later columns, next to a key that the cursor moves on from.
func (q *query) findHidden(ctx context.Context, db ceiling.Queryer, p *plan, after []dialect.Value) error {
	for i := 1; i < len(p.key) && after != nil; i++ {
		if err := q.findNull(ctx, db, p, i, after); err != nil {
			return err
		}
	}
	return nil
}

func (q *query) some(ctx context.Context, db ceiling.Queryer, statement string, args []any, after []dialect.Value) (bool, error) {
	err := db.QueryRowContext(ctx, q.settings().Before+statement, args...).Scan(new(int))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, q.wrap(err, after)
}

// end returns the least or the greatest key, nil if the table is empty.
func (q *query) end(ctx context.Context, db ceiling.Queryer, p *plan, last bool) (key []dialect.Value, err error) {
	err = q.eachKey(ctx, db, p, keyRange{falling: last, ends: true, limit: 1}, func(k []dialect.Value) { key = k })
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
	r := newReader(q, db, only, nil, where.limit)
	r.add = func() int { each(values(r.keys.now)); return 0 }
	r.bind(func([]any) {})
	return cmp.Or(r.read(ctx, where), r.unread)
}
