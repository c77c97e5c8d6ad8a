package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// LockFence guards a table of Postgres as it is, whose key is drawn by a
// sequence of CACHE 1, for a role that may no more than SELECT. See the package
// documentation for why it is sound, and when it is not.
type LockFence struct{}

func (LockFence) String() string { return "lock-fence" }

// Open implements [ceiling.Ceiling].
func (c LockFence) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := openPostgres(ctx, db, t, c)
	if err != nil {
		return nil, err
	}
	if p.standby {
		r.Add(ceiling.Unsafe, "read from the primary; or give the table a column that works on this standby, too; "+p.txColumn(t), "this server is a standby, which shows no locks of the primary's transactions")
	}
	p.common(&r, t)
	if p.readable() {
		p.drawn(&r, t)
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	s := p.sequences[0]
	r.Guarantee = fmt.Sprintf("every row is read once it is committed, in the order of %q: rows are read up to a key when all transactions that could still add one below it have ended (their locks on the table and on the sequence %s are watched)",
		t.Key[0].Name, s.name)
	g := &lockFence{table: t, report: r, locks: newPGLocks(p, t)}
	g.forget()
	drawn, from := "NULL::bigint", "(SELECT) AS nothing"
	if s.mayRead {
		drawn, from = "CASE WHEN is_called THEN last_value ELSE greatest(last_value, -9223372036854775807) - 1 END", s.name
	}
	g.top = fmt.Sprintf(`SELECT (SELECT max(%s) FROM %s WHERE %[1]s >= $1::bigint), %[3]s, (SELECT relfilenode::bigint FROM pg_catalog.pg_class WHERE oid = %[4]d), pg_is_in_recovery(), row_security_active(%[6]d::oid) FROM %[5]s`,
		t.Key[0].Quoted, t.Name, drawn, s.oid, from, p.oid)
	g.sequence = s.name
	return g, nil
}

// openPostgres probes a table for a strategy of Postgres.
func openPostgres(ctx context.Context, db ceiling.Queryer, t ceiling.Table, c ceiling.Ceiling) (*pgTable, ceiling.Report, error) {
	r := ceiling.Report{Strategy: c.String()}
	switch {
	case t.SQL.Name() != name:
		r.Add(ceiling.Unsafe, "leave Ceiling nil for the one that fits", "it works on Postgres only, and this is %s", t.SQL.Name())
	case t.Name == "":
		r.Add(ceiling.Unsafe, "set the Query's field Table", "the table that has the key is not named")
	}
	if err := r.Err(t); err != nil {
		return nil, r, err
	}
	p, err := probePostgres(ctx, db, t)
	return p, r, err
}

type lockFence struct {
	table    ceiling.Table
	report   ceiling.Report
	locks    *pgLocks
	top      string // the statement for the greatest key, and for the sequence's
	sequence string
	file     sql.NullInt64 // of the sequence: another one after it was altered or restarted

	fences  ceiling.Fences[int64]
	settled int64     // all up to this key; math.MinInt64: nothing
	asOf    time.Time // of settled
	drawn   int64     // where the sequence stood

	// Keys were seen above the sequence, given by hand.
	byHand, byHandSince time.Time // the last time, and the first of those in a row
}

// forget drops what is known of keys that may be drawn again.
func (g *lockFence) forget() {
	g.fences.Forget()
	g.settled, g.asOf, g.drawn = math.MinInt64, time.Time{}, math.MinInt64
}

func (g *lockFence) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard]. The order of its two statements is what makes it
// sound: first how far the rows go, then who may still add to them.
func (g *lockFence) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	last, from := int64(math.MinInt64), int64(math.MinInt64) // the cursor's key, and the least that may be to be read
	if after != nil {
		var err error
		if last, err = strconv.ParseInt(after[0], 10, 64); err != nil {
			return ceiling.Limit{}, retry.Permanent(fmt.Errorf("the cursor's value for %q is no integer of 64 bits; rewind to a cursor that At returns", g.table.Key[0].Name))
		}
		from = last
		if len(g.table.Key) == 1 && last < math.MaxInt64 { // else it may stand between rows of one drawn value
			from++
		}
	}
	at := time.Now()
	var top, drawn, file sql.NullInt64
	var standby, hidden bool
	if err := db.QueryRowContext(ctx, g.top, from).Scan(&top, &drawn, &file, &standby, &hidden); err != nil {
		return ceiling.Limit{}, fmt.Errorf("reading the greatest key: %w", err)
	}
	switch { // also where no row is seen for that, so that the locks are not looked at
	case standby:
		return ceiling.Limit{}, errStandby
	case hidden:
		return ceiling.Limit{}, errTable
	}
	if g.file.Valid && g.file != file {
		return ceiling.Limit{}, fmt.Errorf("the sequence %s was altered: %w", g.sequence, ceiling.ErrChanged)
	}
	g.file = file
	if drawn.Valid {
		if drawn.Int64 < g.drawn {
			g.forget()
		}
		g.drawn = drawn.Int64
	}
	if drawn.Valid && after != nil && drawn.Int64 < last {
		return ceiling.Limit{}, &ceiling.RewoundError{Table: g.table.Label, What: fmt.Sprintf("the sequence %s stands at %d, below the cursor: it was set back, as by TRUNCATE RESTART IDENTITY, ALTER SEQUENCE RESTART or setval", g.sequence, drawn.Int64)}
	}
	if !top.Valid {
		g.byHandSince = time.Time{}
		return ceiling.Limit{Nothing: true, AsOf: at, Sequence: g.draws()}, nil
	}
	high := top.Int64
	if drawn.Valid && drawn.Int64 < high {
		high, g.byHand = drawn.Int64, at
		if g.byHandSince.IsZero() {
			g.byHandSince = at
		}
	} else {
		g.byHandSince = time.Time{}
	}
	holders, restarted, err := g.locks.list(ctx, db)
	if err != nil {
		return ceiling.Limit{}, err
	}
	if restarted { // ids are given anew, and keys too whose commits were not on disk
		g.forget()
	}
	g.fences.Set(high, at, holders)
	if h, at, ok := g.fences.Settle(); ok {
		g.settled, g.asOf = max(h, g.settled), at
	}
	if !g.asOf.After(g.byHand) { // keys above the sequence were committed before it
		g.asOf = time.Time{}
	}
	l := ceiling.Limit{Where: g.table.Key[0].Ref + " <= ?::bigint", Args: []any{g.settled}, AsOf: g.asOf, Nothing: g.settled < from, Sequence: g.draws()}
	if g.settled >= top.Int64 {
		return l, nil
	}
	l.Held = &source.Held{Since: g.byHandSince}
	if by := g.fences.Blockers(); len(by) > 0 {
		l.Held.Since, _ = g.fences.Oldest()
		l.Held.By, err = g.locks.describe(ctx, db, by)
	} else {
		l.Held.By = []string{fmt.Sprintf("a key that the sequence %s has not reached: it was given by hand, and is read when the sequence has passed it", g.sequence)}
	}
	return l, err
}

// draws tells the sequence from what it was before a TRUNCATE RESTART IDENTITY or
// ALTER SEQUENCE, also if it has drawn as many values again since.
func (g *lockFence) draws() string { return strconv.FormatInt(g.file.Int64, 10) }

var errNoLocks = errors.New("pg_locks does not show this session's own lock: the server, or a proxy before it, hides locks, and no ceiling can be found by them")
