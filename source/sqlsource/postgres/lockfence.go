package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// LockFence guards a table as it is, whose key is drawn by a sequence with CACHE 1: a serial
// or identity column, or one with a nextval default. It needs a role with SELECT on the table,
// and works on the primary only. It is chosen automatically.
//
// Rows are read up to a key once all transactions have ended that could still add one at or
// below it. These are the ones that hold a lock for writing on the table, on a table of its
// partition tree, or on the sequence.
//
// It assumes that the transaction which adds a row draws its key. A row whose key was drawn
// by an earlier transaction, or made up below the greatest, is missed.
type LockFence struct{}

func (LockFence) String() string { return "lock-fence" }

// Open implements [ceiling.Ceiling].
func (c LockFence) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := open(ctx, db, t, c)
	if err != nil {
		return nil, err
	}
	p.onPrimary(&r, t)
	p.common(&r, t)
	var a assumptions
	if p.readable() {
		a = p.drawn(&r, t)
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	s, column := p.sequences[0], t.Key[0].Name
	r.Guarantee = fmt.Sprintf("every row is read once it is committed, in the order of %q: rows are read up to a key when all transactions that could still add one below it have ended (their locks on the table and on the sequence %s are watched)%s",
		column, s.name, a.clause(fmt.Sprintf("leaves %q alone", column), fmt.Sprintf("leave %q alone", column)))
	g := &lockFence{table: t, report: r, locks: newLocks(p, t), sequence: s.name}
	g.forget()
	drawn, from := "NULL::bigint", "(SELECT) AS nothing"
	if s.mayRead {
		drawn, from = "CASE WHEN is_called THEN last_value ELSE greatest(last_value, -9223372036854775807) - 1 END", s.name
	}
	g.probe = fmt.Sprintf(`SELECT (SELECT max(%s) FROM %s WHERE %[1]s >= $1::bigint), %[3]s, (SELECT relfilenode::bigint FROM pg_catalog.pg_class WHERE oid = %[4]d), pg_is_in_recovery(), row_security_active(%[6]d::oid) FROM %[5]s`,
		t.Key[0].Quoted, t.Name, drawn, s.oid, from, p.oid)
	return g, nil
}

// open probes a table for a strategy.
func open(ctx context.Context, db ceiling.Queryer, t ceiling.Table, c ceiling.Ceiling) (*table, ceiling.Report, error) {
	r := ceiling.Report{Strategy: c.String()}
	if err := r.Require(t, name); err != nil {
		return nil, r, err
	}
	p, err := probe(ctx, db, t)
	return p, r, err
}

// onPrimary adds whether the server shows the locks of the transactions that write.
func (p *table) onPrimary(r *ceiling.Report, t ceiling.Table) {
	if p.standby {
		remedies := ceiling.Advice("read from the primary")
		for _, way := range p.remedies(t, false) {
			way.Words = "on the primary, " + way.Words
			remedies = append(remedies, way)
		}
		r.Add(ceiling.Unsafe, remedies, "this server is a standby, which shows no locks of the primary's transactions")
	}
}

type lockFence struct {
	table    ceiling.Table
	report   ceiling.Report
	locks    *locks
	probe    string // the statement for the greatest key, and for that of the sequence
	sequence string
	file     sql.NullInt64 // of the sequence: it changes when that is altered or restarted

	fences  ceiling.Fences[int64]
	settled int64     // all up to this key; math.MinInt64: nothing
	asOf    time.Time // of settled
	drawn   int64     // where the sequence stood

	// When keys above the sequence, which a client must have made up, were seen last, and
	// since when they have been seen at each poll.
	byHand, byHandSince time.Time
}

// forget drops what is known of keys that may be drawn again.
func (g *lockFence) forget() {
	g.fences.Forget()
	g.settled, g.asOf, g.drawn = math.MinInt64, time.Time{}, math.MinInt64
}

