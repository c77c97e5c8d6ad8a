package ceiling

import (
	"context"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// Lag reads rows that are older than By, on any database. It is lossy: a row whose transaction
// takes longer than By from drawing the key to its commit is missed. It must be chosen
// explicitly, and only for keys that ascend with time: with a random key, such as a uuid, most
// new rows are below the cursor and missed, however long By is. Lag warns of that.
//
// Where the key begins with a column of times, it is compared with the database's clock, in
// microseconds. A date is read when its day ended By ago.
//
// With any other key, and where the database does not compare the column with its clock, rows
// are read up to the greatest key of the source that was seen By ago. That key is noted at each
// poll, to a 256th of By, in memory: after a restart the wait begins again, and the existing rows are
// Held until By has passed.
//
// Otherwise the wait is intended: Lag reports neither AsOf nor Held, and Drain of package poller does
// not wait for younger rows.
type Lag struct {
	By time.Duration // how old a row must be; must be positive

	// Zone is the time zone in which the writers fill a key column of times without a time zone,
	// as the database spells it: UTC, Asia/Tokyo, +09:00. Empty takes the session's time zone,
	// with a warning. In a zone with daylight saving time one hour of the year comes twice, and
	// rows of its second time are missed. It is ignored for other columns.
	Zone string
}

// String returns lag=5m0s, or lag=5m0s@UTC with a Zone.
func (c Lag) String() string {
	if c.Zone != "" {
		return "lag=" + c.By.String() + "@" + c.Zone
	}
	return "lag=" + c.By.String()
}

// Open implements [Ceiling].
func (c Lag) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String(), Lossy: true}
	r.AddIf(c.By <= 0, Unsafe, Advice("set Lag.By to a positive duration"), "Lag.By is %v", c.By)
	if err := r.Err(t); err != nil {
		return nil, err
	}
	column := t.Key[0].Name
	where, zone, err := t.SQL.Older(ctx, db, t.Key[0].Ref, t.Key[0].Type, c.Zone)
	if err != nil {
		return nil, fmt.Errorf("finding the time zone of %q: %w", column, err)
	}
	if where != "" {
		as := ""
		if zone != "" {
			as = fmt.Sprintf(", taken for a time of day in the time zone %s,", zone)
			r.AddIf(c.Zone == "", Warning, Advice("set Lag.Zone, lag="+c.By.String()+"@UTC, to the time zone in which the writers fill the column; check that they all use the same"),
				"%q has no time zone, and is taken for a time of day in the session's, %s: if the writers use another one, rows are missed, or read hours late", column, zone)
		}
		r.Guarantee = fmt.Sprintf("rows are read when their %q%s lies %v before the database's clock; "+
			"a row whose transaction takes longer than that to commit is missed, and so is one whose time was set earlier, by a client or at the start of a long transaction", column, as, c.By)
		return fixed{r, Limit{Where: where, Args: []any{c.By.Microseconds()}}}, nil
	}
	r.Guarantee = fmt.Sprintf("rows are read up to the greatest key that was seen %v ago; a row that is committed later with a key below the cursor is missed", c.By)
	r.Add(Warning, Advice("use a key that ascends, such as one that the database draws; without a Ceiling, the error says how to add one"),
		"nobody checks that the key (%s) ascends with time: if it does not, as random uuids and texts, most new rows have a key below the cursor and are missed", t.Columns())
	return &lagSeen{table: t, report: r, by: c.By}, nil
}

// lagSeen reads up to the greatest key that was seen some time ago.
type lagSeen struct {
	table   Table
	report  Report
	by      time.Duration
	began   time.Time           // when the first key was noted
	seen    ages[source.Cursor] // of the greatest keys
	settled source.Cursor
}

func (g *lagSeen) Report() Report { return g.report }

func (g *lagSeen) Advance(ctx context.Context, db Queryer, _ []string) (Limit, error) {
	now := time.Now()
	greatest, err := g.table.Greatest(ctx, db)
	if err != nil {
		return Limit{}, err
	}
	if old, ok := g.seen.add(greatest, now, g.by); ok {
		g.settled = old
	}
	if g.began.IsZero() {
		g.began = now
	}
	if g.settled == "" {
		return Limit{UpTo: greatest, Nothing: true, Held: &source.Held{Since: g.began, Retry: g.by - now.Sub(g.began),
			By: []string{fmt.Sprintf("the ceiling %s, which reads the existing rows %v after the start", g.report.Strategy, g.by)}}}, nil
	}
	return Limit{UpTo: g.settled}, nil
}

// None reads all visible rows. It is lossy, unless the table has a single writer that only
// appends, or no writer at all. It takes your word for that, so it must be chosen
// explicitly. With asynchronous commit it can read rows that a crash of the server takes back.
type None struct{}

func (None) String() string { return "none" }

// Open implements [Ceiling].
func (c None) Open(context.Context, Queryer, Table) (Guard, error) {
	return fixed{report: Report{
		Strategy:  c.String(),
		Guarantee: "no row is missed if a single writer adds rows in the order of their key, for which it takes your word; otherwise a row that is committed with a key below the cursor is missed",
		Lossy:     true,
	}}, nil
}

// fixed is a Guard whose limit is always the same.
type fixed struct {
	report Report
	limit  Limit
}

func (g fixed) Report() Report { return g.report }

func (g fixed) Advance(context.Context, Queryer, []string) (Limit, error) { return g.limit, nil }
