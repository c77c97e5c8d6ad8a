package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// locks lists the transactions that may still write to a table: those that hold a lock for
// writing on it, on another table of its tree, or on its sequence.
type locks struct {
	oid  int64
	name string
	oids string // of tables and sequence
	tree string // membersExpr when the table was probed
	boot string // bootExpr at the last poll
}

func newLocks(p *table, t ceiling.Table) *locks {
	var oids []int64
	for _, m := range p.tree {
		oids = append(oids, m.oid)
	}
	for _, s := range p.sequences {
		oids = append(oids, s.oid)
	}
	return &locks{oid: p.oid, name: t.Name, oids: array(oids), tree: p.members}
}

// noBackend begins the id of a prepared transaction whose id is not that of the session which
// prepared it. Servers older than November 2021 (14.1, 13.5, ...) show all prepared transactions
// like this, later ones only those from before the server's last start.
const noBackend = "-1/"

// membersExpr is an expression for the table that the name $3 stands for, whether row-level
// security applies, and the tables of the tree with their defaults and triggers. When its value
// changes, the table must be probed again.
const membersExpr = `concat(to_regclass($3::text)::oid, ' ', row_security_active($1::oid)) || (
			SELECT string_agg(concat(' ', tree.oid, ':', d.oid), '' ORDER BY tree.oid, d.oid)
			FROM tree LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = tree.oid
		) || (
			SELECT COALESCE(string_agg(concat(' ', g.oid, g.tgenabled, f.xmin), '' ORDER BY g.oid), '')
			FROM tree JOIN pg_catalog.pg_trigger g ON g.tgrelid = tree.oid AND g.tgconstraint = 0 AND g.tgtype & 3 = 3
			JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid)`

// bootExpr is an expression for when the server started, the same in all sessions, whatever
// their time zone and style of dates. When one of its processes has crashed, the server restarts
// with the same start time, but it resets its statistics.
var bootExpr = "concat(" + micros("pg_postmaster_start_time()") + ", ' ', " + micros("pg_stat_get_bgwriter_stat_reset_time()") + ")"

// The statement's own lock on pg_locks is listed, too. It shows that the server shows locks, and
// its row carries the values that are needed once.
var locksQuery = treeQuery + `, head AS MATERIALIZED (
	SELECT pg_is_in_recovery() AS standby, ` + bootExpr + ` AS boot,
		` + membersExpr + ` AS members
)
SELECT l.virtualtransaction, COALESCE(l.pid, 0), own, CASE WHEN own THEN h.standby END, CASE WHEN own THEN h.boot END, CASE WHEN own THEN h.members END
FROM head h, (
	SELECT *, relation = 'pg_catalog.pg_locks'::regclass AS own FROM pg_catalog.pg_locks
	WHERE locktype = 'relation' AND granted
		AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
) l
WHERE l.relation = ANY ($2::oid[]) AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
	OR own AND l.pid = pg_backend_pid()`

var errNoLocks = errors.New("pg_locks does not show this session's own lock: the server, or a proxy in front of it, hides locks; connect to the server itself, or use the ceiling transaction-id")

// errStandby makes the source probe the table again, which is then refused.
var errStandby = fmt.Errorf("this server is a standby now, which shows no locks: %w", ceiling.ErrChanged)

var errTable = fmt.Errorf("the table was recreated, or a partition, default, trigger or row-level security was added or removed: %w", ceiling.ErrChanged)

// list returns the current holders. restarted says that the server was restarted, so that they
// have nothing to do with those listed before. The error wraps ErrChanged if the tables changed.
func (l *locks) list(ctx context.Context, db ceiling.Queryer) (holders map[string]*ceiling.Holder, restarted bool, err error) {
	holders = map[string]*ceiling.Holder{}
	shown, standby := false, false
	var boot, tree string
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		h := &ceiling.Holder{}
		var id string
		var own bool
		var isStandby sql.NullBool
		var bootText, treeText sql.NullString
		if err := rows.Scan(&id, &h.Session, &own, &isStandby, &bootText, &treeText); err != nil {
			return err
		}
		if own {
			shown, standby = true, isStandby.Bool
			boot, tree = bootText.String, treeText.String
			return nil
		}
		h.Prepared, h.Inherits = h.Session == 0, strings.HasPrefix(id, noBackend)
		holders[id] = h
		return nil
	}, locksQuery, l.oid, l.oids, l.name)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("reading the locks: %w", err)
	case !shown:
		return nil, false, errNoLocks
	case standby:
		return nil, false, errStandby
	case tree != l.tree:
		return nil, false, errTable
	}
	restarted = l.boot != "" && boot != l.boot
	l.boot = boot
	return holders, restarted, nil
}

