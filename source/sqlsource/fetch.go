package sqlsource

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// What the zero values of Table's and Query's fields mean.
const (
	DefaultMaxBytes    = 8 << 20
	DefaultMaxRowBytes = 32 << 20
)

// firstLimit is how many rows the first statement asks for at most, while
// nothing is known of their size.
const firstLimit = 1024

// state is what a Table or a Query learns. Nothing of it decides which rows a
// cursor stands for, only how they are read.
type state struct {
	setup sync.Once
	query *query
	err   error

	mu      sync.Mutex
	plan    *plan
	stale   bool // the plan is out of date, and kept to tell what changed
	nonce   int  // of the next plan, 0 until the columns are found changed
	checked bool // NULL was looked for in the first column of the key
	planned bool // the database's plan was looked at
	rowSize int  // average of the last batch

	guard ceiling.Guard
	reach *reach // nil: not known
	said  string // the guarantee that was logged last

	guarantee *source.Guarantee // of the guard

}

// records takes the rows of one batch.
type records[T any] interface {
	bind(dest []any) // sets what the columns are scanned into; the slice is kept
	add() int        // ends a row and returns its size in bytes
	take(int) []T    // returns the first rows
}

// errChanged says that the columns are not those of the plan.
var errChanged = errors.New("the columns change all the time")

// rounds is how often one Fetch begins again because the columns changed.
const rounds = 4

