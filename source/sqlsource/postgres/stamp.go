package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Stamp guards a table of Postgres whose key begins with a column of the type
// timestamptz that each change sets to clock_timestamp(), by a trigger BEFORE
// INSERT OR UPDATE FOR EACH ROW, so that each row's latest version is read after
// each change. As a default it serves tables that are only added to.
//
// It is sound because such a stamp is drawn under the table's lock, like the key
// of a [LockFence]: a transaction that is not in the list of lock holders takes
// its lock, and then its stamps, later than the clock was read. It relies on the
// server's clock not being set back. Where it is, rows stamped in the future are
// held until the clock has passed them again, but rows written meanwhile with
// stamps below the cursor are missed: a clock that is seen behind the cursor is an
// error that ends the reading. A step that nobody sees between two polls is none.
//
// Nil as Ceiling chooses Stamp only where it finds the trigger, or the default.
// Chosen by name it takes your word that the column is set this way. It never
// takes now(), CURRENT_TIMESTAMP and the like, which are the time when the
// transaction began, and not even that if several come in one message: see Lag.
type Stamp struct {
	mustSee bool // no word is taken
}

func (Stamp) String() string { return "stamp" }

// Open implements [ceiling.Ceiling].
func (c Stamp) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := openPostgres(ctx, db, t, c)
	if err != nil {
		return nil, err
	}
	if p.standby {
		r.Add(ceiling.Unsafe, "read from the primary; or use an xid8 column", "this server is a standby, which shows no locks of the primary's transactions")
	}
	p.common(&r, t)
	updates := false
	if p.readable() {
		updates = c.stamped(&r, t, p)
	}
	if len(t.Key) == 1 {
		r.Add(ceiling.Unsafe, "add the primary key to Key, behind "+t.Key[0].Name, "several rows can have the same %q", t.Key[0].Name)
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	r.Guarantee = fmt.Sprintf("%s, in the order of %q: rows are read up to a moment when all transactions that wrote to the table then have ended (their locks on it are watched)", promise(updates), t.Key[0].Name)
	column, typ := t.Key[0].Quoted, p.tree[0].keyExact
	return &stamp{table: t, report: r, locks: newPGLocks(p, t), top: fmt.Sprintf(
		`SELECT %s, %s, %s, pg_is_in_recovery(), row_security_active(%d::oid) FROM (SELECT clock_timestamp()::%s AS clock) AS c, (SELECT max(%s) AS top FROM %s) AS tops`,
		micros("clock"), micros(finite("top")), micros(finite("$1::text::timestamptz")), p.oid, typ, column, t.Name)}, nil
}

func (c Stamp) stamped(r *ceiling.Report, t ceiling.Table, p *pgTable) (updates bool) {
	name, own := t.Key[0].Name, p.tree[0]
	fix := stampTrigger(t, t.Key[0].Quoted) + "; or " + p.txColumn(t) + "; or lag by name, which is lossy"
	switch {
	case own.keyType == "timestamp without time zone":
		r.Add(ceiling.Unsafe, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE timestamptz; and %s", t.Name, t.Key[0].Quoted, fix),
			"the key begins with %q, a timestamp without time zone: sessions write it by their own clocks", name)
	case own.keyType != "timestamp with time zone":
		r.Add(ceiling.Unsafe, p.txColumn(t), "the key begins with %q, which is of the type %s and not timestamptz", name, own.keyType)
	default:
		return p.stamped(r, t, "clock_timestamp()", c.mustSee, fix)
	}
	return false
}

// micros is an expression for the microseconds since 1970, without a fraction.
func micros(expr string) string {
	return "(extract(epoch FROM " + expr + ") * 1000000)::bigint"
}

// finite is an expression for a stamp that can be counted, whatever it is.
func finite(expr string) string {
	return fmt.Sprintf("CASE %s WHEN 'infinity' THEN '9999-12-31' WHEN '-infinity' THEN '0001-01-01' ELSE %[1]s END", expr)
}

// stampTrigger is the statement for a stamp that is drawn under the table's lock.
func stampTrigger(t ceiling.Table, column string) string {
	return fmt.Sprintf(`CREATE FUNCTION set_stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.%s := clock_timestamp(); RETURN NEW; END $$; CREATE TRIGGER set_stamp BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION set_stamp()`, column, t.Name)
}

type stamp struct {
	table  ceiling.Table
	report ceiling.Report
	locks  *pgLocks
	top    string

	fences  ceiling.Fences[int64]
	clock   int64 // the server's, at the last look
	settled int64 // rows with smaller stamps can be read
	asOf    time.Time
}

// forget drops what is known of stamps that may be drawn again.
func (g *stamp) forget() {
	g.fences.Forget()
	g.settled, g.asOf = 0, time.Time{}
}

func (g *stamp) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard]. The clock is read before the locks. It is rounded as
// the column is, so that whoever locks later draws a stamp no smaller than that.
func (g *stamp) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	at := time.Now()
	var cursor any
	if after != nil {
		cursor = after[0]
	}
	var clock int64
	var top, last sql.NullInt64
	var standby, hidden bool
	if err := db.QueryRowContext(ctx, g.top, cursor).Scan(&clock, &top, &last, &standby, &hidden); err != nil {
		return ceiling.Limit{}, fmt.Errorf("reading the greatest stamp: %w", err)
	}
	switch {
	case standby:
		return ceiling.Limit{}, errStandby
	case hidden:
		return ceiling.Limit{}, errTable
	case last.Valid && clock < last.Int64:
		return ceiling.Limit{}, &ceiling.RewoundError{Table: g.table.Label, What: fmt.Sprintf("the server's clock was set back, and is %s behind the cursor's stamp: rows that are written meanwhile are missed", ceiling.FormatAge(float64(last.Int64-clock)/1e6))}
	case clock < g.clock:
		g.forget()
	}
	g.clock = clock
	if !top.Valid {
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
	if top.Int64 < g.settled {
		return l, nil
	}
	l.Held = &source.Held{Since: at}
	if by := g.fences.Blockers(); len(by) > 0 {
		l.Held.Since, _ = g.fences.Oldest()
		l.Held.By, err = g.locks.describe(ctx, db, by)
	} else {
		l.AsOf = time.Time{}
		l.Held.By = []string{fmt.Sprintf("a stamp ahead of the server's clock by %s", ceiling.FormatAge(float64(top.Int64-clock)/1e6))}
	}
	return l, err
}
