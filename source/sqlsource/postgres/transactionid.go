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

// TransactionID guards a table of Postgres 13 or later whose key begins with a
// column of the type xid8 that holds the transaction which wrote the row: set by
// default for tables that are only added to, by a trigger where updates are to be
// read too. It works on standbys.
//
// A row is read when all transactions that began before its own have ended. So
// it waits for any transaction that has written something, in any database of
// the cluster; those that only read hold nothing back.
type TransactionID struct{}

func (TransactionID) String() string { return "transaction-id" }

// Open implements [ceiling.Ceiling].
func (c TransactionID) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := openPostgres(ctx, db, t, c)
	if err != nil {
		return nil, err
	}
	p.common(&r, t)
	updates := false
	if p.readable() {
		if typ := p.tree[0].keyType; typ != "xid8" {
			r.Add(ceiling.Unsafe, p.txColumn(t), "the key begins with %q, which is of the type %s and not xid8", t.Key[0].Name, typ)
		} else {
			updates = p.stamped(&r, t, "pg_current_xact_id()", true, txTrigger(t))
		}
	}
	if len(t.Key) == 1 {
		r.Add(ceiling.Unsafe, "add the primary key to Key, behind "+t.Key[0].Name, "all rows of a transaction have the same %q", t.Key[0].Name)
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	r.Guarantee = fmt.Sprintf("%s, in the order of the transactions in %q: rows are read up to the oldest transaction of the cluster that is in progress", promise(updates), t.Key[0].Name)
	// Not EXISTS (... >= xmin): the planner may read the whole table for that.
	return &transactionID{table: t, report: r, oid: p.oid, members: p.members, top: pgTree + fmt.Sprintf(
		` SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text,
			COALESCE((SELECT %[2]s FROM %[1]s WHERE %[2]s IS NOT NULL ORDER BY %[2]s DESC LIMIT 1) >= pg_snapshot_xmin(s), false), pg_is_in_recovery(),
			%[3]s
		FROM pg_current_snapshot() AS s`, t.Name, t.Key[0].Quoted, strings.ReplaceAll(pgMembers, "$3", "$2"))}, nil
}

// txTrigger is the statement for an xid8 column that updates set, too.
func txTrigger(t ceiling.Table) string {
	return fmt.Sprintf(`CREATE FUNCTION set_tx() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.%s := pg_current_xact_id(); RETURN NEW; END $$; CREATE TRIGGER set_tx BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION set_tx()`,
		t.Key[0].Quoted, t.Name)
}

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
	members string // pgMembers as the table was looked at
	top     string
	waiting []snapshot // oldest first: rows were there that could not be read
	asOf    time.Time
}

// snapshot is what a moment could see: all transactions below next.
type snapshot struct {
	next uint64
	at   time.Time
}

func (g *transactionID) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard]. The limit is found again by the statement that reads
// the rows, in its own snapshot: so it holds on whatever server that runs on. It
// does not rise by that: what was committed since may not be on disk.
func (g *transactionID) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	at := time.Now()
	var xmin, xmax, members string
	var above, standby bool
	if err := db.QueryRowContext(ctx, g.top, g.oid, g.table.Name).Scan(&xmin, &xmax, &above, &standby, &members); err != nil {
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
	if after != nil {
		if last, err := strconv.ParseUint(after[0], 10, 64); err != nil {
			return ceiling.Limit{}, retry.Permanent(fmt.Errorf("the cursor's value for %q is no transaction id; rewind to a cursor that At returns", g.table.Key[0].Name))
		} else if last >= next {
			return ceiling.Limit{}, &ceiling.RewoundError{Table: g.table.Label, What: fmt.Sprintf("the next transaction of this cluster has the id %d, below the cursor's: the rows came from another cluster, or this one went back in time", next)}
		}
	}
	ref := g.table.Key[0].Ref
	l := ceiling.Limit{Where: ref + " < ?::text::xid8 AND " + ref + " < pg_snapshot_xmin(pg_current_snapshot())", Args: []any{xmin}}
	for len(g.waiting) > 0 && g.waiting[0].next <= oldest {
		g.asOf, g.waiting = g.waiting[0].at, g.waiting[1:]
	}
	if !above {
		g.waiting, g.asOf = nil, at
	}
	if standby { // it knows nothing of what it has not replayed
		g.asOf = time.Time{}
	}
	if !above {
		l.AsOf = g.asOf
		return l, nil
	}
	if n := len(g.waiting); n == ceiling.MaxFences {
		g.waiting[n-1] = snapshot{next, at}
	} else {
		g.waiting = append(g.waiting, snapshot{next, at})
	}
	l.AsOf = g.asOf
	l.Held = &source.Held{Since: g.waiting[0].at}
	l.Held.By, err = oldestTransaction(ctx, db)
	return l, err
}

// oldestTransaction names the one that all others wait for. It is found by its
// lock, since pg_stat_activity shows a plain role no ids but its own.
func oldestTransaction(ctx context.Context, db ceiling.Queryer) (who []string, err error) {
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var pid int64
		var app, gid string
		var seconds sql.NullFloat64
		if err := rows.Scan(&pid, &app, &gid, &seconds); err != nil {
			return err
		}
		if gid != "" {
			who = append(who, pgPrepared(gid, seconds.Float64))
		} else {
			who = append(who, pgHolder(pid, app, seconds))
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
		who = []string{"a transaction that is not shown here: of the primary, if this is a standby, or one that has just ended"}
	}
	return who, nil
}
