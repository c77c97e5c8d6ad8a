package ceiling

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Stamp guards a table whose key begins with a time that applications set: a column such as updated_at, by
// which each row is read again after each change that sets it, or an id that begins with the time at which it
// was made. The values may be
//
//   - times of the database, or texts of ISO 8601 that are all written alike,
//   - Unix seconds, milliseconds, microseconds or nanoseconds, which their size tells apart,
//   - UUIDs of version 7, ULIDs, or snowflake ids with an Epoch.
//
// A row is read when its time lies Margin before the database's clock, and all transactions that were open when the
// clock showed that have ended. So however long transactions are, a row is missed only if its time lies more than
// Margin before its transaction began, by the database's clock. Margin must cover the lag of the clients' clocks, and
// the time from taking the stamp to the beginning of the transaction. Where the database does not list its
// transactions, as SQLite, Margin must cover the time to the commit. The guarantee says which.
//
// Stamp is lossy, because nobody checks that assumption, and must be chosen explicitly. Package late counts the rows
// that it does not cover. An UPDATE that does not set the column is not read.
type Stamp struct {
	Margin time.Duration // must be positive

	// Zone is the time zone in which the writers fill a column of times that has none: UTC, Asia/Tokyo, +09:00. It is
	// required for such a column, and ignored for others. DESIGN-ceilings.md says how an hour is read that a clock shows twice.
	Zone string

	// Epoch says that integers are snowflake ids: milliseconds since Epoch, above the lowest Bits bits.
	Epoch time.Time
	Bits  int // 0 means 22
}

// String returns stamp=30s, stamp=30s@UTC with a Zone, or stamp=30s@2010-11-04T01:42:54.657Z/22 with an Epoch.
func (c Stamp) String() string {
	name := "stamp=" + c.Margin.String()
	switch {
	case !c.Epoch.IsZero():
		return fmt.Sprintf("%s@%s/%d", name, c.Epoch.UTC().Format(time.RFC3339Nano), c.bits())
	case c.Zone != "":
		return name + "@" + c.Zone
	}
	return name
}

func (c Stamp) bits() int { return cmp.Or(c.Bits, 22) }

// Open implements [Ceiling].
func (c Stamp) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String(), Lossy: true}
	zone, err := loadZone(c.Zone) // nil without one
	r.AddIf(c.Margin <= 0, Unsafe, Advice("set Stamp.Margin to a positive duration"), "Stamp.Margin is %v", c.Margin)
	r.AddIf(c.Bits < 0 || c.Bits > 32, Unsafe, Advice("set Stamp.Bits to the number of bits below the milliseconds, usually 22"), "Stamp.Bits is %d", c.Bits)
	r.AddIf(err != nil, Unsafe, Advice("give an offset such as +09:00, or install the time zone database (the package tzdata)"), "the time zone %q is not known", c.Zone)
	if err := r.Err(t); err != nil {
		return nil, err
	}
	g := newStamp(t, c.Margin)
	if g.list, err = t.SQL.Transactions(ctx, db, t, &r); err == nil {
		err = r.Err(t)
	}
	if err != nil {
		return nil, err
	}
	ends, err := ends(ctx, db, t)
	if err != nil {
		return nil, err
	}
	if layout, _ := t.SQL.TimeLayout(t.Key[0].Type); ends == nil && layout == "" {
		r.Add(Note, nil, "there is no row yet: what the values of %q are shows with the first one", t.Key[0].Name)
	} else {
		g.moments = c.momentsOf(t, zone, ends)
		c.check(&r, t, g.moments)
		if err := sorts(ctx, db, &r, t, g.moments); err != nil {
			return nil, err
		}
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	g.report = c.guarantee(r, t, g.moments, g.list.Since())
	return g, nil
}

func newStamp(t Table, margin time.Duration) *stamp {
	return &stamp{table: t, margin: margin, settled: math.MinInt64 + 1}
}

// ends returns the least and the greatest value of the key's first column, nil without rows.
func ends(ctx context.Context, db Queryer, t Table) (values []string, err error) {
	for _, last := range []bool{false, true} {
		key, err := t.End(ctx, db, last)
		if key == nil || err != nil {
			return nil, err
		}
		values = append(values, key[0])
	}
	return values, nil
}

