package ceiling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
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
// are read up to the greatest key that was seen By ago. That key is noted at each poll, to a
// 256th of By, in memory: after a restart the wait begins again.
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
	r.addUnnamed(t.Name == "", "its keys cannot be read")
	if err := r.Err(t); err != nil {
		return nil, err
	}
	types, err := t.SQL.KeyTypes(ctx, db, t)
	if err != nil {
		return nil, fmt.Errorf("reading the types of the key: %w", err)
	}
	if where := t.SQL.Older(t.Key[0].Ref, types[0]); where != "" {
		r.Guarantee = fmt.Sprintf("rows are read when their %q lies %v before the database's clock; "+
			"a row whose transaction takes longer than that to commit is missed, and so is one whose time was set earlier, by a client or at the start of a long transaction", t.Key[0].Name, c.By)
		return fixed{r, Limit{Where: where, Args: []any{c.By.Microseconds()}}}, nil
	}
	r.Guarantee = fmt.Sprintf("rows are read up to the greatest key that was seen %v ago; a row that is committed later with a key below the cursor is missed", c.By)
	r.Add(Warning, Advice("use a key that ascends, such as one that the database draws; without a Ceiling, the error says how to add one"),
		"nobody checks that the key (%s) ascends with time: if it does not, as random uuids and texts, most new rows have a key below the cursor and are missed", t.Columns())
	return newLagSeen(t, r, c.By, types), nil
}

// lagSeen reads up to the greatest key that was seen some time ago.
type lagSeen struct {
	report  Report
	by      time.Duration
	top     string // the statement for the greatest key
	where   string
	values  []KeyValue
	seen    ages[[]any] // greatest keys
	settled []any
}

func newLagSeen(t Table, r Report, by time.Duration, types []string) *lagSeen {
	g := &lagSeen{report: r, by: by}
	var list, order []string
	for i, k := range t.Key {
		v := t.SQL.KeyValue(types[i])
		g.values = append(g.values, v)
		list = append(list, fmt.Sprintf(v.Select, k.Ref))
		// With its alias: a bare name could stand for the selected expression, which is text.
		order = append(order, k.Ref+" DESC")
	}
	g.top = "SELECT " + strings.Join(list, ", ") + " FROM " + t.Name + " AS t ORDER BY " + strings.Join(order, ", ") + " " + t.SQL.Limit(1)
	// a <= ? AND (a < ? OR b <= ?): some databases compare rows without an index.
	last := len(t.Key) - 1
	g.where = t.Key[last].Ref + " <= " + g.values[last].Argument
	for i := last - 1; i >= 0; i-- {
		g.where = fmt.Sprintf("%s <= %s AND (%[1]s < %[2]s OR %s)", t.Key[i].Ref, g.values[i].Argument, g.where)
	}
	return g
}

func (g *lagSeen) Report() Report { return g.report }

func (g *lagSeen) Advance(ctx context.Context, db Queryer, _ []string) (Limit, error) {
	now := time.Now()
	key, err := g.greatest(ctx, db)
	if err != nil {
		return Limit{}, fmt.Errorf("reading the greatest key: %w", err)
	}
	if key != nil {
		if old, ok := g.seen.add(key, now, g.by); ok {
			g.settled = old
		}
	}
	if g.settled == nil {
		return Limit{Nothing: true}, nil
	}
	var args []any
	for _, value := range g.settled {
		args = append(args, value, value)
	}
	return Limit{Where: g.where, Args: args[:len(args)-1]}, nil // the last column stands there once
}

// greatest returns the greatest key, nil for an empty table.
func (g *lagSeen) greatest(ctx context.Context, db Queryer) ([]any, error) {
	key, dest := make([]any, len(g.values)), make([]any, len(g.values))
	for i := range key {
		dest[i] = &key[i]
	}
	err := db.QueryRowContext(ctx, g.top).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i, v := range g.values {
		if key[i] == nil { // the source itself reports a key that is NULL
			return nil, nil
		}
		if b, ok := key[i].([]byte); ok && v.Text {
			key[i] = string(b)
		}
		if text, ok := key[i].(string); ok && v.Parse != nil {
			key[i] = v.Parse(text)
		}
	}
	return key, nil
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
