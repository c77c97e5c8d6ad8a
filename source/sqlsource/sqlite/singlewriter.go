package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// SingleWriter relies on SQLite to let one transaction write at a time. Where each write gives
// a row a key greater than all before it, rows commit in the order of their keys, and all
// visible rows can be read. INTEGER PRIMARY KEY AUTOINCREMENT is such a key, and SingleWriter is
// chosen automatically for it. Without AUTOINCREMENT the id of a deleted last row is used again.
//
// Chosen explicitly, it takes your word for any other key: each INSERT, and each UPDATE that is
// to be read, gives it a value greater than all before, drawn by the writing transaction after
// it has begun to write. A version that triggers draw from a counter is such a key, by which
// each row's latest version is read. A uuid of version 7, or a time, is not: clients draw it whenever they like.
//
// It assumes that clients do not insert or update ids below the greatest one, that the locks
// of the file work, which on network file systems they often do not, and that commits are durable:
// with PRAGMA synchronous = OFF, or NORMAL and a write-ahead log, a power loss can take back rows
// that were read.
type SingleWriter struct {
	proven bool // the key must be drawn by AUTOINCREMENT
}

func (SingleWriter) String() string { return "single-writer" }

// Open implements [ceiling.Ceiling].
func (c SingleWriter) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	r := ceiling.Report{Strategy: c.String()}
	if c.proven || t.Name != "" || t.SQL.Name() != name {
		if err := r.Require(t, name); err != nil {
			return nil, err
		}
	}
	g := &singleWriter{table: t, probe: `SELECT read_uncommitted FROM pragma_read_uncommitted`}
	var uncommitted bool
	if err := db.QueryRowContext(ctx, g.probe).Scan(&uncommitted); err != nil {
		return nil, fmt.Errorf("reading PRAGMA read_uncommitted: %w", err)
	}
	r.AddIf(uncommitted, ceiling.Unsafe, ceiling.Advice("set it for every connection, in the data source name: _pragma=read_uncommitted(0) for modernc.org/sqlite and ncruces/go-sqlite3; "+
		"with another driver, open the file without cache=shared. A PRAGMA statement would reach one connection of the pool only"),
		"the connection reads what other connections of a shared cache have not committed, and may roll back")
	if t.Name != "" {
		p, err := probe(ctx, db, t)
		if err != nil {
			return nil, err
		}
		if g.drawn = p.report(&r, t, c.proven); g.drawn {
			schema, name := quote(p.schema), dialect.QuoteWith(`'`, p.name)
			g.probe = fmt.Sprintf(`SELECT (%s), (SELECT coalesce(group_concat(name), '') FROM (%s)), (SELECT seq FROM %s.sqlite_sequence WHERE name = %s), (SELECT max(%s) FROM %[3]s.%[6]s)`,
				g.probe, fmt.Sprintf(triggers, schema, name), schema, name, t.Key[0].Quoted, quote(p.name))
		}
		g.empty, g.triggers = p.empty, p.triggers
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	key := t.Key[0].Name
	r.Guarantee = fmt.Sprintf("every row is read once it is committed, in the order of %q: SQLite lets one transaction write at a time, and AUTOINCREMENT gives each row an id greater than any before, "+
		"which the table's row in sqlite_sequence must show: only AUTOINCREMENT should write it", key) + ceiling.AsLongAs(g.triggers, "leave", fmt.Sprintf("%q alone", key))
	if !g.drawn {
		r.Guarantee = fmt.Sprintf("every row is read once it is committed, and its latest version again after each change that draws a new %q, by your word that each write draws one greater than all before: SQLite lets one transaction write at a time", key)
	}
	if len(g.triggers) > 0 && !g.drawn { // they draw the key, by the user's word
		r.Updates = ceiling.UpdatesRead
	}
	g.report = r
	return g, nil
}

type singleWriter struct {
	table    ceiling.Table
	report   ceiling.Report
	drawn    bool     // AUTOINCREMENT draws the key
	probe    string   // reads whether the connection reads uncommitted rows and, if drawn, the triggers, the sequence and the greatest key
	triggers []string // of the table
	empty    bool     // no row was inserted yet
}

func (g *singleWriter) Report() ceiling.Report { return g.report }

func (g *singleWriter) Advance(ctx context.Context, db ceiling.Queryer, after []string) (l ceiling.Limit, err error) {
	l.AsOf = time.Now()
	var uncommitted bool
	var triggers string
	var last, greatest sql.NullInt64
	dest := []any{&uncommitted}
	if g.drawn {
		dest = append(dest, &triggers, &last, &greatest)
	}
	switch err := db.QueryRowContext(ctx, g.probe).Scan(dest...); {
	case err != nil:
		return l, fmt.Errorf("reading sqlite_sequence: %w", err)
	case uncommitted: // each connection of the pool has its own setting
		return l, fmt.Errorf("the connection reads uncommitted rows: %w", ceiling.ErrChanged)
	case !g.drawn:
		return l, nil
	case triggers != strings.Join(g.triggers, ","):
		return l, fmt.Errorf("a trigger of the table was added or removed: %w", ceiling.ErrChanged)
	}
	from, err := g.table.After(after)
	switch {
	case err != nil:
		return l, err
	case from > 0 && last.Int64 < from:
		return l, g.table.Rewound("sqlite_sequence is at %d, below the cursor, so ids that were read are drawn again: the table was recreated, an older file was restored, or sqlite_sequence was changed", last.Int64)
	case !last.Valid && greatest.Valid:
		return l, fmt.Errorf("the table has rows, and none in sqlite_sequence: %w", ceiling.ErrChanged)
	case last.Valid && greatest.Int64 > last.Int64:
		return l, retry.Permanent(fmt.Errorf("sqlite_sequence is below the greatest %q: either the table has no AUTOINCREMENT, and somebody inserted its row there, "+
			"or an UPDATE changed one of the two; start again after the next INSERT without an id, which sets it right if the table has AUTOINCREMENT", g.table.Key[0].Name))
	case g.empty && last.Valid:
		return l, fmt.Errorf("the table has its first row: %w", ceiling.ErrChanged)
	}
	l.Greatest = greatest.Int64
	return l, nil
}