// check reports values that are wrong.
func (c Stamp) check(r *Report, t Table, m *moments) {
	column := t.Key[0].Name
	switch {
	case m == nil && t.Key[0].Type == "DATE":
		r.Add(Unsafe, Advice("use a column of times"), "%q is a date: a day is no moment that a transaction could be compared with", column)
	case m == nil:
		r.Add(Unsafe, Advice("use a key that begins with a time; for snowflake ids, set Stamp.Epoch: stamp="+c.Margin.String()+"@2010-11-04T01:42:54.657Z"),
			"the values of %q are not times: they are not a time of the database, text of ISO 8601 in UTC or without a time zone, Unix time since 2000, UUIDs of version 7 alone, or ULIDs, all of one kind", column)
	case m.zone == nil:
		r.Add(Unsafe, Advice("name the time zone in which the writers fill it: stamp="+c.Margin.String()+"@UTC"), "%q has no time zone", column)
	}
}

// compound is how many SELECTs a statement has. SQLite takes 500, and its drivers have small stacks.
const compound = 64

// sorts reports a column of texts that does not sort them as their moments.
func sorts(ctx context.Context, db Queryer, r *Report, t Table, m *moments) error {
	if m == nil || m.sorted == nil || t.Name == "" {
		return nil
	}
	for want := m.sorted(); len(want) > 1; want = want[min(len(want), compound)-1:] {
		part := want[:min(len(want), compound)]
		falling := slices.Clone(part)
		slices.Reverse(falling)
		got, err := Texts(ctx, db, fmt.Sprintf("SELECT %s FROM (SELECT %[1]s FROM %s WHERE 1 = 0 UNION ALL SELECT '%s') AS x ORDER BY %[1]s", t.Key[0].Quoted, t.Name, strings.Join(falling, "' UNION ALL SELECT '")))
		if err != nil {
			return fmt.Errorf("sorting texts as %q does: %w", t.Key[0].Name, err)
		}
		if !slices.Equal(got, part) {
			r.Add(Unsafe, Advice("give the column a collation that compares bytes, such as C, or one that ends with _bin"),
				"%q does not sort %s by their times: its collation has another alphabet", t.Key[0].Name, m.name)
			return nil
		}
	}
	return nil
}

// guarantee returns the report with the guarantee.
func (c Stamp) guarantee(r Report, t Table, m *moments, since string) Report {
	column, what := t.Key[0].Name, ""
	if m != nil {
		what = " (" + m.name
		if m.zone != time.UTC || c.Zone != "" {
			what += " in the time zone " + m.zone.String()
		}
		what += ")"
	}
	r.Guarantee = fmt.Sprintf("a row is missed if its %q%s holds a time more than %v before %s, by the database's clock, which must not be set back; all other rows are read", column, what, c.Margin, since)
	if t.UpdateColumn() != "" {
		r.Updates = UpdatesRead
		r.Guarantee += fmt.Sprintf(", and its latest version again after each change that sets %q to a time as recent as that; a change that does not set it is not read", column)
	}
	return r
}

// stamp is the Guard of a Stamp. Moments are as in moments.
type stamp struct {
	table   Table
	report  Report
	margin  time.Duration
	list    Transactions
	moments *moments // nil: the table was empty

	clock    time.Time         // of the database, as it was last
	fences   Fences[time.Time] // each at what the clock showed
	stale    time.Time         // since when the list of transactions is not new enough; zero: it is new enough
	open     time.Time         // all transactions have ended that were open then
	settled  int64             // rows below this moment can be read
	progress Progress          // by moments
}

func (g *stamp) Report() Report { return g.report }

// Advance implements [Guard]. The order of its statements makes it sound: first the clock, then the
// transactions that are open.
func (g *stamp) Advance(ctx context.Context, db Queryer, after []string) (l Limit, err error) {
	at := time.Now()
	clock, err := g.list.Clock(ctx, db)
	if err != nil {
		return l, fmt.Errorf("reading the clock: %w", err)
	}
	key, err := g.table.End(ctx, db, true)
	if err != nil {
		return l, err
	}
	if err := g.checkClock(after, clock); err != nil {
		return l, err
	}
	if key == nil || slices.Equal(key, after) {
		l.AsOf, _ = g.progress.Advance(math.MaxInt64, at)
		l.Nothing = true
		return l, nil
	}
	if g.moments == nil {
		return l, fmt.Errorf("the table has its first row: %w", ErrChanged)
	}
	greatest, err := g.read(key[0], after, clock)
	if err != nil {
		return l, err
	}
	g.progress.See(greatest, at)
	if greatest >= g.settled {
		if err := g.fence(ctx, db, clock, at); err != nil {
			return l, err
		}
	}
	l.Where, l.Args = g.table.Key[0].Ref+" < ?", []any{g.moments.encode(g.settled)}
	l.Nothing = g.open.IsZero()
	var since time.Time
	if l.AsOf, since = g.progress.Advance(g.settled-1, at); !since.IsZero() {
		l.Held, err = g.held(ctx, db, since, greatest)
	}
	return l, err
}

