package ceiling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// Grace waits at each hole in the keys for as long as For. The keys must be integers that
// are drawn in ascending order. After that time the hole is taken for one that is never
// filled, such as a rollback leaves. It is lossy: a row that commits later is missed. It
// serves databases that have no better ceiling, and needs no rights but to read the table.
// It must be chosen explicitly.
//
// A hole waits for For and up to a 64th of it, counted from when this Guard first saw a
// key above it. After a restart of the program the wait begins again.
type Grace struct {
	For time.Duration // longer than any transaction that adds rows is open; must be positive
}

func (c Grace) String() string { return "grace=" + c.For.String() }

// Open implements [Ceiling].
func (c Grace) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String(), Lossy: true}
	switch {
	case t.Name == "":
		r.Add(Unsafe, NameTable(), "no table is named, so its keys cannot be read")
	case c.For <= 0:
		r.Add(Unsafe, Advice("set Grace.For to longer than any transaction that adds rows is open"), "Grace.For is %v", c.For)
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	integers, err := integerKey(ctx, db, t)
	if err != nil {
		return nil, err
	}
	g := &grace{table: t, wait: c.For, stretch: stretch}
	_, _, _, err = g.ends(ctx, db, 0)
	switch {
	case errors.Is(err, errNoInteger) || !integers:
		r.Add(Unsafe, Advice("use a key of integers; for a column of times choose the ceiling lag"), "%q does not hold integers up to %d", t.Key[0].Name, int64(1<<63-1))
		return nil, r.Err(t)
	case err != nil:
		return nil, err
	}
	r.Guarantee = fmt.Sprintf("a row is missed if it is committed more than %s after one with a greater %q", c.For, t.Key[0].Name)
	g.report = r
	return g, nil
}

// integerKey reports whether the key's first column may hold integers: its type, as the
// driver names it, contains INT, or the column has no type.
func integerKey(ctx context.Context, db Queryer, t Table) (bool, error) {
	rows, err := db.QueryContext(ctx, "SELECT "+t.Key[0].Quoted+" FROM "+t.Name+" WHERE 1 = 0")
	if err != nil {
		return false, fmt.Errorf("reading the type of the key: %w", err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err = errors.Join(err, rows.Err()); err != nil {
		return false, fmt.Errorf("reading the type of the key: %w", err)
	}
	typ := types[0].DatabaseTypeName()
	return typ == "" || strings.Contains(strings.ToUpper(typ), "INT"), nil
}

type grace struct {
	table   Table
	report  Report
	wait    time.Duration
	stretch int64

	marks    []fence[int64] // the greatest keys, and when they were read
	horizon  int64          // no hole up to here is waited for
	settled  int64          // no hole up to here is left
	progress Progress
}

func (g *grace) Report() Report { return g.report }

// Advance implements [Guard].
func (g *grace) Advance(ctx context.Context, db Queryer, after []string) (Limit, error) {
	from := int64(-1 << 63)
	if after != nil {
		var err error
		if from, err = strconv.ParseInt(after[0], 10, 64); err != nil {
			return Limit{}, fmt.Errorf("the cursor's %q is not an integer; rewind to a cursor that At returns", g.table.Key[0].Name)
		}
	}
	base := max(from, g.settled, 0)
	at := time.Now()
	low, greatest, some, err := g.ends(ctx, db, base)
	if err != nil {
		if errors.Is(err, errNoInteger) {
			err = fmt.Errorf("%w: %w", err, ErrChanged)
		}
		return Limit{}, err
	}
	if !some {
		g.progress.Advance(1<<63-1, at)
		return g.limit(base, from, from), nil
	}
	g.progress.See(greatest, at)
	g.mark(greatest, at)
	high := greatest
	if greatest-low >= g.stretch {
		high = low + g.stretch - 1
	}
	limit, err := g.firstHole(ctx, db, max(base, min(g.horizon, high)), high)
	if err != nil {
		return Limit{}, err
	}
	g.settled = max(g.settled, limit)
	g.progress.Advance(limit, at)
	l := g.limit(limit, from, greatest)
	if limit < high {
		l.Held = &source.Held{Since: g.progress.HeldSince(), By: []string{fmt.Sprintf("a missing key, which is waited for until it has been missing for %s", g.wait)}}
	} else {
		l.More = limit < greatest
	}
	return l, nil
}

func (g *grace) limit(limit, from, greatest int64) Limit {
	return Limit{Where: g.table.Key[0].Ref + " <= " + g.table.SQL.Integer(), Args: []any{limit}, Nothing: limit <= from, AsOf: g.progress.AsOf(), Pending: g.table.Pending(from, greatest)}
}

// mark records that all keys up to greatest are drawn, and moves the horizon to the
// greatest key for which that has been known long enough.
func (g *grace) mark(greatest int64, at time.Time) {
	if n := len(g.marks); n == 0 || g.marks[n-1].high < greatest && at.Sub(g.marks[n-1].at) >= g.wait/64 {
		g.marks = append(g.marks, fence[int64]{high: greatest, at: at})
	}
	for len(g.marks) > 0 && at.Sub(g.marks[0].at) >= g.wait {
		g.horizon = max(g.horizon, g.marks[0].high)
		g.marks = g.marks[1:]
	}
}

// firstHole returns the last key before the first hole in the keys after start up to high.
func (g *grace) firstHole(ctx context.Context, db Queryer, start, high int64) (int64, error) {
	key := g.table.Key[0].Quoted
	where := fmt.Sprintf(" FROM %s WHERE %s > %d AND %s <= %d", g.table.Name, key, start, key, high)
	var n int64
	if err := db.QueryRowContext(ctx, "SELECT COUNT(DISTINCT "+key+")"+where).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting the keys: %w", err)
	}
	if n == high-start {
		return high, nil
	}
	found := errors.New("found")
	err := Each(ctx, db, func(rows *sql.Rows) error {
		var k int64
		if err := rows.Scan(&k); err != nil {
			return err
		}
		if k > start+1 {
			return found
		}
		start = k
		return nil
	}, "SELECT "+key+where+" ORDER BY "+key)
	if err != nil && !errors.Is(err, found) {
		return 0, fmt.Errorf("reading the keys: %w", err)
	}
	return start, nil
}

// stretch is how many numbers are examined at once: so many that the statements are few
// compared with the rows read, and so few that each takes milliseconds.
const stretch = 1 << 16

var errNoInteger = errors.New("a key is not an integer")

// ends returns the smallest and the greatest key above base.
func (g *grace) ends(ctx context.Context, db Queryer, base int64) (low, high int64, some bool, err error) {
	above := " FROM " + g.table.Name + " WHERE " + g.table.Key[0].Quoted + " > " + strconv.FormatInt(base, 10) + ")"
	var texts [2]sql.NullString
	err = db.QueryRowContext(ctx, "SELECT (SELECT MIN("+g.table.Key[0].Quoted+")"+above+", (SELECT MAX("+g.table.Key[0].Quoted+")"+above).Scan(&texts[0], &texts[1])
	if err != nil {
		return 0, 0, false, fmt.Errorf("reading the greatest key: %w", err)
	}
	if !texts[0].Valid || !texts[1].Valid {
		return 0, 0, false, nil
	}
	if low, err = strconv.ParseInt(texts[0].String, 10, 64); err == nil {
		high, err = strconv.ParseInt(texts[1].String, 10, 64)
	}
	if err != nil {
		err = errNoInteger
	}
	return low, high, err == nil, err
}
