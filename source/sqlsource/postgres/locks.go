package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// fence is what LockFence and Stamp share. It waits for the transactions that may still write to
// a table: those that hold a lock for writing on it, on another table of its tree, or on its
// sequence.
type fence struct {
	guard
	probe  string    // the statement for how far the rows go; $1 is the cursor
	locks  string    // the statement for the holders; $2 is oids
	oids   string    // of tables and sequence
	boot   string    // bootExpr when the locks were read last
	listed time.Time // when that was

	fences  ceiling.Fences[int64]
	stood   int64     // where the sequence or the clock stood
	nothing int64     // settled, as long as nothing is
	settled int64     // rows up to this key, or below this stamp, can be read
	asOf    time.Time // of settled
}

func newFence(p *table, t ceiling.Table, r ceiling.Report, nothing int64) fence {
	oids := p.oids()
	for _, s := range p.sequences {
		oids = append(oids, s.oid)
	}
	// The reader's own lock on pg_locks is listed, too. It proves that the server shows locks, and its
	// row carries the values that are needed once.
	locks := `WITH head AS MATERIALIZED (
	SELECT pg_is_in_recovery() AS standby, ` + bootExpr + ` AS boot, ` + p.membersNow() + ` AS members
)
SELECT l.virtualtransaction, COALESCE(l.pid, 0), own, CASE WHEN own THEN h.standby END, CASE WHEN own THEN h.boot END, CASE WHEN own THEN h.members END
FROM head h, (
	SELECT *, relation = 'pg_catalog.pg_locks'::regclass AS own FROM pg_catalog.pg_locks
	WHERE locktype = 'relation' AND granted
		AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
) l
WHERE l.relation = ANY ($2::oid[]) AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
	OR own AND l.pid = pg_backend_pid()`
	return fence{guard: guard{t, r, p}, locks: locks, oids: array(oids), stood: nothing, nothing: nothing, settled: nothing}
}

// read runs the probe. Its last column is whether the server is a standby: without rows above the
// cursor the locks are not read, which would show it.
func (f *fence) read(ctx context.Context, db ceiling.Queryer, what string, from any, dest ...any) error {
	var standby bool
	err := db.QueryRowContext(ctx, f.probe, from).Scan(append(dest, &standby)...)
	if err != nil {
		return fmt.Errorf("reading the greatest %s: %w", what, err)
	}
	if standby {
		return errStandby
	}
	return nil
}

// compareAfter is how long no row may be above the cursor until the tables are compared anyway. A
// new trigger may give every row a key below the cursor, and then no row would ever show it.
const compareAfter = 5 * time.Second

// idle reads the locks, and with them membersExpr, if no row was a reason to for a while.
func (f *fence) idle(ctx context.Context, db ceiling.Queryer, at time.Time) (err error) {
	if at.Sub(f.listed) >= compareAfter {
		_, err = f.holders(ctx, db)
	}
	return err
}

// forget drops what is known of keys or stamps that may be drawn again.
func (f *fence) forget() {
	f.fences.Forget()
	f.settled, f.asOf = f.nothing, time.Time{}
}

// stands records where the sequence or the clock stands.
func (f *fence) stands(now int64) {
	if now < f.stood {
		f.forget()
	}
	f.stood = now
}

// set sets a fence, and moves settled to the newest one whose holders have ended. At is a
// moment before high was read.
func (f *fence) set(ctx context.Context, db ceiling.Queryer, high int64, at time.Time) error {
	holders, err := f.holders(ctx, db)
	if err != nil {
		return err
	}
	f.fences.Set(high, at, holders)
	if h, at, ok := f.fences.Settle(); ok {
		f.settled, f.asOf = max(h, f.settled), at
	}
	return nil
}

// held says who holds the rows above settled back, or otherwise if no fence waits.
func (f *fence) held(ctx context.Context, db ceiling.Queryer, otherwise source.Held) (*source.Held, error) {
	since, waiting := f.fences.Oldest()
	if !waiting {
		return &otherwise, nil
	}
	by, err := f.describe(ctx, db, f.fences.Blockers())
	return &source.Held{Since: since, By: by}, err
}

// membersExpr returns an expression for the table that the name $1 stands for, whether row-level
// security applies to the table oid, and the defaults, triggers, parents and children of the tables
// of its tree. When its value changes, the table must be probed again. Each part is found by an
// index. In each poll the tables are a constant: by the number of elements that it expects of a
// parameter, the server would make a new plan each time.
func membersExpr(oid, tables string) string {
	return `concat(to_regclass($1::text)::oid, ' ', row_security_active(` + oid + `)) || (
			SELECT string_agg(concat_ws(':', ' ' || m,
				(SELECT string_agg(d.oid::text, ',' ORDER BY d.oid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = m), '',
				(SELECT string_agg(concat(g.oid, g.tgenabled, (SELECT f.xmin FROM pg_catalog.pg_proc f WHERE f.oid = g.tgfoid)), ',' ORDER BY g.oid)
					FROM pg_catalog.pg_trigger g WHERE g.tgrelid = m AND g.tgconstraint = 0 AND g.tgtype & 3 = 3), '',
				(SELECT string_agg(i.inhparent::text, ',' ORDER BY i.inhparent) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = m), '',
				(SELECT string_agg(i.inhrelid::text, ',' ORDER BY i.inhrelid) FROM pg_catalog.pg_inherits i WHERE i.inhparent = m)
			), '' ORDER BY m) FROM unnest(` + tables + `) AS m)`
}

