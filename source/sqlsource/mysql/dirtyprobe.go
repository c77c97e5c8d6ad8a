package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// DirtyProbe guards an InnoDB table of MySQL 8 or MariaDB as it is, whose key AUTO_INCREMENT
// draws, for a role with SELECT on the table and PROCESS. It holds no transaction open, and
// locks nothing in the table but, for the length of a statement, entries of deleted rows. It is
// chosen automatically.
//
// Rows are read up to a key below which no uncommitted row exists and no statement in progress
// could add one. While a number below the greatest key is missing, it waits for every statement
// that was running on the server when that was first seen, a long report as well as an INSERT. A
// procedure is one statement, from CALL to its end, and so is an event of the scheduler.
//
// It assumes that AUTO_INCREMENT gives the key and that it never changes. Clients and triggers
// can give another: a row with one below the greatest key can be missed. A counter that is set
// back, as by TRUNCATE or ALTER TABLE, is noticed unless new rows have passed the cursor since.
//
// It was tested on MariaDB, with and without performance_schema, and not on MySQL.
type DirtyProbe struct{}

func (DirtyProbe) String() string { return "dirty-probe" }

const (
	// stretch is how many numbers are examined at once: few statements, each of milliseconds.
	stretch = 1 << 16
	// probed is how many numbers one statement asks for.
	probed = 500
	// listings is how often one call of Advance lists the statements that run.
	listings = 4
	// describeAfter is how long rows may be held before it is asked who holds them.
	describeAfter = time.Second
	// noLimit is the value of sql_select_limit that sets no limit.
	noLimit = "18446744073709551615"
)

// Open implements [ceiling.Ceiling].
func (c DirtyProbe) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	r := ceiling.Report{Strategy: c.String()}
	p, err := probe(ctx, db, t, &r)
	if err != nil {
		return nil, err
	}
	key := t.Key[0]
	r.Guarantee = fmt.Sprintf("every row is read once it is committed, in the order of %q: rows are read up to a key below which no uncommitted row exists and no statement in progress could add one", key.Name)
	r.Guarantee += ceiling.AsLongAs(p.triggers, "leave", fmt.Sprintf("%q alone", key.Name))
	return &dirtyProbe{table: t, report: r, server: p.server, from: p.from, key: key.Quoted, last: p.last}, nil
}

type dirtyProbe struct {
	table     ceiling.Table
	report    ceiling.Report
	server    server
	from, key string // for SQL
	last      uint64 // the greatest number that the column takes

	fences   ceiling.Fences[int64]
	horizon  int64
	settled  int64 // no row can be added up to here
	progress ceiling.Progress
	next     uint64 // the counter as it was last
}

func (g *dirtyProbe) Report() ceiling.Report { return g.report }

func (g *dirtyProbe) Advance(ctx context.Context, db ceiling.Queryer, after []string) (l ceiling.Limit, err error) {
	from, err := g.table.After(after)
	if err == nil {
		err = g.check(ctx, db, from)
	}
	if err != nil {
		return l, err
	}
	at := time.Now()
	w, err := g.readWindow(ctx, db, max(from, g.settled, 0)) // a number below 1 is not drawn
	if err != nil {
		return l, err
	}
	if w.greatest == 0 {
		return g.progress.NothingAbove(g.table, from, w.base, at), nil
	}
	g.progress.See(w.greatest, at)
	limit, by, err := g.search(ctx, db, w, at)
	if err != nil {
		return l, err
	}
	g.settled = max(g.settled, limit)
	l = g.progress.Limit(g.table, from, limit, w.high, w.greatest, at)
	if l.Held != nil && time.Since(l.Held.Since) >= describeAfter {
		l.Held.By, err = g.server.describe(ctx, db, by)
	}
	return l, err
}

