package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/internal/autoinc"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// DirtyProbe guards a table of MySQL 8 or MariaDB as it is, whose key is
// AUTO_INCREMENT, for a role with SELECT on the table and PROCESS. It holds no
// transaction open. Of the table it locks nothing but, for the length of a
// statement, entries of rows that were deleted.
//
// It asks in this order, each statement by itself:
//
//  1. the greatest committed key, H. AUTO_INCREMENT hands numbers out in
//     ascending order, and one given by a client moves it: so all numbers up to H
//     are drawn, and no later statement draws one of them.
//  2. which statements run. Whoever has drawn a number up to H without having
//     inserted its row does so within a statement of this list. When all of the
//     list have ended, every number up to H stands for a row that has been
//     inserted, or for none, ever. That H is the horizon. Fences are set at each
//     poll as long as numbers are missing above it.
//  3. after that, the committed keys of a stretch above the cursor. What is
//     missing in it are holes. One above the horizon may still be filled.
//  4. the smallest key in the holes at READ UNCOMMITTED: a row that was inserted
//     and is not committed, or was committed since (3).
//  5. below that, a locking read of the holes that does not wait. It meets the
//     rows that a transaction has both inserted and deleted. They are invisible
//     to (4), and come back if the DELETE alone is taken back, by ROLLBACK TO
//     SAVEPOINT or as a statement that fails.
//
// The limit lies below the first hole above the horizon, below the first row of
// (4) and the first of (5). A row below it that was not committed at (3) would
// have been inserted before (3), by the horizon; at (4) it was in the table, and
// visible, or else marked as deleted; in that case at (5) it was still locked by
// its transaction, or that had ended: committed, and then it is counted, or rolled
// back. Prepared XA transactions keep their
// rows and locks, over restarts of the server too.
//
// A statement is known to have ended when its thread is seen idle, or at a
// COMMIT, or not at all. Where performance_schema shows statements
// (events_statements_current: the default of MySQL), also by its number, without
// which a thread that is never seen idle holds rows back for so long. A procedure
// is one statement, from CALL to end, and so is an event of the scheduler: one
// that runs for an hour, and has no COMMIT that is seen, holds rows back for an
// hour. This was run on MariaDB with its performance_schema, and was not run on
// MySQL. MariaDB's QUERY_ID and TIME_MS will not do, since each statement of a
// trigger changes them.
//
// What it takes for granted: that the key is given by AUTO_INCREMENT and never
// changed; clients and triggers may give another, but one below the greatest key
// may be missed (see Audit). That the counter is not set back: TRUNCATE of the
// table or of its newest partition, and ALTER TABLE do that. Each poll looks, and
// where it stands below the cursor that is an ErrHistory; where new rows have
// passed the cursor before that it can no longer be seen. That the server keeps
// what it has committed.
type DirtyProbe struct{}

func (DirtyProbe) String() string { return "dirty-probe" }

const (
	// stretch is how many numbers are looked at in one go: so many that the
	// statements are few to the rows read, and so few that it takes milliseconds.
	stretch = 1 << 16
	// probed is how many numbers one statement asks for.
	probed = 500
	// glances is how often in one call of Raise it is looked who is idle.
	glances = 4
	// silent is how long rows may be held before it is asked by whom.
	silent = time.Second
)

// Open implements [ceiling.Ceiling].
func (c DirtyProbe) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	r := ceiling.Report{Strategy: c.String()}
	p, err := openMySQL(ctx, db, t, &r)
	if err != nil {
		return nil, err
	}
	r.Guarantee = fmt.Sprintf("every row is read once it is committed, in the order of %q: rows are read up to a key below which there is no uncommitted row, and no statement in progress that could add one", t.Key[0].Name)
	from := t.Name + " FORCE INDEX (" + p.index + ")"
	key := t.Key[0].Quoted
	return &dirtyProbe{
		table: t, report: r, server: p.server, from: from, key: key, last: p.last, stretch: stretch,
	}, nil
}

type dirtyProbe struct {
	table     ceiling.Table
	report    ceiling.Report
	server    myServer
	from, key string // for SQL
	last      uint64 // the greatest number that the column takes
	stretch   int64

	fences   ceiling.Fences[int64]
	horizon  int64
	clear    int64 // no row can be added up to here
	progress ceiling.Progress
	next     uint64 // the counter as it was last
}

