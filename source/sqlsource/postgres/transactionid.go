package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// TransactionID guards a table of Postgres 13 or later whose key begins with a column of the
// type xid8 that holds the transaction which wrote the row. A default sets it for tables whose
// rows are only inserted, a trigger where updates must be read, too. It also serves keys that
// clients make, and works on standbys. It is chosen automatically.
//
// A row is read once all transactions that began before its own have ended. So it waits for
// any transaction that has written something, in any database of the cluster. Those that only
// read hold nothing back.
type TransactionID struct{}

func (TransactionID) String() string { return "transaction-id" }

// Open implements [ceiling.Ceiling].
func (c TransactionID) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := open(ctx, db, t, c)
	if err != nil {
		return nil, err
	}
	p.common(&r, t)
	var s setting
	column := t.Key[0].Name
	if p.readable() {
		if typ := p.tree[0].keyType; typ != txRecipe.typ {
			r.Add(ceiling.Unsafe, p.remedies(t, false), "the key begins with %q of the type %s, and must begin with a column of the type xid8", column, typ)
		} else {
			s = p.settings(&r, t, txRecipe, false, p.resetRemedies(t, txRecipe))
		}
	}
	if len(t.Key) == 1 {
		r.Add(ceiling.Unsafe, ceiling.Advice("add the primary key to Key, after "+column), "all rows of a transaction have the same %q", column)
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	does := fmt.Sprintf("%q to %s or leaves it alone", column, txRecipe.value)
	r.Guarantee = fmt.Sprintf("%s, in the order of the transactions in %q: rows are read up to the oldest transaction of the cluster that is in progress%s",
		promise(s.updates), column, s.triggers.clause("sets "+does, "set "+strings.Replace(does, "leaves", "leave", 1)))
	// Not EXISTS (... >= xmin): the planner may read the whole table for that.
	return &transactionID{table: t, report: r, oid: p.oid, members: p.members, probe: treeQuery + fmt.Sprintf(
		` SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text,
			COALESCE((SELECT %[2]s FROM %[1]s WHERE %[2]s IS NOT NULL ORDER BY %[2]s DESC LIMIT 1) >= pg_snapshot_xmin(s), false), pg_is_in_recovery(),
			%[3]s
		FROM pg_current_snapshot() AS s`, t.Name, t.Key[0].Quoted, strings.ReplaceAll(membersExpr, "$3", "$2"))}, nil
}

// resetRemedies returns what to do about a column that is not known to be set at each change: a
// trigger for it, if its default shows that it serves that alone, or else another column.
func (p *table) resetRemedies(t ceiling.Table, c recipe) []ceiling.Remedy {
	if unqualified(p.columns[t.Key[0].Name].expr) != c.value {
		other := t
		other.Key = t.Key[1:]
		if len(other.Key) == 0 {
			other.Key = t.Key
		}
		return []ceiling.Remedy{c.remedy(p, other, true)}
	}
	return ceiling.Advice(fmt.Sprintf("let a trigger set %q at each change; it runs after the other triggers of the table", t.Key[0].Name), c.statements(p, t, t.Key[0].Name, false, true)...)
}

// promise is the part of the guarantee that says what is read.
func promise(updates bool) string {
	if updates {
		return "every row is read once it is committed, and its latest version again after each change"
	}
	return "every row is read once it is committed"
}

type transactionID struct {
	table   ceiling.Table
	report  ceiling.Report
	oid     int64
	members string // membersExpr when the table was probed
	probe   string
	waiting []snapshot // oldest first: rows were there that could not be read
	asOf    time.Time
}

// snapshot is what a moment could see: all transactions below next.
type snapshot struct {
	next uint64
	at   time.Time
}

func (g *transactionID) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard]. The statement that reads the rows finds the limit again
// in its own snapshot, so that it holds on whatever server that statement runs. The limit does
// not rise by that, because later commits may not be on disk.
func (g *transactionID) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	at := time.Now()
	var xmin, xmax, members string
	var above, standby bool
	if err := db.QueryRowContext(ctx, g.probe, g.oid, g.table.Name).Scan(&xmin, &xmax, &above, &standby, &members); err != nil {
		return ceiling.Limit{}, fmt.Errorf("reading the oldest transaction in progress: %w", err)
	}
	if members != g.members {
		return ceiling.Limit{}, errTable
	}
	oldest, err := strconv.ParseUint(xmin, 10, 64)
	if err != nil {
		return ceiling.Limit{}, err
	}
	next, err := strconv.ParseUint(xmax, 10, 64)
	if err != nil {
		return ceiling.Limit{}, err
	}
	if err := g.check(after, next); err != nil {
		return ceiling.Limit{}, err
	}
	ref := g.table.Key[0].Ref
	l := ceiling.Limit{Where: ref + " < ?::text::xid8 AND " + ref + " < pg_snapshot_xmin(pg_current_snapshot())", Args: []any{xmin}}
	for len(g.waiting) > 0 && g.waiting[0].next <= oldest {
		g.asOf, g.waiting = g.waiting[0].at, g.waiting[1:]
	}
	if !above {
		g.waiting, g.asOf = nil, at
	}
	if standby { // it does not know about commits that it has not replayed
		g.asOf = time.Time{}
	}
	l.AsOf = g.asOf
	if !above {
		return l, nil
	}
	if n := len(g.waiting); n == ceiling.MaxFences {
		g.waiting[n-1] = snapshot{next, at}
	} else {
		g.waiting = append(g.waiting, snapshot{next, at})
	}
	l.Held = &source.Held{Since: g.waiting[0].at}
	l.Held.By, err = oldestTransaction(ctx, db)
	return l, err
}

// check returns an error if the cursor's transaction has not been reached by the cluster.
func (g *transactionID) check(after []string, next uint64) error {
	if after == nil {
		return nil
	}
	last, err := strconv.ParseUint(after[0], 10, 64)
	if err != nil {
		return retry.Permanent(fmt.Errorf("the cursor's value for %q is not a transaction id; rewind to a cursor that At returns", g.table.Key[0].Name))
	}
	if last >= next {
		return &ceiling.RewoundError{Table: g.table.Label, What: fmt.Sprintf("the next transaction of this cluster has the id %d, below the cursor's: the rows came from another cluster, or this one was restored to an earlier state", next)}
	}
	return nil
}

// oldestTransaction names the one that all others wait for. It is found by its lock, because
// pg_stat_activity shows a plain role no ids of other roles.
func oldestTransaction(ctx context.Context, db ceiling.Queryer) (who []string, err error) {
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var pid int64
		var app, gid string
		var seconds sql.NullFloat64
		if err := rows.Scan(&pid, &app, &gid, &seconds); err != nil {
			return err
		}
		if gid != "" {
			who = append(who, describePrepared(gid, seconds.Float64))
		} else {
			who = append(who, describeSession(pid, app, seconds))
		}
		return nil
	}, `SELECT COALESCE(l.pid, 0), COALESCE(a.application_name, ''), COALESCE(x.gid, ''),
			extract(epoch FROM clock_timestamp() - COALESCE(a.xact_start, x.prepared))::float8
		FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		LEFT JOIN pg_catalog.pg_prepared_xacts x ON l.pid IS NULL AND x.transaction = l.transactionid
		WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
		ORDER BY age(l.transactionid) DESC LIMIT 1`)
	if err != nil {
		return nil, fmt.Errorf("reading the oldest transaction in progress: %w", err)
	}
	if who == nil {
		who = []string{"a transaction that is not shown here: one of the primary, if this is a standby, or one that has just ended"}
	}
	return who, nil
}