// check returns an error if the counter does not stand above the cursor, or was set back.
func (g *dirtyProbe) check(ctx context.Context, db ceiling.Queryer, from int64) error {
	next, ok, err := readCounter(ctx, db, g.table.Parts, "")
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("information_schema does not show the AUTO_INCREMENT counter any more: %w", ceiling.ErrChanged)
	case from > 0 && next <= uint64(from) && next < g.last:
		return g.table.Rewound("the AUTO_INCREMENT counter stands at %d, and the cursor is not below it: the counter was set back, as by TRUNCATE or ALTER TABLE, or the table was recreated", next)
	}
	before := g.next
	g.next = next
	if next < before { // what is known about the numbers is not true any more
		return fmt.Errorf("the AUTO_INCREMENT counter was set back: %w", ceiling.ErrChanged)
	}
	return nil
}

// window is the range of numbers that is examined: those above base up to high.
type window struct {
	base, low, high int64  // low is the smallest key
	greatest        int64  // the greatest key above base, or 0
	connection      int64  // the connection that read them
	level           string // its isolation level
}

func (g *dirtyProbe) readWindow(ctx context.Context, db ceiling.Queryer, base int64) (window, error) {
	w := window{base: base}
	var autocommit, whole bool
	var low, high sql.Null[uint64]
	above := fmt.Sprintf(" FROM %s WHERE %s > %d)", g.from, g.key, base) // reads the end of an index
	err := db.QueryRowContext(ctx, "SELECT SQL_NO_CACHE CONNECTION_ID(), "+g.server.level+", @@session.autocommit, @@session.sql_select_limit = "+noLimit+
		", (SELECT MIN("+g.key+")"+above+", (SELECT MAX("+g.key+")"+above).Scan(&w.connection, &w.level, &autocommit, &whole, &low, &high)
	wrong := sessionError(w.level, autocommit, whole)
	switch {
	case err != nil:
		return w, fmt.Errorf("reading the greatest key: %w", err)
	case wrong != "":
		return w, errors.New(wrong)
	case !low.Valid || !high.Valid: // the only row may have been deleted between the two
		return w, nil
	case max(low.V, high.V) > math.MaxInt64:
		return w, fmt.Errorf("a key is above %d: %w", int64(math.MaxInt64), ceiling.ErrChanged)
	}
	w.low = int64(low.V)
	w.greatest = max(int64(high.V), w.low)
	w.high = w.low + min(w.greatest-w.low, stretch-1)
	return w, nil
}

// sessionError says what is wrong with a session, "" if nothing is.
func sessionError(level string, autocommit, whole bool) string {
	switch {
	case !whole:
		return "the session's sql_select_limit is set, so lists of keys and statements would be cut short"
	case level == "READ-UNCOMMITTED":
		return "the session's isolation level is READ UNCOMMITTED, so rows would be delivered that are never committed"
	case !autocommit:
		return "the session's autocommit is off, so it would not see new rows"
	}
	return ""
}

// search returns how far the rows of a window can be read and, if that is not to its end,
// the statements that it waits for; none if it waits for a transaction.
func (g *dirtyProbe) search(ctx context.Context, db ceiling.Queryer, w window, at time.Time) (limit int64, by []*ceiling.Holder, err error) {
	for fenced := false; ; fenced = true {
		holes, err := g.holes(ctx, db, w)
		if err != nil || len(holes) == 0 {
			return w.high, nil, err
		}
		limit := w.high
		if open := beyond(holes, g.horizon); open > 0 {
			limit = open - 1
		}
		if limit < w.high && !fenced {
			if advanced, err := g.fence(ctx, db, w, at); err != nil {
				return 0, nil, err
			} else if advanced {
				continue // the holes were read before that, and must be read again
			}
		}
		first, err := g.uncommitted(ctx, db, w, upTo(holes, limit))
		switch {
		case err != nil:
			return 0, nil, err
		case first > 0:
			return first - 1, nil, nil
		case limit < w.high:
			by = g.fences.Blockers()
		}
		return limit, by, nil
	}
}

// fence sets a fence, and reports whether the horizon advanced.
func (g *dirtyProbe) fence(ctx context.Context, db ceiling.Queryer, w window, at time.Time) (advanced bool, err error) {
	for i := range listings {
		running, err := g.server.statements(ctx, db, w.connection, g.fences.Holders())
		if err != nil {
			return false, err
		}
		if i == 0 {
			g.fences.Set(w.greatest, at, running)
		} else {
			g.fences.Watch(running)
		}
		if high, _, ok := g.fences.Settle(); ok {
			g.horizon, advanced = max(g.horizon, high), true
		}
		if _, waiting := g.fences.Oldest(); !waiting {
			break
		}
	}
	return advanced, nil
}