func (g *dirtyProbe) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard].
func (g *dirtyProbe) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	from := int64(-1 << 63)
	if after != nil {
		var err error
		if from, err = strconv.ParseInt(after[0], 10, 64); err != nil {
			return ceiling.Limit{}, fmt.Errorf("the cursor's %q is no number up to %d", g.table.Key[0].Name, int64(1<<63-1))
		}
	}
	if err := g.counter(ctx, db, from); err != nil {
		return ceiling.Limit{}, err
	}
	base := max(from, g.clear, 0) // a number below 1 is not drawn
	at := time.Now()
	e, err := g.readEnds(ctx, db, base)
	if err != nil {
		return ceiling.Limit{}, err
	}
	if !e.some {
		g.progress.Advance(1<<63-1, at)
		return g.limit(base, from), nil
	}
	g.progress.See(e.high, at)
	w := window{base, e.low, e.low + min(e.high-e.low, g.stretch-1), e}
	limit, by, err := g.search(ctx, db, w, at)
	if err != nil {
		return ceiling.Limit{}, err
	}
	g.clear = max(g.clear, limit)
	g.progress.Advance(limit, at)
	l := g.limit(limit, from)
	switch {
	case limit < w.high:
		l.Held = &source.Held{Since: g.progress.HeldSince()}
		if time.Since(l.Held.Since) >= silent {
			l.Held.By, err = g.server.describe(ctx, db, by)
		}
	case limit < e.high:
		l.More = true
	}
	return l, err
}

func (g *dirtyProbe) limit(limit, from int64) ceiling.Limit {
	return ceiling.Limit{Where: g.table.Key[0].Ref + " <= ?", Args: []any{limit}, Nothing: limit <= from, AsOf: g.progress.AsOf()}
}

// counter looks whether the counter stands above the cursor, and whether it was
// set back.
func (g *dirtyProbe) counter(ctx context.Context, db ceiling.Queryer, from int64) error {
	c, ok, err := autoinc.Read(ctx, db, g.table.Name)
	if err != nil {
		return fmt.Errorf("reading the AUTO_INCREMENT counter: %w", err)
	}
	if !ok {
		return fmt.Errorf("the AUTO_INCREMENT counter cannot be seen any more: %w", ceiling.ErrChanged)
	}
	if from > 0 && c.Next <= uint64(from) && c.Next < g.last {
		return &ceiling.RewoundError{Table: g.table.Label, What: fmt.Sprintf("the AUTO_INCREMENT counter stands at %d, and the cursor is not below it: it was set back, as by TRUNCATE, ALTER TABLE, or a table made anew", c.Next)}
	}
	fell := c.Next < g.next
	g.next = c.Next
	if fell { // what is known of the numbers is not true any more
		return fmt.Errorf("the AUTO_INCREMENT counter was set back: %w", ceiling.ErrChanged)
	}
	return nil
}

// ends are the smallest and the greatest key above the base, and the session
// they were read in.
type ends struct {
	some       bool
	low, high  int64
	connection int64
	level      string
}

func (g *dirtyProbe) readEnds(ctx context.Context, db ceiling.Queryer, base int64) (e ends, err error) {
	var autocommit, whole bool
	var low, high sql.NullString
	above := " FROM " + g.from + " WHERE " + g.key + " > " + strconv.FormatInt(base, 10) + ")" // a look at the end of an index
	if err := db.QueryRowContext(ctx, "SELECT SQL_NO_CACHE CONNECTION_ID(), "+g.server.level+", @@session.autocommit, @@session.sql_select_limit = "+noLimit+", (SELECT MIN("+g.key+")"+above+", (SELECT MAX("+g.key+")"+above).Scan(&e.connection, &e.level, &autocommit, &whole, &low, &high); err != nil {
		return e, fmt.Errorf("reading the greatest key: %w", err)
	}
	if err := sessionError(e.level, autocommit, whole); err != "" {
		return e, errors.New(err)
	}
	if !low.Valid || !high.Valid { // between the two, the only row may have gone
		return e, nil
	}
	e.some = true
	if e.low, err = strconv.ParseInt(low.String, 10, 64); err == nil {
		e.high, err = strconv.ParseInt(high.String, 10, 64)
	}
	if err != nil {
		return e, fmt.Errorf("a key is above %d: %w", int64(1<<63-1), ceiling.ErrChanged)
	}
	e.high = max(e.high, e.low)
	return e, nil
}

// noLimit is the sql_select_limit that is none.
const noLimit = "18446744073709551615"

// sessionError says what is wrong with a session, "" if nothing is.
func sessionError(level string, autocommit, whole bool) string {
	switch {
	case !whole:
		return "the session's sql_select_limit is set, and lists of keys and statements would end early"
	case level == "READ-UNCOMMITTED":
		return "the session's isolation level is READ UNCOMMITTED, and rows would be delivered that are never committed"
	case !autocommit:
		return "the session's autocommit is off, and it would not see new rows"
	}
	return ""
}

// window is the numbers that are looked at: those above base up to high, in
// which low is the first that there is.
type window struct {
	base, low, high int64
	ends            ends
}

// search returns how far the rows of a window can be read and, if that is not to
// its end, whose statements are waited for; none if it is a transaction.
func (g *dirtyProbe) search(ctx context.Context, db ceiling.Queryer, w window, at time.Time) (limit int64, by []*ceiling.Holder, err error) {
	for looked := false; ; looked = true {
		holes, err := g.holes(ctx, db, w)
		if err != nil || len(holes) == 0 {
			return w.high, nil, err
		}
		limit = w.high
		open, some := beyond(holes, g.horizon)
		if some {
			limit = open - 1
		}
		if some && !looked {
			risen, err := g.look(ctx, db, w.ends, at)
			if err != nil {
				return 0, nil, err
			}
			if risen {
				continue // what was read before that says nothing of the new holes
			}
		}
		first, found, err := g.uncommitted(ctx, db, w.ends, upTo(holes, limit))
		switch {
		case err != nil:
			return 0, nil, err
		case found:
			return first - 1, nil, nil
		case some:
			by = g.fences.Blockers()
		}
		return limit, by, nil
	}
}

