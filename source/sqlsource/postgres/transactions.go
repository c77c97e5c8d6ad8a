package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// TimeLayout implements [ceiling.SQL].
func (Dialect) TimeLayout(typ string) (layout string, utc bool) {
	switch typ {
	case "TIMESTAMPTZ":
		return "2006-01-02 15:04:05.000000Z07:00", true
	case "TIMESTAMP":
		return "2006-01-02 15:04:05.000000", false
	}
	return "", false
}

// Transactions implements [ceiling.SQL].
func (Dialect) Transactions(ctx context.Context, db ceiling.Queryer, t ceiling.Table, r *ceiling.Report) (ceiling.Transactions, error) {
	var standby, subscribed, unclear bool
	err := db.QueryRowContext(ctx, treeOf("to_regclass(NULLIF($1::text, ''))::oid")+` SELECT pg_is_in_recovery(), EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r JOIN tree ON r.srrelid = tree.oid),
		EXISTS (SELECT FROM pg_catalog.pg_subscription_rel) AND NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = to_regclass(NULLIF($1::text, '')) AND relkind IN ('r', 'p'))`, t.Name).
		Scan(&standby, &subscribed, &unclear)
	r.AddIf(standby, ceiling.Unsafe, ceiling.Advice("read from the primary"), "this server is a standby, which does not show the primary's transactions")
	r.AddIf(subscribed, ceiling.Unsafe, ceiling.Advice("read at the publisher, or drop the subscription if it has ended"),
		"a subscription of logical replication writes to %s, or will when it is enabled again: rows come with times that they got long before", t.Label)
	r.AddIf(unclear, ceiling.Warning, ceiling.Advice("read a table"), "subscriptions of logical replication write to tables of this database: rows of these that %s shows are missed", t.Label)
	return transactions{}, err
}

// transactions lists the open transactions of a database, for ceiling.Stamp. A transaction holds the lock on its
// virtual id from its beginning to its end, and a prepared one that on its transaction id.
type transactions struct{}

func (transactions) Since() string { return "its transaction began" }

func (transactions) Clock(ctx context.Context, db ceiling.Queryer) (time.Time, error) {
	return ceiling.ReadClock(ctx, db, "SELECT "+micros("clock_timestamp()"))
}

// listOpen lists virtual ids of this database, and of sessions whose database is not shown. A session that has
// a database and no role is a worker of autovacuum, which writes no rows. A session can be exchanged
// for another one between reading the locks and the sessions: then its transaction has ended.
const listOpen = `SELECT l.virtualtransaction, COALESCE(l.pid, 0), l.pid IS NOT DISTINCT FROM pg_backend_pid(), pg_is_in_recovery()
	FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
	LEFT JOIN pg_catalog.pg_prepared_xacts x ON l.pid IS NULL AND x.transaction = l.transactionid
	WHERE l.granted AND (l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' OR l.locktype = 'transactionid' AND l.pid IS NULL)
		AND (a.datid IS NULL OR a.datname = current_database() AND a.usesysid IS NOT NULL)
		AND (x.database IS NULL OR x.database = current_database())`

func (transactions) List(ctx context.Context, db ceiling.Queryer, clock time.Time, _ map[string]*ceiling.Holder) (time.Time, map[string]*ceiling.Holder, error) {
	all := map[string]*ceiling.Holder{}
	var shown bool
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		h := &ceiling.Holder{}
		var id string
		var own, standby bool
		if err := rows.Scan(&id, &h.Session, &own, &standby); err != nil || own {
			shown = shown || own
			return err
		}
		if standby {
			return errStandby
		}
		h.Prepared, h.Inherits = h.Session == 0, strings.HasPrefix(id, "-1/")
		all[id] = h
		return nil
	}, listOpen)
	switch {
	case err != nil:
		return clock, nil, fmt.Errorf("listing the open transactions: %w", err)
	case !shown:
		return clock, nil, errors.New("pg_locks does not show this session's own transaction: the server, or a proxy in front of it, hides locks; connect to the server itself")
	}
	return clock, all, nil
}

func (transactions) Describe(ctx context.Context, db ceiling.Queryer, by []*ceiling.Holder) ([]string, error) {
	var pids []int64
	for _, h := range by {
		if !h.Prepared {
			pids = append(pids, h.Session)
		}
	}
	prepared := len(by) - len(pids)
	who, err := ceiling.DescribeHolders(ctx, db, "SELECT * FROM (SELECT "+sessionName+", "+secondsSince("a.xact_start")+`
		FROM unnest($1::int[]) WITH ORDINALITY AS l(pid, n) LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid ORDER BY n LIMIT $2::int) AS s
		UNION ALL SELECT * FROM (SELECT `+preparedName+", "+secondsSince("x.prepared")+`
		FROM pg_catalog.pg_prepared_xacts x WHERE x.database = current_database() ORDER BY x.prepared LIMIT $3::int) AS p`,
		array(pids), max(shownHolders-prepared, 0), min(prepared, shownHolders))
	if more := len(by) - shownHolders; more > 0 {
		who = append(who, fmt.Sprintf("%d more", more))
	}
	return who, err
}