// fetch is Fetch for all kinds of records.
func fetch[T any](ctx context.Context, s *state, after source.Cursor, limit int, open func(p *plan, limit int) (records[T], error)) (source.Batch[T], error) {
	b := source.Batch[T]{From: after, To: after}
	q := s.query
	if limit < 1 {
		return b, permanent("%s: Fetch was called with a max of %d", q.label, limit)
	}
	if err := ctx.Err(); err != nil {
		return b, fmt.Errorf("sqlsource: %s: %w", q.label, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()

	from := after
	if after == "" && q.start != Latest {
		from = q.start
	}
	var key []value
	var old past
	if from != "" {
		var err error
		if key, old, err = decode(from, q.print, len(q.key)); err != nil {
			return b, err
		}
	}
	err := q.onConn(ctx, func(db ceiling.Queryer) (err error) {
		if b, err = fetchRounds(ctx, s, db, position{after, key, old}, limit, open); err != nil {
			s.reach = nil // the next connection may lead to another server
		}
		return err
	})
	if err == nil { // and the connection is given back: there may be only one
		b.Guarantee, b.Position = s.guarantee, inWords(q.key, b.To)
		s.logPlan(ctx, b.To)
	}
	return b, err
}

// position is where to read from: a cursor, and what it holds.
type position struct {
	cursor source.Cursor
	key    []value
	past   past
}

func fetchRounds[T any](ctx context.Context, s *state, db ceiling.Queryer, after position, limit int, open func(p *plan, limit int) (records[T], error)) (source.Batch[T], error) {
	q, none := s.query, source.Batch[T]{From: after.cursor, To: after.cursor}
	for round := 1; ; round++ {
		b, err := fetchOnce(ctx, s, db, after, limit, open)
		changed, failed := s.changed(ctx, db, err)
		if failed != nil {
			return none, failed
		}
		if !changed {
			return b, err
		}
		s.stale = true
		s.nonce = rand.Int()
		if err == nil || errors.Is(err, errChanged) {
			err = fmt.Errorf("sqlsource: %s: %w", q.label, errChanged)
		}
		if round == rounds {
			return none, err
		}
	}
}

// changed reports whether the columns may have changed since the plan was made.
func (s *state) changed(ctx context.Context, db ceiling.Queryer, err error) (bool, error) {
	if err != nil && (errors.Is(err, errChanged) || s.query.sql.changed(err)) {
		return true, nil
	}
	if s.plan == nil || s.stale || err != nil && ctx.Err() != nil {
		return false, nil
	}
	now, failed := s.query.schema(ctx, db)
	return failed == nil && now != s.plan.schema, failed
}

// ready makes the plan if there is none, or it is out of date.
func (s *state) ready(ctx context.Context, db ceiling.Queryer) error {
	q := s.query
	if s.plan == nil || s.stale {
		if s.plan == nil {
			if err := q.sql.utf8(ctx, db); err != nil {
				return fmt.Errorf("sqlsource: %s: %w", q.label, err)
			}
		}
		p, err := q.makePlan(ctx, db, s.nonce)
		if err != nil {
			return err
		}
		q.logChange(ctx, s.plan, p)
		s.plan, s.stale, s.checked = p, false, false
	}
	if !s.checked {
		if err := q.findNull(ctx, db, s.plan, 0, nil); err != nil {
			return err
		}
		s.checked = true
	}
	return nil
}

func fetchOnce[T any](ctx context.Context, s *state, db ceiling.Queryer, after position, limit int, open func(*plan, int) (records[T], error)) (b source.Batch[T], err error) {
	b.From, b.To = after.cursor, after.cursor
	checked := s.checked
	if err := s.ready(ctx, db); err != nil {
		return b, err
	}
	q, p := s.query, s.plan
	if after.cursor == "" && q.start == Latest {
		if s.guard == nil { // what would be missed is refused now, and not after the first row
			if err := s.open(ctx, db); err != nil {
				return b, err
			}
		}
		latest, err := q.latest(ctx, db, p)
		if err == nil {
			b.To, err = encode(q.print, past{}, latest)
		}
		return b, err
	}
	b, err = fetchBelow(ctx, s, db, after, limit, open)
	if err != nil {
		return b, err
	}
	if !b.More && checked {
		err = q.findNull(ctx, db, p, 0, nil)
	}
	return b, err
}

// fetchBelow reads a batch below the ceiling. When it has read all below one
// that earlier batches were read below, it looks where it is now, and reads on:
// a batch that is not full ends where the ceiling is.
func fetchBelow[T any](ctx context.Context, s *state, db ceiling.Queryer, after position, limit int, open func(*plan, int) (records[T], error)) (b source.Batch[T], err error) {
	b.From, b.To = after.cursor, after.cursor
	if after.cursor == "" && after.key != nil {
		b.To = s.query.start
	}
	for i, v := range after.key { // of which a ceiling sees the text alone
		if _, _, err := s.plan.key[i].bind(v); err != nil {
			return b, misfit(s.plan.key[i], v, err)
		}
	}
	limit = min(limit, s.guess(s.query.maxBytes))
	into, err := open(s.plan, limit)
	if err != nil {
		return b, err
	}
	r := reader{query: s.query, db: db, plan: s.plan, keys: newKeys(s.plan.key, after.key), limit: limit, add: into.add}
	dest := r.dest(into.bind)
	at := after
	for ended := false; !ended; {
		fresh, err := s.reachFor(ctx, db, at)
		if err != nil {
			return b, err
		}
		below := s.reach
		for i := 1; i < len(s.plan.key) && at.key != nil && !below.Nothing; i++ {
			if err := r.findNull(ctx, db, s.plan, i, at.key); err != nil {
				return b, err
			}
		}
		if !below.Nothing && !below.durable {
			if found, err := r.exists(ctx, db, s.plan, at.key, below.Limit); err != nil {
				return b, err
			} else if found {
				b.Held = &source.Held{Since: below.since, Retry: flushRetry, By: []string{unflushed}}
				break
			}
			below.Nothing = true
		}
		if at, err = s.readBelow(ctx, &r, at, dest); err != nil {
			return b, err
		}
		if r.more {
			below.to = at.cursor
			break
		}
		ended = fresh && !below.More
		s.reach, b.AsOf, b.Held = nil, below.AsOf, below.Held
	}
	if r.rows > 0 {
		b.Records, b.Bytes, b.More = into.take(r.rows), r.bytes, r.more
		b.To = at.cursor
		s.rowSize = max(r.bytes/r.rows, 1)
	}
	return b, nil
}

// exists reports whether there is a row behind a key and below a ceiling.
func (q *query) exists(ctx context.Context, db ceiling.Queryer, p *plan, after []value, below ceiling.Limit) (bool, error) {
	one := *p
	one.list = "1"
	statement, args, err := q.statement(&one, after, below, 1)
	if err != nil {
		return false, err
	}
	err = db.QueryRowContext(ctx, statement, args...).Scan(new(int))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		err = q.wrap(err, after)
	}
	return err == nil, err
}

// readBelow reads rows below the ceiling, and returns where the last one is.
func (s *state) readBelow(ctx context.Context, r *reader, at position, dest []any) (position, error) {
	if s.reach.Nothing {
		return at, nil
	}
	before := r.rows
	r.below = s.reach.Limit
	if err := r.read(ctx, at.key, dest); err != nil || r.rows == before {
		return at, err
	}
	at.key, at.past = r.keys.lastValues(), s.reach.past
	var err error
	at.cursor, err = encode(r.print, at.past, at.key)
	return at, err
}

// guess returns how many rows about maxBytes are. It is a power of two, since
// every number makes another statement, which drivers keep prepared.
func (s *state) guess(maxBytes int) int {
	if s.rowSize == 0 {
		return firstLimit
	}
	n := max(maxBytes/s.rowSize, 1)
	return 1 << (bits.Len(uint(n)) - 1)
}

// wrap says of which query an error is, and of which cursor, where its value is
// what the database refuses.
func (q *query) wrap(err error, after []value) error {
	switch sqlState(err) {
	case "22P02", "22P03", "22P05", "22003", "22007", "22008", "22009", "22021", "42804":
		if after != nil {
			return permanent("%s: the database does not take the cursor's key, %s, or a value in a condition: %w; rewind to a cursor that At returns", q.label, describeKey(q.key, after), err)
		}
	}
	return fmt.Errorf("sqlsource: %s: %w", q.label, err)
}

// scanError hides the value that database/sql writes into its error.
func (q *query) scanError(ctx context.Context, err error, k *keys) error {
	if ctx.Err() != nil || !strings.HasPrefix(err.Error(), "sql: Scan error on column") {
		return fmt.Errorf("sqlsource: %s: %w", q.label, err)
	}
	column, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "sql: Scan error on "), ": ")
	where := "the first row"
	if k.hasLast {
		where = "the row after " + k.describe(k.last)
	}
	if q.texts { // the error is of package row, which shows no values
		return permanent("%s: reading %s: %w", q.label, where, err)
	}
	return permanent("%s: %s of %s does not go into its field: %w", q.label, column, where, hidden{err})
}