func (g *lockFence) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard]. The order of its two statements makes it sound: first
// how far the rows go, then who may still add to them.
func (g *lockFence) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	last, from, err := g.begin(after)
	if err != nil {
		return ceiling.Limit{}, err
	}
	at := time.Now()
	greatest, drawn, err := g.read(ctx, db, from)
	if err != nil {
		return ceiling.Limit{}, err
	}
	if drawn.Valid && after != nil && drawn.Int64 < last {
		return ceiling.Limit{}, &ceiling.RewoundError{Table: g.table.Label, What: fmt.Sprintf("the sequence %s stands at %d, below the cursor: it was set back, as by TRUNCATE RESTART IDENTITY, ALTER SEQUENCE RESTART or setval", g.sequence, drawn.Int64)}
	}
	if !greatest.Valid {
		g.byHandSince = time.Time{}
		return ceiling.Limit{Nothing: true, AsOf: at, Sequence: g.draws()}, nil
	}
	if err := g.fence(ctx, db, greatest.Int64, drawn, at); err != nil {
		return ceiling.Limit{}, err
	}
	l := ceiling.Limit{
		Where: g.table.Key[0].Ref + " <= ?::bigint", Args: []any{g.settled}, AsOf: g.asOf, Nothing: g.settled < from,
		Sequence: g.draws(), Pending: g.table.Pending(last, greatest.Int64),
	}
	if g.settled < greatest.Int64 {
		l.Held, err = g.held(ctx, db)
	}
	return l, err
}

// begin returns the cursor's key, and the least key that may have to be read.
func (g *lockFence) begin(after []string) (last, from int64, err error) {
	if after == nil {
		return math.MinInt64, math.MinInt64, nil
	}
	if last, err = strconv.ParseInt(after[0], 10, 64); err != nil {
		return 0, 0, retry.Permanent(fmt.Errorf("the cursor's value for %q is not an integer of 64 bits; rewind to a cursor that At returns", g.table.Key[0].Name))
	}
	from = last
	if len(g.table.Key) == 1 && last < math.MaxInt64 { // else it may stand between rows of one drawn value
		from++
	}
	return last, from, nil
}

// read returns the greatest key, and where the sequence stands if the role may read that.
func (g *lockFence) read(ctx context.Context, db ceiling.Queryer, from int64) (greatest, drawn sql.NullInt64, err error) {
	var file sql.NullInt64
	var standby, hidden bool
	if err := db.QueryRowContext(ctx, g.probe, from).Scan(&greatest, &drawn, &file, &standby, &hidden); err != nil {
		return greatest, drawn, fmt.Errorf("reading the greatest key: %w", err)
	}
	switch { // checked here as well as with the locks, which are not read for an empty table
	case standby:
		return greatest, drawn, errStandby
	case hidden:
		return greatest, drawn, errTable
	case g.file.Valid && g.file != file:
		return greatest, drawn, fmt.Errorf("the sequence %s was altered: %w", g.sequence, ceiling.ErrChanged)
	}
	g.file = file
	if drawn.Valid {
		if drawn.Int64 < g.drawn {
			g.forget()
		}
		g.drawn = drawn.Int64
	}
	return greatest, drawn, nil
}

// fence sets a fence, and moves settled to the newest one whose holders have ended.
func (g *lockFence) fence(ctx context.Context, db ceiling.Queryer, high int64, drawn sql.NullInt64, at time.Time) error {
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
		return err
	}
	if restarted { // ids are given again, and so are keys whose commits were not on disk
		g.forget()
	}
	g.fences.Set(high, at, holders)
	if h, at, ok := g.fences.Settle(); ok {
		g.settled, g.asOf = max(h, g.settled), at
	}
	if !g.asOf.After(g.byHand) { // keys above the sequence were committed before it
		g.asOf = time.Time{}
	}
	return nil
}

// held says who holds the rows above settled back.
func (g *lockFence) held(ctx context.Context, db ceiling.Queryer) (h *source.Held, err error) {
	h = &source.Held{Since: g.byHandSince}
	if by := g.fences.Blockers(); len(by) > 0 {
		h.Since, _ = g.fences.Oldest()
		h.By, err = g.locks.describe(ctx, db, by)
	} else {
		h.By = []string{fmt.Sprintf("a key that the sequence %s has not reached: a client made it up, and it is read when the sequence has passed it", g.sequence)}
	}
	return h, err
}

// draws identifies what the sequence has been since the last TRUNCATE RESTART IDENTITY or
// ALTER SEQUENCE, so that a restart shows even if it has drawn as many values again.
func (g *lockFence) draws() string { return strconv.FormatInt(g.file.Int64, 10) }