// shownHolders is how many holders are named.
const shownHolders = 5

// describe names holders by pid, application and, where the role may see it, age; a prepared
// transaction by its name.
func (l *locks) describe(ctx context.Context, db ceiling.Queryer, by []*ceiling.Holder) ([]string, error) {
	slices.SortStableFunc(by, func(a, b *ceiling.Holder) int { // prepared ones first: nobody may remember them
		switch {
		case a.Prepared == b.Prepared:
			return 0
		case a.Prepared:
			return -1
		}
		return 1
	})
	more := len(by) - shownHolders
	by = by[:min(len(by), shownHolders)]
	var pids []int64
	for _, h := range by {
		if !h.Prepared {
			pids = append(pids, h.Session)
		}
	}
	names := map[int64]string{}
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var pid int64
		var app string
		var open sql.NullFloat64
		if err := rows.Scan(&pid, &app, &open); err != nil {
			return err
		}
		names[pid] = describeSession(pid, app, open)
		return nil
	}, `SELECT pid, COALESCE(application_name, ''), extract(epoch FROM clock_timestamp() - xact_start)::float8
		FROM pg_catalog.pg_stat_activity WHERE pid = ANY ($1::int[])`, array(pids))
	if err != nil {
		return nil, fmt.Errorf("reading who holds the locks: %w", err)
	}
	var who []string
	prepared := false
	for _, h := range by {
		if h.Prepared {
			prepared = true
		} else if name := names[h.Session]; name != "" {
			who = append(who, name)
		} else {
			who = append(who, fmt.Sprintf("pid %d", h.Session))
		}
	}
	if prepared {
		gids, err := l.prepared(ctx, db)
		if err != nil {
			return nil, err
		}
		who = append(who, gids...)
	}
	if more > 0 {
		who = append(who, fmt.Sprintf("%d more", more))
	}
	return who, nil
}

// prepared names the prepared transactions that hold one of the locks.
func (l *locks) prepared(ctx context.Context, db ceiling.Queryer) (who []string, err error) {
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var gid string
		var age float64
		if err := rows.Scan(&gid, &age); err != nil {
			return err
		}
		who = append(who, describePrepared(gid, age))
		return nil
	}, `SELECT x.gid, extract(epoch FROM clock_timestamp() - x.prepared)::float8 FROM pg_catalog.pg_prepared_xacts x
		WHERE x.database = current_database() AND x.transaction::text IN (
			SELECT t.transactionid::text FROM pg_catalog.pg_locks t WHERE t.locktype = 'transactionid' AND t.pid IS NULL AND t.virtualtransaction IN (
				SELECT r.virtualtransaction FROM pg_catalog.pg_locks r WHERE r.pid IS NULL AND r.relation = ANY ($1::oid[])))
		ORDER BY x.prepared LIMIT 5`, l.oids)
	if err == nil && who == nil {
		who = []string{"a prepared transaction"}
	}
	return who, err
}

func describeSession(pid int64, app string, seconds sql.NullFloat64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pid %d", pid)
	if app != "" {
		fmt.Fprintf(&b, " (%s)", app)
	}
	if seconds.Valid {
		fmt.Fprintf(&b, ", open for %s", ceiling.FormatAge(seconds.Float64))
	}
	return b.String()
}

func describePrepared(gid string, seconds float64) string {
	return fmt.Sprintf("prepared transaction %q, %s ago", gid, ceiling.FormatAge(seconds))
}