// hidden is an error whose text may hold a row's values.
type hidden struct{ err error }

func (h hidden) Error() string { return "NULL, or a value of another type" }
func (h hidden) Unwrap() error { return h.err }

// findNull returns an error if there is a row that no statement returns because
// the i-th column of its key is NULL. The first column must not be NULL at all.
// A later one hides a row only where the columns before it are the cursor's; in
// any other row it is read, and seen.
func (q *query) findNull(ctx context.Context, db ceiling.Queryer, p *plan, i int, after []value) error {
	if !p.key[i].null {
		return nil
	}
	var args args
	args.numbered = q.sql == postgres{}
	conds := []string{p.key[i].ref + " IS NULL"}
	if q.where != "" {
		conds = append(conds, q.where)
	}
	for j, k := range p.key[:i] {
		expr, arg, err := k.bind(after[j])
		if err != nil {
			return misfit(k, after[j], err)
		}
		conds = append(conds, k.ref+" = "+args.add(expr, arg))
	}
	var one int
	err := db.QueryRowContext(ctx, "SELECT 1 FROM "+q.from+whereClause(conds)+" LIMIT 1", args.list...).Scan(&one)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return q.wrap(err, after)
	}
	return nullKey(p.key[i].name)
}

// latest returns the greatest key, nil if there is no row.
func (q *query) latest(ctx context.Context, db ceiling.Queryer, p *plan) (key []value, err error) {
	err = q.eachKey(ctx, db, p, keyRange{falling: true, limit: 1}, func(k *keys) { key = k.lastValues() })
	return key, err
}
