package ceiling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
)

// Grace waits at each hole in the keys, which must be integers that are drawn in ascending
// order. After the time For, and up to a 256th more, the hole is taken for one that is never
// filled, such as a rollback leaves. The time counts from when this Guard first saw a key above
// the hole; a restart of the program begins the wait again.
//
// It is lossy: a row that commits later is missed. So it must be chosen explicitly. It serves
// databases that have no better ceiling, and needs no rights but to read the table.
type Grace struct {
	For time.Duration // longer than any transaction that adds rows is open; must be positive
}

func (c Grace) String() string { return "grace=" + c.For.String() }

// Open implements [Ceiling].
func (c Grace) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String(), Lossy: true}
	r.addUnnamed(t.Name == "", "its keys cannot be read")
	r.AddIf(c.For <= 0, Unsafe, Advice("set Grace.For to longer than any transaction that adds rows is open"), "Grace.For is %v", c.For)
	if err := r.Err(t); err != nil {
		return nil, err
	}
	g := &grace{table: t, wait: c.For}
	err := errNoInteger
	if wholeNumbers.MatchString(t.Key[0].Type) {
		_, _, err = g.ends(ctx, db, 0)
		if t.Key[0].Type == "" && retry.Classify(err) == retry.Setup { // the type cannot be compared with integers
			err = errNoInteger
		}
	}
	if errors.Is(err, errNoInteger) {
		r.Add(Unsafe, Advice("use a key of integers; for a column of times choose the ceiling stamp=30s"),
			"%q does not hold integers up to %d", t.Key[0].Name, int64(math.MaxInt64))
		err = r.Err(t)
	}
	if err != nil {
		return nil, err
	}
	r.Guarantee = fmt.Sprintf("a row is missed if it is committed more than %s after one with a greater %q", c.For, t.Key[0].Name)
	g.report = r
	return g, nil
}

// wholeNumbers are the types whose values can be integers; "" is that of a column of SQLite without one.
var wholeNumbers = regexp.MustCompile(`(?i)^$|^(NUMERIC|DECIMAL)$|\b(TINY|SMALL|MEDIUM|BIG)?INT(EGER|[248])?\b`)

type grace struct {
	table  Table
	report Report
	wait   time.Duration

	seen     ages[int64] // the greatest keys
	horizon  int64       // no hole up to here is waited for
	settled  int64       // no hole up to here is left
	progress Progress
}

func (g *grace) Report() Report { return g.report }

func (g *grace) Advance(ctx context.Context, db Queryer, after []string) (Limit, error) {
	from, err := g.table.After(after)
	if err != nil {
		return Limit{}, err
	}
	base := max(from, g.settled, 0)
	at := time.Now()
	low, greatest, err := g.ends(ctx, db, base)
	switch {
	case errors.Is(err, errNoInteger):
		return Limit{}, fmt.Errorf("%w: %w", err, ErrChanged)
	case err != nil:
		return Limit{}, err
	case greatest == base:
		return g.progress.NothingAbove(g.table, from, base, at), nil
	}
	g.progress.See(greatest, at)
	if old, ok := g.seen.add(greatest, at, g.wait); ok {
		g.horizon = max(g.horizon, old)
	}
	high := low + min(greatest-low, stretch-1)
	limit, err := g.firstHole(ctx, db, max(base, min(g.horizon, high)), high)
	if err != nil {
		return Limit{}, err
	}
	g.settled = max(g.settled, limit)
	l := g.progress.Limit(g.table, from, limit, high, greatest, at)
	if l.Held != nil {
		l.Held.By = []string{fmt.Sprintf("a missing key, which is waited for until it has been missing for %s", g.wait)}
	}
	return l, nil
}

// firstHole returns the last key before the first hole in the keys after start up to high.
func (g *grace) firstHole(ctx context.Context, db Queryer, start, high int64) (int64, error) {
	hole := errors.New("a key is missing")
	err := Each(ctx, db, func(rows *sql.Rows) error {
		var k int64
		err := rows.Scan(&k)
		if err == nil && k > start+1 {
			return hole
		}
		start = k
		return err
	}, fmt.Sprintf("SELECT %[1]s FROM %[2]s WHERE %[1]s > %[3]d AND %[1]s <= %[4]d ORDER BY %[1]s", g.table.Key[0].Quoted, g.table.Name, start, high))
	if err != nil && !errors.Is(err, hole) {
		return 0, fmt.Errorf("reading the keys: %w", err)
	}
	return start, nil
}

// stretch is how many numbers are examined at once: so many that the statements are few
// compared with the rows read, and so few that each takes milliseconds.
const stretch = 1 << 16

var errNoInteger = errors.New("a key is not an integer")

// ends returns the smallest and the greatest key above base, or base without such a key.
func (g *grace) ends(ctx context.Context, db Queryer, base int64) (low, high int64, err error) {
	above := fmt.Sprintf("(%s) FROM %s WHERE %[1]s > %[3]d)", g.table.Key[0].Quoted, g.table.Name, base)
	var least, most sql.NullString
	err = db.QueryRowContext(ctx, "SELECT (SELECT MIN"+above+", (SELECT MAX"+above).Scan(&least, &most)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the greatest key: %w", err)
	}
	if !least.Valid || !most.Valid {
		return base, base, nil
	}
	low, errLow := strconv.ParseInt(least.String, 10, 64)
	high, errHigh := strconv.ParseInt(most.String, 10, 64)
	if errLow != nil || errHigh != nil {
		return 0, 0, errNoInteger
	}
	return low, high, nil
}
