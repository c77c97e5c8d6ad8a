package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Stamp guards a table whose key begins with a column of the type timestamptz that a BEFORE
// INSERT OR UPDATE trigger sets to clock_timestamp() for each row, so that each row's latest
// version is read after each change. As a default, clock_timestamp() serves tables whose rows
// are only inserted.
//
// It takes your word for that, so it must be chosen explicitly. now(), CURRENT_TIMESTAMP and
// the like are the time when the transaction began, or even earlier, and lose rows: see
// ceiling.Stamp for them.
//
// It relies on the server's clock: rows written after it was set back, with stamps below the
// cursor, are missed. A clock that is earlier than the cursor at a poll is an error that ends the
// reading; a step between two polls goes unnoticed. Rows stamped in the future are held until the
// clock has passed their stamps.
type Stamp struct{}

func (Stamp) String() string { return "stamp" }

// Open implements [ceiling.Ceiling].
func (c Stamp) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := open(ctx, db, t, c, true)
	if err != nil {
		return nil, err
	}
	err = p.guarantee(&r, t, stampRecipe, true, "a moment when all transactions that wrote to the table then have ended (their locks on it are watched)")
	if err != nil {
		return nil, err
	}
	g := &stamp{fence: newFence(p, t, r, 0)}
	g.probe = fmt.Sprintf(`SELECT %s, %s, %s, pg_is_in_recovery() FROM (SELECT clock_timestamp()::%s AS clock) AS c, (SELECT max(%s) AS greatest FROM %s) AS g`,
		micros("clock"), micros(finite("greatest")), micros(finite("$1::text::timestamptz")), p.tree[0].keyExact, t.Key[0].Quoted, t.Name)
	return g, nil
}

// maxAhead is how far stamps may be ahead of the clock before the first row is read. Less passes soon.
const maxAhead = time.Hour

func stampText(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// micros is an expression for the microseconds since 1970, without a fraction.
func micros(expr string) string {
	return "(extract(epoch FROM " + expr + ") * 1000000)::bigint"
}

// finite is an expression for a stamp that can be counted, whatever it is.
func finite(expr string) string {
	return fmt.Sprintf("CASE %s WHEN 'infinity' THEN '9999-12-31' WHEN '-infinity' THEN '0001-01-01' ELSE %[1]s END", expr)
}

type stamp struct {
	fence
	ahead time.Time // since when no row but those with stamps ahead of the clock is there
}

// Advance implements [ceiling.Guard]. The clock is read before the locks. It is rounded as the
// column is, so that whoever locks the table later draws a stamp that is not smaller.
func (g *stamp) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	var from any
	if after != nil {
		from = after[0]
	}
	at := time.Now()
	var clock int64 // like the stamps, in microseconds since 1970
	var greatest, last sql.NullInt64
	if err := g.read(ctx, db, "stamp", from, &clock, &greatest, &last); err != nil {
		return ceiling.Limit{}, err
	}
	if last.Valid && clock < last.Int64 {
		return ceiling.Limit{}, g.table.Rewound("the server's clock was set back, and is %s earlier than the cursor's stamp: "+
			"rows written before it has passed that stamp are missed", formatMicros(last.Int64-clock))
	}
	g.stands(clock)
	below := func() bool { return !greatest.Valid || greatest.Int64 < g.settled } // no row needs a new fence
	l, err := ceiling.Limit{AsOf: at, Nothing: !greatest.Valid}, error(nil)
	if below() {
		err = g.idle(ctx, db, at) // which drops the fences if the server was started again
	}
	if err == nil && !below() {
		err = g.set(ctx, db, clock, at)
		l.AsOf = g.asOf
	}
	l.Where, l.Args = g.table.Key[0].Ref+" < 'epoch'::timestamptz + ?::float8 * interval '1 microsecond'", []any{g.settled}
	if err != nil || below() {
		g.ahead = time.Time{}
		return l, err
	}
	if _, waiting := g.fences.Oldest(); !waiting {
		l.AsOf = time.Time{}
	}
	if after == nil && greatest.Int64-clock > maxAhead.Microseconds() {
		return l, g.refuse(ceiling.Advice("update these rows, so that the trigger stamps them again, or exclude them by a condition"),
			"rows have a %q up to %s, ahead of the server's clock: they would wait until the clock has passed that", g.table.Key[0].Name, stampText(greatest.Int64))
	}
	if g.ahead.IsZero() {
		g.ahead = at
	}
	ahead := fmt.Sprintf("a stamp ahead of the server's clock by %s (%s)", formatMicros(greatest.Int64-clock), stampText(greatest.Int64))
	l.Held, err = g.held(ctx, db, source.Held{Since: g.ahead, By: []string{ahead}})
	return l, err
}

func formatMicros(n int64) string { return ceiling.FormatAge(float64(n) / 1e6) }
