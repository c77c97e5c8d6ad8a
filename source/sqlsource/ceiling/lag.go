package ceiling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Lag reads rows that are older than By, whatever the database. It is lossy: a row
// whose transaction takes longer than By from drawing the key to its commit is
// missed. It is never chosen but by name.
//
// Where the key begins with a time on Postgres or MySQL, that is compared with the
// database's clock, in microseconds. On Postgres a timestamptz is a moment. A
// timestamp there and a DATETIME of MySQL are compared with the clock as it stands
// in the session's time zone, which must be the one that the writers mean: set
// timezone=UTC, or time_zone='+00:00', in the data source name if they write UTC.
// A DATE is read when the day that it names is over by By.
//
// With any other key, and always on SQLite, whose times are texts and numbers of
// any form, rows are read up to the greatest key that was seen By ago. That is
// noted at each poll, to a 256th of By, in memory: a restart begins to wait anew.
//
// To wait is what was asked for. So neither AsOf nor Held is claimed, and Drain of
// package poller does not wait for the rows that are younger.
type Lag struct {
	// By is how old a row must be. It must be positive.
	By time.Duration
}

func (c Lag) String() string { return "lag=" + c.By.String() }

// Open implements [Ceiling].
func (c Lag) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String(), Lossy: true}
	if c.By <= 0 {
		r.Add(Unsafe, "set By to a duration of more than 0", "By is %v", c.By)
	}
	if t.Name == "" {
		r.Add(Unsafe, "set the Query's field Table", "the table that has the key is not named")
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	types, err := t.SQL.KeyTypes(ctx, db, t)
	if err != nil {
		return nil, fmt.Errorf("reading the types of the key: %w", err)
	}
	const missed = "a row whose transaction takes longer than that to commit is missed"
	if where := t.SQL.Older(t.Key[0].Ref, types[0]); where != "" {
		r.Guarantee = fmt.Sprintf("rows are read when their %q is %v ago by the database's clock; %s, and so is one with a time that was set earlier, as by a client or by now() in a long transaction", t.Key[0].Name, c.By, missed)
		return lagClock{r, Limit{Where: where, Args: []any{c.By.Microseconds()}}}, nil
	}
	r.Guarantee = fmt.Sprintf("rows are read up to the greatest key that was there %v ago; %s", c.By, missed)
	return newLagSeen(t, r, c.By, types), nil
}

// lagClock reads by the database's clock.
type lagClock struct {
	report Report
	limit  Limit
}

func (g lagClock) Report() Report { return g.report }

// Advance implements [Guard].
func (g lagClock) Advance(context.Context, Queryer, []string) (Limit, error) { return g.limit, nil }

// lagSeen reads up to the greatest key that was seen some time ago.
type lagSeen struct {
	report Report
	by     time.Duration
	top    string // the statement for the greatest key
	where  string
	values []KeyValue
	repeat []int // for each ? of where, the column of the key

	seen []sighting // the first is settled, if it is old enough
}

type sighting struct {
	at  time.Time
	key []any
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
	// a < ? OR (a = ? AND (b <= ?)): some databases compare rows without an index.
	for i := len(t.Key) - 1; i >= 0; i-- {
		mark := g.values[i].Argument
		if g.where == "" {
			g.where = t.Key[i].Ref + " <= " + mark
			g.repeat = []int{i}
			continue
		}
		g.where = fmt.Sprintf("%s <= %s AND (%[1]s < %[2]s OR %s)", t.Key[i].Ref, mark, g.where)
		g.repeat = append([]int{i, i}, g.repeat...)
	}
	return g
}

func (g *lagSeen) Report() Report { return g.report }

// Advance implements [Guard].
func (g *lagSeen) Advance(ctx context.Context, db Queryer, _ []string) (Limit, error) {
	now := time.Now()
	key, err := g.greatest(ctx, db)
	if err != nil {
		return Limit{}, fmt.Errorf("reading the greatest key: %w", err)
	}
	if n := len(g.seen); key != nil && (n == 0 || now.Sub(g.seen[n-1].at) >= g.by/256) {
		g.seen = append(g.seen, sighting{now, key})
	}
	for len(g.seen) > 1 && now.Sub(g.seen[1].at) >= g.by {
		g.seen = g.seen[1:]
	}
	if len(g.seen) == 0 || now.Sub(g.seen[0].at) < g.by {
		return Limit{Nothing: true}, nil
	}
	l := Limit{Where: g.where}
	for _, i := range g.repeat {
		l.Args = append(l.Args, g.seen[0].key[i])
	}
	return l, nil
}

// greatest returns the greatest key, nil if there is no row.
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
		if v.Convert != nil {
			key[i] = v.Convert(key[i])
		}
	}
	return key, nil
}
