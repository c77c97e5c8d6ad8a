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
// microseconds. A column without a time zone is compared with the clock of the session's time
// zone, which must be the one that the writers use: if they write UTC, set the session's time
// zone to UTC in the data source name. A date is read when its day ended By ago.
//
// With any other key, and where the database does not compare the column with its clock, rows
// are read up to the greatest key of the source that was seen By ago. That key is noted at each
// poll, to a 256th of By, in memory: after a restart the wait begins again.
//
// The wait is intended, so Lag reports neither AsOf nor Held, and Drain of package poller does
// not wait for younger rows.
type Lag struct {
	By time.Duration // how old a row must be; must be positive
}

func (c Lag) String() string { return "lag=" + c.By.String() }

// Open implements [Ceiling].
func (c Lag) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String(), Lossy: true}
	r.AddIf(c.By <= 0, Unsafe, Advice("set Lag.By to a positive duration"), "Lag.By is %v", c.By)
	if err := r.Err(t); err != nil {
		return nil, err
	}
	if where := t.SQL.Older(t.Key[0].Ref, t.Key[0].Type); where != "" {
		r.Guarantee = fmt.Sprintf("rows are read when their %q lies %v before the database's clock; "+
			"a row whose transaction takes longer than that to commit is missed, and so is one whose time was set earlier, by a client or at the start of a long transaction", t.Key[0].Name, c.By)
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
	return Limit{UpTo: g.settled, Nothing: g.settled == ""}, nil
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