// holes returns the numbers without a committed row.
func (g *dirtyProbe) holes(ctx context.Context, db ceiling.Queryer, w window) ([]span, error) {
	words := map[int64]uint64{}
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var word int64
		var set uint64
		err := rows.Scan(&word, &set)
		words[word] |= set
		return err
	}, fmt.Sprintf("SELECT SQL_NO_CACHE %[1]s >> 6, BIT_OR(1 << (%[1]s & 63)) FROM %[2]s WHERE %[1]s BETWEEN %[3]d AND %[4]d GROUP BY 1", g.key, g.from, w.low, w.high))
	if err != nil {
		return nil, fmt.Errorf("reading the committed keys: %w", err)
	}
	return missing(words, w.base, w.low, w.high), nil
}

// uncommitted returns the first number in holes that has a row, or 0.
func (g *dirtyProbe) uncommitted(ctx context.Context, db ceiling.Queryer, w window, holes []span) (found int64, err error) {
	if len(holes) == 0 {
		return 0, nil
	}
	err = readUncommitted(ctx, db, w.connection, w.level, func() error {
		for _, some := range chunks(holes, probed) {
			visible, err := g.visible(ctx, db, w, some)
			if visible > 0 {
				some = upTo(some, visible-1)
			}
			if err == nil {
				found, err = g.locked(ctx, db, some)
			}
			if found = cmp.Or(found, visible); found > 0 || err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// visible returns the first number in holes that has a row which is not marked as deleted, or 0.
// The session must read uncommitted rows.
func (g *dirtyProbe) visible(ctx context.Context, db ceiling.Queryer, w window, holes []span) (int64, error) {
	var connection int64
	var level string
	var first sql.NullInt64
	err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT SQL_NO_CACHE CONNECTION_ID(), %s, (SELECT %[2]s FROM %[3]s WHERE %[4]s ORDER BY %[2]s LIMIT 1)",
		g.server.level, g.key, g.from, within(g.key, holes))).Scan(&connection, &level, &first)
	switch {
	case err != nil:
		return 0, fmt.Errorf("reading the uncommitted keys: %w", err)
	case connection != w.connection || level != "READ-UNCOMMITTED":
		return 0, errSpread
	}
	return first.Int64, nil
}

// locked returns the first number in holes whose row is locked or has become visible since, or 0.
// At READ UNCOMMITTED no gaps are locked.
func (g *dirtyProbe) locked(ctx context.Context, db ceiling.Queryer, holes []span) (int64, error) {
	if len(holes) == 0 {
		return 0, nil
	}
	if found, err := g.anyLocked(ctx, db, holes); err != nil || !found {
		return 0, err
	}
	if len(holes) == 1 {
		return holes[0].first, nil
	}
	half := len(holes) / 2
	if first, err := g.locked(ctx, db, holes[:half]); err != nil || first > 0 {
		return first, err
	}
	return g.locked(ctx, db, holes[half:])
}

// anyLocked reports whether a row of the holes is locked or visible. ORDER BY keeps the server to
// the holes. To count their rows it may read a whole index where that seems cheaper, and run into
// a row that someone updates.
func (g *dirtyProbe) anyLocked(ctx context.Context, db ceiling.Queryer, holes []span) (bool, error) {
	err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT SQL_NO_CACHE %[1]s FROM %[2]s WHERE %[3]s ORDER BY %[1]s LIMIT 1 %[4]s",
		g.key, g.from, within(g.key, holes), g.server.share)).Scan(new(int64))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil && !isLocked(err):
		return false, fmt.Errorf("probing for locked rows: %w", err)
	}
	return true, nil
}

func isLocked(err error) bool {
	n := dberr.MySQLNumber(err)
	return n == 1205 || n == 3572 // lock wait timeout, of MariaDB; lock not available, of MySQL
}
