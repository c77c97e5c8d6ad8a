package postgres

import (
	"context"
	"database/sql"
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
			COALESCE((SELECT %[2]s FROM %[1]s WHERE %[2]s IS NOT NULL ORDER BY %[2]s DESC LIMIT 1)::text, '0'), pg_is_in_recovery(),
			%[3]s, %[4]s
		FROM pg_current_snapshot() AS s`, t.Name, t.Key[0].Quoted, p.membersNow(), replayExpr)}, nil
}

// replayExpr are expressions for what a standby has heard of its primary: the moment up to which it has
// replayed all commits, in microseconds, whether its replay is paused, and why it hears no more. On a
// primary they are NULL. A plain role does not see what the primary has said last, and gets the time of
// the last commit that was replayed.
var replayExpr = `CASE WHEN pg_is_in_recovery() THEN (SELECT ` + micros(`COALESCE(
				(SELECT w.last_msg_send_time FROM pg_catalog.pg_stat_wal_receiver w WHERE w.latest_end_lsn <= pg_last_wal_replay_lsn()),
				pg_last_xact_replay_timestamp())`) + `) END,
			CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END,
			CASE WHEN NOT pg_is_in_recovery() THEN NULL WHEN pg_is_wal_replay_paused() THEN 'the standby, whose replay is paused'
				WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) THEN 'the standby, which has no connection to its primary' END`

type transactionID struct {
	guard
	probe    string
	standby  bool             // at the last poll
	deaf     time.Time        // since when the primary is not heard
	progress ceiling.Progress // by the next transaction's id, while rows are there that cannot be read
}

// reading is what one statement of the probe returns.
type reading struct {
	oldest, next, greatest int64
	standby                bool
	micros                 sql.NullInt64
	paused                 sql.NullBool
	silent                 sql.NullString
}

// disorder is by how much the times of commits may differ from their order in the log.
const disorder = time.Second

// replayed returns the moment up to which a standby has replayed all commits, zero if it is not known.
func (r reading) replayed() time.Time {
	if !r.micros.Valid {
		return time.Time{}
	}
	return time.UnixMicro(r.micros.Int64).Add(-disorder)
}

// silentAfter is how old the last commit of a primary may be that a standby has no connection to. Such
// a standby may be connecting, or get the log from an archive.
const silentAfter = time.Minute

// deafness says why a standby does not know what its primary has committed, "" if it does.
func (r reading) deafness() string {
	if !r.paused.Bool && time.Since(r.replayed()) < silentAfter {
		return ""
	}
	return r.silent.String
}

func (g *transactionID) read(ctx context.Context, db ceiling.Queryer) (r reading, err error) {
	var members string
	err = db.QueryRowContext(ctx, g.probe, g.table.Name).Scan(&r.oldest, &r.next, &r.greatest, &r.standby, &members, &r.micros, &r.paused, &r.silent)
	switch {
	case err != nil:
		return r, fmt.Errorf("reading the oldest transaction in progress: %w", err)
	case members != g.probed.members:
		return r, errTable
	}
	return r, nil
}

// Advance implements [ceiling.Guard]. The statement that reads the rows finds the limit again in
// its own snapshot, so that it holds on whatever server that statement runs.
func (g *transactionID) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	at := time.Now()
	r, err := g.read(ctx, db)
	if err != nil {
		return ceiling.Limit{}, err
	}
	last, err := g.table.After(after)
	if err != nil {
		return ceiling.Limit{}, err
	}
	if last >= r.next {
		return ceiling.Limit{}, g.table.Rewound("the next transaction of this cluster has the id %d, below the cursor's: "+
			"the rows came from another cluster, or this one was restored to an earlier state", r.next)
	}
	if r.greatest >= r.next {
		return ceiling.Limit{}, g.unreached(r)
	}
	if g.standby && !r.standby { // it did not know about commits that it had not replayed
		g.progress = ceiling.Progress{}
	}
	g.standby = r.standby
	ref := g.table.Key[0].Ref
	l := ceiling.Limit{
		Where: ref + " < ?::text::xid8 AND " + ref + " < pg_snapshot_xmin(pg_current_snapshot())",
		Args:  []any{strconv.FormatInt(r.oldest, 10)},
	}
	if r.standby {
		at = r.replayed()
	}
	if r.greatest >= r.oldest {
		l.Held = &source.Held{}
		g.progress.See(r.next, at)
		l.AsOf, l.Held.Since = g.progress.Advance(min(r.oldest, r.next-1), at) // not next itself: the rows that were just seen wait
		l.Held.By, err = OldestTransaction(ctx, db)
	} else {
		l.AsOf, _ = g.progress.Advance(math.MaxInt64, at)
	}
	if deaf := r.deafness(); deaf == "" {
		g.deaf = time.Time{}
	} else {
		if g.deaf.IsZero() {
			g.deaf = time.Now()
		}
		l.Held = &source.Held{Since: g.deaf, By: []string{deaf}}
	}
	return l, err
}

// unreached returns an error for rows with an id that the cluster has not reached.
func (g *transactionID) unreached(r reading) error {
	column, words := g.table.Key[0], "give these rows the id of a transaction of this cluster, by which they are read"
	if r.standby {
		words = "on the primary, " + words
	}
	return g.refuse(ceiling.Advice(words, fmt.Sprintf("UPDATE %s SET %s = pg_current_xact_id() WHERE %[2]s >= pg_snapshot_xmax(pg_current_snapshot());", g.table.Name, column.Quoted)),
		"rows have a %q up to %d, and the next transaction of this cluster has the id %d: they came from another cluster, as by dump and restore, and would wait until this one has got as far", column.Name, r.greatest, r.next)
}

// OldestTransaction names the one that all others wait for. It is found by its lock, because
// pg_stat_activity shows a plain role no ids of other roles.
func OldestTransaction(ctx context.Context, db ceiling.Queryer) ([]string, error) {
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
