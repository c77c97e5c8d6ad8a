package ceiling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
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
	types, err := keyTypes(ctx, db, t)
	if err != nil {
		return nil, fmt.Errorf("reading the types of the key: %w", err)
	}
	const missed = "a row whose transaction takes longer than that to commit is missed"
	if where := older(t.Dialect, t.Key[0].Ref, types[0]); where != "" {
		r.Guarantee = fmt.Sprintf("rows are read when their %q is %v ago by the database's clock; %s, and so is one with a time that was set earlier, as by a client or by now() in a long transaction", t.Key[0].Name, c.By, missed)
		return lagClock{r, Limit{Where: where, Args: []any{c.By.Microseconds()}}}, nil
	}
	r.Guarantee = fmt.Sprintf("rows are read up to the greatest key that was there %v ago; %s", c.By, missed)
	return newLagSeen(t, r, c.By, types), nil
}

// older is a condition for times of a type that are so many microseconds ago.
func older(dialect, ref, typ string) string {
	switch dialect + " " + typ {
	case "postgres timestamp with time zone":
		return ref + " < statement_timestamp() - ?::bigint * interval '1 microsecond'"
	case "postgres timestamp without time zone":
		return ref + " < statement_timestamp()::timestamp - ?::bigint * interval '1 microsecond'"
	case "postgres date":
		return ref + " < (statement_timestamp() - ?::bigint * interval '1 microsecond')::date"
	case "mysql datetime", "mysql timestamp":
		return ref + " < NOW(6) - INTERVAL ? MICROSECOND"
	case "mysql date":
		return ref + " < DATE(NOW(6) - INTERVAL ? MICROSECOND)"
	}
	return ""
}

// keyTypes returns the types of the key's columns, "" where they are not known.
func keyTypes(ctx context.Context, db Queryer, t Table) ([]string, error) {
	types := make([]string, len(t.Key))
	for i, k := range t.Key {
		var err error
		switch t.Dialect {
		case "postgres":
			err = db.QueryRowContext(ctx, `SELECT format_type(atttypid, NULL) FROM pg_catalog.pg_attribute
				WHERE attrelid = to_regclass($1::text) AND attname = $2::text AND NOT attisdropped`, t.Name, k.Name).Scan(&types[i])
		case "mysql":
			var schema any
			if len(t.Parts) == 2 {
				schema = t.Parts[0]
			}
			err = db.QueryRowContext(ctx, `SELECT data_type FROM information_schema.columns
				WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND column_name = ?`, schema, t.Parts[len(t.Parts)-1], k.Name).Scan(&types[i])
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
	}
	return types, nil
}

// lagClock reads by the database's clock.
type lagClock struct {
	report Report
	limit  Limit
}

func (g lagClock) Report() Report { return g.report }

// Raise implements [Guard].
func (g lagClock) Raise(context.Context, Queryer, []string) (Limit, error) { return g.limit, nil }

// lagSeen reads up to what was seen some time ago.
type lagSeen struct {
	report  Report
	dialect string
	by      time.Duration
	top     string // the statement for the greatest key
	where   string
	types   []string
	repeat  []int // for each ? of where, the column of the key

	seen []sighting // the first is settled, if it is old enough
}

type sighting struct {
	at  time.Time
	key []any
}

func newLagSeen(t Table, r Report, by time.Duration, types []string) *lagSeen {
	g := &lagSeen{report: r, dialect: t.Dialect, by: by, types: types}
	var list, order []string
	for i, k := range t.Key {
		read, _ := passing(t.Dialect, types[i])
		list = append(list, fmt.Sprintf(read, k.Quoted))
		order = append(order, k.Quoted+" DESC")
	}
	g.top = "SELECT " + strings.Join(list, ", ") + " FROM " + t.Name + " ORDER BY " + strings.Join(order, ", ") + " LIMIT 1"
	// a < ? OR (a = ? AND (b <= ?)): rows are compared without an index by MySQL.
	for i := len(t.Key) - 1; i >= 0; i-- {
		_, mark := passing(t.Dialect, types[i])
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

// passing returns how a value of a type is read, and written again, so that it
// compares as the column itself does.
func passing(dialect, typ string) (read, mark string) {
	switch {
	case dialect == "postgres":
		return "%s::text", "?"
	case dialect == "sqlite": // an expression has no declared type, by which drivers change values
		return "+%s", "?"
	case strings.HasSuffix(typ, "binary"), strings.HasSuffix(typ, "blob"):
		return "HEX(%s)", "UNHEX(?)"
	case typ == "decimal":
		return "CAST(%s AS CHAR)", "CAST(? AS DECIMAL(65,30))"
	}
	return "CAST(%s AS CHAR)", "?"
}

func (g *lagSeen) Report() Report { return g.report }

// Raise implements [Guard].
func (g *lagSeen) Raise(ctx context.Context, db Queryer, _ []string) (Limit, error) {
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
	key, dest := make([]any, len(g.types)), make([]any, len(g.types))
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
	for i, v := range key {
		text, bytes := v.([]byte)
		switch {
		case v == nil: // which the source itself looks for
			return nil, nil
		case bytes && g.dialect != "sqlite": // where it is text that was selected
			key[i] = string(text)
		}
		if s, ok := key[i].(string); ok && g.dialect == "mysql" && strings.HasSuffix(g.types[i], "int") {
			key[i] = integer(s)
		}
	}
	return key, nil
}

// integer makes a number of digits, since MySQL compares text and numbers as
// doubles.
func integer(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return n
	}
	return s
}