// look sets a fence, and reports whether the horizon rose.
func (g *dirtyProbe) look(ctx context.Context, db ceiling.Queryer, e ends, at time.Time) (risen bool, err error) {
	for i := range glances {
		running, err := g.server.statements(ctx, db, e.connection, g.fences.Holders())
		if err != nil {
			return false, err
		}
		if i == 0 {
			g.fences.Set(e.high, at, running)
		} else {
			g.fences.Watch(running)
		}
		if high, _, ok := g.fences.Settle(); ok {
			g.horizon, risen = max(g.horizon, high), true
		}
		if _, waiting := g.fences.Oldest(); !waiting {
			break
		}
	}
	return risen, nil
}

// holes returns the numbers without a committed row.
func (g *dirtyProbe) holes(ctx context.Context, db ceiling.Queryer, w window) ([]span, error) {
	keys := newNumbers(w.low, w.high)
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var word int64
		var set uint64
		err := rows.Scan(&word, &set)
		keys.add(word, set)
		return err
	}, fmt.Sprintf("SELECT SQL_NO_CACHE %[1]s >> 6, BIT_OR(1 << (%[1]s & 63)) FROM %[2]s WHERE %[1]s BETWEEN %[3]d AND %[4]d GROUP BY 1", g.key, g.from, w.low, w.high))
	if err != nil {
		return nil, fmt.Errorf("reading the committed keys: %w", err)
	}
	return keys.holes(w.base), nil
}

// uncommitted returns the first number in holes that has a row.
func (g *dirtyProbe) uncommitted(ctx context.Context, db ceiling.Queryer, e ends, holes []span) (first int64, found bool, err error) {
	if len(holes) == 0 {
		return 0, false, nil
	}
	err = g.server.dirtily(ctx, db, e.connection, e.level, func() error {
		for _, some := range chunks(holes, probed) {
			if first, found, err = g.visible(ctx, db, e, some); err != nil {
				return err
			}
			if found {
				some = upTo(some, first-1)
			}
			hidden, locked, err := g.locked(ctx, db, some)
			if locked {
				first, found = hidden, true
			}
			if found || err != nil {
				return err
			}
		}
		return nil
	})
	return first, found, err
}

// visible returns the first number in holes that has a row which is not marked
// as deleted. The session reads uncommitted rows.
func (g *dirtyProbe) visible(ctx context.Context, db ceiling.Queryer, e ends, holes []span) (int64, bool, error) {
	var connection int64
	var level string
	var first sql.NullInt64
	err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT SQL_NO_CACHE CONNECTION_ID(), %s, (SELECT %[2]s FROM %[3]s WHERE %[4]s ORDER BY %[2]s LIMIT 1)",
		g.server.level, g.key, g.from, within(g.key, holes))).Scan(&connection, &level, &first)
	switch {
	case err != nil:
		return 0, false, fmt.Errorf("reading the uncommitted keys: %w", err)
	case connection != e.connection || level != "READ-UNCOMMITTED":
		return 0, false, errSpread
	}
	return first.Int64, first.Valid, nil
}

// locked returns the first number in holes whose row is locked, or has come back
// since it was looked for what is visible. At READ UNCOMMITTED no gaps are locked.
func (g *dirtyProbe) locked(ctx context.Context, db ceiling.Queryer, holes []span) (first int64, found bool, err error) {
	// The order keeps the server to the holes. To count their rows it may read a
	// whole index where that seems cheaper, and meet a row that someone updates.
	probe := func(spans []span) (bool, error) {
		err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT SQL_NO_CACHE %[1]s FROM %[2]s WHERE %[3]s ORDER BY %[1]s LIMIT 1 %[4]s",
			g.key, g.from, within(g.key, spans), g.server.share)).Scan(new(int64))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return false, nil
		case err != nil && !isLocked(err):
			return false, fmt.Errorf("looking for locked rows: %w", err)
		}
		return true, nil
	}
	if len(holes) == 0 {
		return 0, false, nil
	}
	if found, err = probe(holes); err != nil || !found {
		return 0, false, err
	}
	for len(holes) > 1 {
		half := holes[:len(holes)/2]
		if found, err = probe(half); err != nil {
			return 0, false, err
		}
		if found {
			holes = half
		} else {
			holes = holes[len(half):]
		}
	}
	return holes[0].first, true, nil
}

func isLocked(err error) bool {
	n := autoinc.Number(err)
	return n == 1205 || n == 3572 // lock wait timeout, of MariaDB; lock not available, of MySQL
}