// checkClock refuses a clock that stands before the cursor. A cursor at a value that is no time says nothing about that.
func (g *stamp) checkClock(after []string, clock time.Time) error {
	if after == nil || g.moments == nil {
		return nil
	}
	last, ok := g.moments.parse(after[0])
	if now := g.moments.at(clock); ok && last > now && last != never {
		return g.table.Rewound("the database's clock is %s earlier than the cursor's time: it was set back, and rows written before it has passed that are missed", FormatAge(micros(last-now).Seconds()))
	}
	return nil
}

// read returns the moment of the greatest value. It refuses values of another kind.
func (g *stamp) read(value string, after []string, clock time.Time) (int64, error) {
	greatest, ok := g.moments.parse(value)
	if !ok {
		return 0, g.refuse(Advice("exclude these rows by a condition"), "a value of %q is not of the kind that the others are, %s", g.table.Key[0].Name, g.moments.name)
	}
	if ahead := micros(greatest - g.moments.at(clock)); after == nil && ahead > maxAhead {
		return 0, g.refuse(Advice("correct these rows, or exclude them by a condition"),
			"rows have a %q that is %s ahead of the database's clock: they would wait until it has passed that", g.table.Key[0].Name, FormatAge(ahead.Seconds()))
	}
	return greatest, nil
}

// maxAhead is how far times may be ahead of the clock before the first row is read. A smaller lead passes soon.
const maxAhead = time.Hour

func micros(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Microsecond)
	return time.Duration(max(min(n, most), -most)) * time.Microsecond
}

func (g *stamp) refuse(remedies []Remedy, format string, args ...any) error {
	r := g.report
	r.Findings = slices.Clone(r.Findings)
	r.Add(Unsafe, remedies, format, args...)
	return retry.Permanent(r.Err(g.table))
}

// fence sets a fence at the time that the clock showed, and finds out which fences are settled.
func (g *stamp) fence(ctx context.Context, db Queryer, clock, at time.Time) error {
	if clock.Before(g.clock) { // open transactions may take earlier times than the fences
		g.fences.Forget()
	}
	g.clock = clock
	listed, holders, err := g.list.List(ctx, db, clock, g.fences.Holders())
	if err != nil {
		return err
	} else if holders == nil {
		g.stale = cmp.Or(g.stale, at)
		return nil
	}
	g.stale = time.Time{}
	g.fences.Set(listed, at, holders)
	if open, _, ok := g.fences.Settle(); ok && open.After(g.open) {
		g.open = open
		g.settled = max(g.settled, g.moments.at(open.Add(-g.margin)))
	}
	return nil
}

// namedAfter is how long a transaction may be open until it is named.
const namedAfter = time.Second

// held returns the transactions that the greatest row waits for.
func (g *stamp) held(ctx context.Context, db Queryer, since time.Time, greatest int64) (*source.Held, error) {
	h := &source.Held{Since: since}
	oldest, waiting := g.fences.Oldest()
	switch ahead := micros(greatest - g.moments.at(g.clock)); {
	case waiting && time.Since(oldest) > namedAfter:
		var err error
		h.By, err = g.list.Describe(ctx, db, g.fences.Blockers())
		return h, err
	case !g.stale.IsZero() && time.Since(g.stale) > namedAfter:
		h.By = []string{"the server's list of open transactions, which is not made again because others read it too often"}
	case ahead > 0:
		h.By = []string{fmt.Sprintf("a time that is %s ahead of the database's clock", FormatAge(ahead.Seconds()))}
	default:
		h.By = []string{fmt.Sprintf("the margin of the ceiling %s", g.report.Strategy)}
	}
	return h, nil
}