// membersNow is membersExpr for the tables that were found.
func (p *table) membersNow() string {
	return membersExpr(fmt.Sprintf("%d::oid", p.oid), "'"+array(p.oids())+"'::oid[]")
}

// bootExpr is an expression for when the server started, the same in all sessions, whatever
// their time zone and style of dates. When one of its processes has crashed, the server restarts
// with the same start time, but it resets its statistics.
var bootExpr = "concat(" + micros("pg_postmaster_start_time()") + ", ' ', " + micros("pg_stat_get_bgwriter_stat_reset_time()") + ")"

// errStandby makes the source probe the table again, which is then refused.
var errStandby = fmt.Errorf("this server is a standby now, which shows no locks: %w", ceiling.ErrChanged)

var errTable = fmt.Errorf("the table was recreated, or a partition, default, trigger or row-level security was added or removed: %w", ceiling.ErrChanged)

// holders returns the current holders. The error wraps ErrChanged if the tables changed.
func (f *fence) holders(ctx context.Context, db ceiling.Queryer) (map[string]*ceiling.Holder, error) {
	all := map[string]*ceiling.Holder{}
	var head, row struct {
		own, standby  sql.NullBool
		boot, members sql.NullString
	}
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		h := &ceiling.Holder{}
		var id string
		if err := rows.Scan(&id, &h.Session, &row.own, &row.standby, &row.boot, &row.members); err != nil {
			return err
		}
		if row.own.Bool {
			head = row
			return nil
		}
		// The id of a prepared transaction may not be that of the session which prepared it. Servers older
		// than November 2021 (14.1, 13.5, ...) show all of them like this, later ones only those from
		// before the server's last start.
		h.Prepared, h.Inherits = h.Session == 0, strings.HasPrefix(id, "-1/")
		all[id] = h
		return nil
	}, f.locks, f.table.Name, f.oids)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the locks: %w", err)
	case !head.own.Bool:
		return nil, errors.New("pg_locks does not show this session's own lock: the server, or a proxy in front of it, hides locks; connect to the server itself, or use the ceiling transaction-id")
	case head.standby.Bool:
		return nil, errStandby
	case head.members.String != f.probed.members:
		return nil, errTable
	}
	if f.boot != "" && head.boot.String != f.boot { // ids are given again, and so are keys whose commits were not on disk
		f.forget()
	}
	f.boot, f.listed = head.boot.String, time.Now()
	return all, nil
}

// shownHolders is how many holders are named.
const shownHolders = 5

// describe names holders by pid, application and, where the role may see it, age; a prepared
// transaction by its name. Prepared ones are the last to be left out: nobody may remember them.
func (f *fence) describe(ctx context.Context, db ceiling.Queryer, by []*ceiling.Holder) ([]string, error) {
	var pids []int64
	tables := "{}"
	for _, h := range by {
		if h.Prepared {
			tables = f.oids
		} else {
			pids = append(pids, h.Session)
		}
	}
	prepared := len(by) - len(pids)
	pids = pids[:min(len(pids), max(shownHolders-prepared, 0))]
	who, err := ceiling.DescribeHolders(ctx, db, "SELECT who, seconds FROM (SELECT "+sessionName+", "+secondsSince("a.xact_start")+`, n, NULL
		FROM unnest($1::int[]) WITH ORDINALITY AS l(pid, n) LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		UNION ALL SELECT `+preparedName+", "+secondsSince("x.prepared")+`, NULL, x.prepared
		FROM pg_catalog.pg_prepared_xacts x
		WHERE x.database = current_database() AND x.transaction::text IN (
			SELECT t.transactionid::text FROM pg_catalog.pg_locks t WHERE t.locktype = 'transactionid' AND t.pid IS NULL AND t.virtualtransaction IN (
				SELECT r.virtualtransaction FROM pg_catalog.pg_locks r WHERE r.pid IS NULL AND r.relation = ANY ($2::oid[])))
		) AS h(who, seconds, n, prepared) ORDER BY n, prepared LIMIT 5`, array(pids), tables)
	if err == nil && prepared > 0 && len(who) == len(pids) {
		who = append(who, "a prepared transaction")
	}
	if more := len(by) - shownHolders; more > 0 {
		who = append(who, fmt.Sprintf("%d more", more))
	}
	return who, err
}

// What a session a with the lock l, and a prepared transaction x, are called.
const (
	sessionName  = `concat('pid ', l.pid, ' (' || NULLIF(a.application_name, '') || ')', CASE WHEN a.xact_start IS NOT NULL THEN ', open' END)`
	preparedName = `concat('prepared transaction "', regexp_replace(x.gid, '[[:cntrl:]]', '?', 'g'), '", open')`
)

func secondsSince(moment string) string {
	return "extract(epoch FROM clock_timestamp() - " + moment + ")::float8"
}
