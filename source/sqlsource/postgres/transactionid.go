package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// TransactionID guards a table of Postgres 13 or later whose key begins with a column of the
// type xid8 that holds the transaction which wrote the row. A default sets it for tables whose
// rows are only inserted, a trigger where updates must be read, too. It also serves keys that
// clients make, and works on standbys. It is chosen automatically.
//
// A row is read once all transactions that began before its own have ended: any that have
// written something, in any database of the cluster. Those that only read hold nothing back.
type TransactionID struct{}

func (TransactionID) String() string { return "transaction-id" }

// Open implements [ceiling.Ceiling].
func (c TransactionID) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	p, r, err := open(ctx, db, t, c, false)
	if err != nil {
		return nil, err
	}
	if err := p.guarantee(&r, t, txRecipe, false, "the oldest transaction of the cluster that is in progress"); err != nil {
		return nil, err
	}
	// Not EXISTS (... >= xmin): the planner may read the whole table for that.
	return &transactionID{guard: guard{t, r, p}, probe: fmt.Sprintf(
		`SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text,
			COALESCE((SELECT %[2]s FROM %[1]s WHERE %[2]s IS NOT NULL ORDER BY %[2]s DESC LIMIT 1) >= pg_snapshot_xmin(s), false), pg_is_in_recovery(),
			%[3]s
		FROM pg_current_snapshot() AS s`, t.Name, t.Key[0].Quoted, p.membersNow())}, nil
}

type transactionID struct {
	guard
	probe    string
	standby  bool             // at the last poll
	progress ceiling.Progress // by the next transaction's id, while rows are there that cannot be read
}

// Advance implements [ceiling.Guard]. The statement that reads the rows finds the limit again in
// its own snapshot, so that it holds on whatever server that statement runs.
func (g *transactionID) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	at := time.Now()
	var oldest, next int64
	var members string
	var above, standby bool
	if err := db.QueryRowContext(ctx, g.probe, g.table.Name).Scan(&oldest, &next, &above, &standby, &members); err != nil {
		return ceiling.Limit{}, fmt.Errorf("reading the oldest transaction in progress: %w", err)
	}
	if members != g.probed.members {
		return ceiling.Limit{}, errTable
	}
	last, err := g.table.After(after)
	if err != nil {
		return ceiling.Limit{}, err
	}
	if last >= next {
		return ceiling.Limit{}, g.table.Rewound("the next transaction of this cluster has the id %d, below the cursor's: "+
			"the rows came from another cluster, or this one was restored to an earlier state", next)
	}
	if g.standby && !standby { // it did not know about commits that it had not replayed
		g.progress = ceiling.Progress{}
	}
	g.standby = standby
	ref := g.table.Key[0].Ref
	l := ceiling.Limit{
		Where: ref + " < ?::text::xid8 AND " + ref + " < pg_snapshot_xmin(pg_current_snapshot())",
		Args:  []any{strconv.FormatInt(oldest, 10)},
	}
	if above {
		g.progress.See(next, at)
		g.progress.Advance(min(oldest, next-1), at) // not next itself: the rows that were just seen wait
		l.Held = &source.Held{Since: g.progress.HeldSince()}
		l.Held.By, err = oldestTransaction(ctx, db)
	} else {
		g.progress.Advance(math.MaxInt64, at)
	}
	if !standby {
		l.AsOf = g.progress.AsOf()
	}
	return l, err
}

// oldestTransaction names the one that all others wait for. It is found by its lock, because
// pg_stat_activity shows a plain role no ids of other roles.
func oldestTransaction(ctx context.Context, db ceiling.Queryer) ([]string, error) {
	who, err := ceiling.DescribeHolders(ctx, db, "SELECT CASE WHEN l.pid IS NULL THEN "+preparedName+" ELSE "+sessionName+" END, "+secondsSince("COALESCE(a.xact_start, x.prepared)")+`
		FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		LEFT JOIN pg_catalog.pg_prepared_xacts x ON l.pid IS NULL AND x.transaction = l.transactionid
		WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
		ORDER BY age(l.transactionid) DESC LIMIT 1`)
	if err == nil && who == nil {
		who = []string{"a transaction that is not shown here: one of the primary, if this is a standby, or one that has just ended"}
	}
	return who, err
}
