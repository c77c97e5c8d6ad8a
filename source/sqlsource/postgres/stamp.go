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
// ceiling.Lag. The errors for keys that begin with a time contain the statements for such a
// column and its trigger.
//
// It relies on the server's clock not being set back. Rows stamped in the future are held until
// the clock has passed their stamps. Rows written after the clock was set back, with stamps
// below the cursor, are missed. A clock that is earlier than the cursor at a poll is an error that
// ends the reading; a step between two polls goes unnoticed.
type Stamp struct{}

func (Stamp) String() string { return "stamp" }

// Open implements [ceiling.Ceiling].
func (c Stamp) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := open(ctx, db, t, c)
	if err != nil {
		return nil, err
	}
	p.onPrimary(&r, t)
	p.common(&r, t)
	var s setting
	if p.readable() {
		s = p.stamped(&r, t)
	}
	column := t.Key[0].Name
	if len(t.Key) == 1 {
		r.Add(ceiling.Unsafe, ceiling.Advice("add the primary key to Key, after "+column), "several rows can have the same %q", column)
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	does := fmt.Sprintf("%q to clock_timestamp() at each INSERT and UPDATE", column)
	clause := s.triggers.clause("sets "+does, "set "+does)
	if s.vouched {
		clause = fmt.Sprintf(", as long as clients or triggers set %s, for which it takes your word", does)
	}
	r.Guarantee = fmt.Sprintf("%s, in the order of %q: rows are read up to a moment when all transactions that wrote to the table then have ended (their locks on it are watched)%s",
		promise(s.updates), column, clause)
	return &stamp{table: t, report: r, locks: newLocks(p, t), probe: fmt.Sprintf(
		`SELECT %s, %s, %s, pg_is_in_recovery(), row_security_active(%d::oid) FROM (SELECT clock_timestamp()::%s AS clock) AS c, (SELECT max(%s) AS greatest FROM %s) AS g`,
		micros("clock"), micros(finite("greatest")), micros(finite("$1::text::timestamptz")), p.oid, p.tree[0].keyExact, t.Key[0].Quoted, t.Name)}, nil
}

// stamped adds who sets the stamp, as far as the catalogue shows it.
func (p *table) stamped(r *ceiling.Report, t ceiling.Table) (s setting) {
	column, own := t.Key[0].Name, p.tree[0]
	r.Fallbacks = []string{"lag=5m"}
	switch own.keyType {
	case stampRecipe.typ:
		return p.settings(r, t, stampRecipe, true, p.resetRemedies(t, stampRecipe))
	case "timestamp without time zone":
		r.Add(ceiling.Unsafe, p.stampRemedies(t), "the key begins with %q, a timestamp without time zone: sessions write it by their own clocks", column)
	default:
		r.Fallbacks = nil
		r.Add(ceiling.Unsafe, p.remedies(t, false), "the key begins with %q of the type %s, and must begin with a timestamptz", column, own.keyType)
	}
	return s
}

// micros is an expression for the microseconds since 1970, without a fraction.
func micros(expr string) string {
	return "(extract(epoch FROM " + expr + ") * 1000000)::bigint"
}

// finite is an expression for a stamp that can be counted, whatever it is.
func finite(expr string) string {
	return fmt.Sprintf("CASE %s WHEN 'infinity' THEN '9999-12-31' WHEN '-infinity' THEN '0001-01-01' ELSE %[1]s END", expr)
}

type stamp struct {
	table  ceiling.Table
	report ceiling.Report
	locks  *locks
	probe  string

	fences  ceiling.Fences[int64]
	clock   int64 // the server's, at the last poll
	settled int64 // rows with smaller stamps can be read
	asOf    time.Time
}

// forget drops what is known of stamps that may be drawn again.
func (g *stamp) forget() {
	g.fences.Forget()
	g.settled, g.asOf = 0, time.Time{}
}

func (g *stamp) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard]. The clock is read before the locks. It is rounded as the
// column is, so that whoever locks the table later draws a stamp that is not smaller.
func (g *stamp) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	at := time.Now()
	clock, greatest, err := g.read(ctx, db, after)
	if err != nil {
		return ceiling.Limit{}, err
	}
	if !greatest.Valid {
		return ceiling.Limit{Nothing: true, AsOf: at}, nil
	}
	holders, restarted, err := g.locks.list(ctx, db)
	if err != nil {
		return ceiling.Limit{}, err
	}
	if restarted {
		g.forget()
	}
	g.fences.Set(clock, at, holders)
	if high, at, ok := g.fences.Settle(); ok {
		g.settled, g.asOf = max(g.settled, high), at
	}
	l := ceiling.Limit{Where: g.table.Key[0].Ref + " < 'epoch'::timestamptz + ?::float8 * interval '1 microsecond'", Args: []any{g.settled}, AsOf: g.asOf}
	if greatest.Int64 < g.settled {
		return l, nil
	}
	l.Held = &source.Held{Since: at}
	if by := g.fences.Blockers(); len(by) > 0 {
		l.Held.Since, _ = g.fences.Oldest()
		l.Held.By, err = g.locks.describe(ctx, db, by)
	} else {
		l.AsOf = time.Time{}
		l.Held.By = []string{fmt.Sprintf("a stamp ahead of the server's clock by %s", ceiling.FormatAge(float64(greatest.Int64-clock)/1e6))}
	}
	return l, err
}

// read returns the server's clock and the greatest stamp, in microseconds since 1970.
func (g *stamp) read(ctx context.Context, db ceiling.Queryer, after []string) (clock int64, greatest sql.NullInt64, err error) {
	var cursor any
	if after != nil {
		cursor = after[0]
	}
	var last sql.NullInt64
	var standby, hidden bool
	if err := db.QueryRowContext(ctx, g.probe, cursor).Scan(&clock, &greatest, &last, &standby, &hidden); err != nil {
		return 0, greatest, fmt.Errorf("reading the greatest stamp: %w", err)
	}
	switch {
	case standby:
		return 0, greatest, errStandby
	case hidden:
		return 0, greatest, errTable
	case last.Valid && clock < last.Int64:
		return 0, greatest, &ceiling.RewoundError{Table: g.table.Label, What: fmt.Sprintf("the server's clock was set back, and is %s earlier than the cursor's stamp: rows written before it has passed that stamp are missed", ceiling.FormatAge(float64(last.Int64-clock)/1e6))}
	case clock < g.clock:
		g.forget()
	}
	g.clock = clock
	return clock, greatest, nil
}
