package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// LockFence guards a table as it is, whose key is drawn by a sequence with CACHE 1: a serial
// or identity column, or one with a nextval default. It needs a role with SELECT on the table,
// and works on the primary only. It is chosen automatically.
//
// Rows are read up to a key once all transactions have ended that could still add one at or
// below it: those with a lock for writing on a table of its partition tree, or on the sequence.
//
// It assumes that the transaction which adds a row draws its key. A row whose key was drawn
// by an earlier transaction, or made up below the greatest, is missed.
type LockFence struct{}

func (LockFence) String() string { return "lock-fence" }

// Open implements [ceiling.Ceiling].
func (c LockFence) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := open(ctx, db, t, c, true)
	if err != nil {
		return nil, err
	}
	a := p.drawn(&r, t)
	if err := r.Err(t); err != nil {
		return nil, err
	}
	s, column := p.sequences[0], t.Key[0].Name
	r.Guarantee = fmt.Sprintf("every row is read once it is committed, in the order of %q: rows are read up to a key when all transactions that could still add one below it have ended (their locks on the table and on the sequence %s are watched)%s",
		column, s.name, ceiling.AsLongAs(a.names, "leave", fmt.Sprintf("%q alone", column)))
	g := &lockFence{fence: newFence(p, t, r, math.MinInt64), sequence: s.name}
	drawn, from := "NULL::bigint", "(SELECT) AS nothing"
	if s.mayRead {
		drawn, from = "CASE WHEN is_called THEN last_value ELSE greatest(last_value, -9223372036854775807) - 1 END", s.name
	}
	g.probe = fmt.Sprintf(`SELECT greatest, %[3]s, (SELECT relfilenode::bigint FROM pg_catalog.pg_class WHERE oid = %[4]d), pg_is_in_recovery()
		FROM (SELECT max(%[1]s) AS greatest FROM %[2]s WHERE %[1]s >= $1::bigint) AS g, %[5]s`,
		t.Key[0].Quoted, t.Name, drawn, s.oid, from)
	g.setval = fmt.Sprintf("SELECT setval(%s, greatest(last_value, (SELECT max(%s) FROM %s))) FROM %s;", dialect.QuoteWith(`'`, s.name), t.Key[0].Quoted, t.Name, s.name)
	return g, nil
}

type lockFence struct {
	fence
	sequence string
	setval   string        // a statement that moves the sequence past the keys
	file     sql.NullInt64 // of the sequence: it changes when that is altered or restarted

	// When keys above the sequence were seen last, and since when at each poll. A client made them up.
	byHand, byHandSince time.Time
}

// Advance implements [ceiling.Guard]. The order of its two statements makes it sound: first
// how far the rows go, then who may still add to them.
func (g *lockFence) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	last, err := g.table.After(after)
	if err != nil {
		return ceiling.Limit{}, err
	}
	from := last                                                               // the least key that may have to be read
	if len(g.table.Key) == 1 && math.MinInt64 < last && last < math.MaxInt64 { // else it may stand between rows of one drawn value
		from++
	}
	at := time.Now()
	var greatest, drawn, file sql.NullInt64 // drawn is where the sequence stands, if the role may read that
	err = g.read(ctx, db, "key", from, &greatest, &drawn, &file)
	if err == nil && g.file.Valid && g.file != file {
		err = fmt.Errorf("the sequence %s was altered: %w", g.sequence, ceiling.ErrChanged)
	}
	if err != nil {
		return ceiling.Limit{}, err
	}
	g.file = file
	if drawn.Valid {
		g.stands(drawn.Int64)
	}
	// The file changes with TRUNCATE RESTART IDENTITY and ALTER SEQUENCE, so that a restart shows even
	// if the sequence has drawn as many values again.
	l := ceiling.Limit{AsOf: at, Nothing: true, Sequence: strconv.FormatInt(file.Int64, 10)}
	switch {
	case drawn.Valid && drawn.Int64 < last:
		return ceiling.Limit{}, g.table.Rewound("the sequence %s stands at %d, below the cursor: "+
			"it was set back, as by TRUNCATE RESTART IDENTITY, ALTER SEQUENCE RESTART or setval", g.sequence, drawn.Int64)
	case !greatest.Valid:
		g.byHandSince = time.Time{}
		return l, g.idle(ctx, db, at)
	}
	high := greatest.Int64
	if drawn.Valid && drawn.Int64 < high {
		if after == nil {
			if err := g.anyDrawn(ctx, db, drawn.Int64, high); err != nil {
				return l, err
			}
		}
		high, g.byHand = drawn.Int64, at
		if g.byHandSince.IsZero() {
			g.byHandSince = at
		}
	} else {
		g.byHandSince = time.Time{}
	}
	if err := g.set(ctx, db, high, at); err != nil {
		return l, err
	}
	if !g.asOf.After(g.byHand) { // keys above the sequence were committed before it
		g.asOf = time.Time{}
	}
	l.Where, l.Args, l.Greatest = g.table.Key[0].Ref+" <= ?::bigint", []any{g.settled}, greatest.Int64
	l.Nothing, l.AsOf = g.settled < from, g.asOf
	if g.settled < greatest.Int64 {
		l.Held, err = g.held(ctx, db, source.Held{Since: g.byHandSince, By: []string{fmt.Sprintf(byHand, g.sequence, g.setval)}})
	}
	return l, err
}

const byHand = "a key that the sequence %s has not reached: a client made it up, or it was loaded without setval, and it is read when the sequence has passed it; to read it now, run %s"

// anyDrawn returns an error if no row has a key that the sequence has drawn, though some have greater ones.
func (g *lockFence) anyDrawn(ctx context.Context, db ceiling.Queryer, drawn, greatest int64) error {
	var any bool
	err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s WHERE %s <= $1::bigint)", g.table.Name, g.table.Key[0].Quoted), drawn).Scan(&any)
	if err != nil || any {
		return err
	}
	return g.refuse(ceiling.Advice("let the sequence draw greater keys than the existing ones", g.setval),
		"there are keys up to %d, and the sequence %s stands at %d, below all of them: they were loaded without setval, and would wait until the sequence has passed them", greatest, g.sequence, drawn)
}
