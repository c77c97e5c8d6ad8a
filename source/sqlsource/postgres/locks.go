package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
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
	probe string // the statement for how far the rows go; $1 is the table, $2 its name, $3 the cursor
	oids  string // of tables and sequence
	boot  string // bootExpr at the last poll

	fences  ceiling.Fences[int64]
	nothing int64     // settled, as long as nothing is
	settled int64     // rows up to this key, or below this stamp, can be read
	asOf    time.Time // of settled
}

func newFence(p *table, t ceiling.Table, r ceiling.Report, nothing int64) fence {
	var oids []int64
	for _, m := range p.tree {
		oids = append(oids, m.oid)
	}
	for _, s := range p.sequences {
		oids = append(oids, s.oid)
	}
	return fence{guard: guard{t, r, p.oid, p.members}, oids: array(oids), nothing: nothing, settled: nothing}
}

// read runs the probe. Its last two columns are whether the server is a standby and, if it finds no
// row, membersExpr: without rows above the cursor the locks are not read, which would show both.
func (f *fence) read(ctx context.Context, db ceiling.Queryer, what string, from any, dest ...any) error {
	var standby bool
	var members sql.NullString
	err := db.QueryRowContext(ctx, f.probe, f.oid, f.table.Name, from).Scan(append(dest, &standby, &members)...)
	switch {
	case err != nil:
		return fmt.Errorf("reading the greatest %s: %w", what, err)
	case standby:
		return errStandby
	case members.Valid && members.String != f.members:
		return errTable
	}
	return nil
}

// forget drops what is known of keys or stamps that may be drawn again.
func (f *fence) forget() {
	f.fences.Forget()
	f.settled, f.asOf = f.nothing, time.Time{}
}

// set sets a fence, and moves settled to the newest one whose holders have ended. At is a
// moment before high was read.
func (f *fence) set(ctx context.Context, db ceiling.Queryer, high int64, at time.Time) error {
	holders, restarted, err := f.holders(ctx, db)
	if err != nil {
		return err
	}
	if restarted { // ids are given again, and so are keys whose commits were not on disk
		f.forget()
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

// noBackend begins the id of a prepared transaction whose id is not that of the session which
// prepared it. Servers older than November 2021 (14.1, 13.5, ...) show all prepared transactions
// like this, later ones only those from before the server's last start.
const noBackend = "-1/"

// membersExpr is an expression for the table that the name $2 stands for, whether row-level
// security applies, and the tables of the tree with their defaults and triggers. When its value
// changes, the table must be probed again.
const membersExpr = `concat(to_regclass($2::text)::oid, ' ', row_security_active($1::oid)) || (
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

// The statement's own lock on pg_locks is listed, too. It proves that the server shows locks, and
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
WHERE l.relation = ANY ($3::oid[]) AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
	OR own AND l.pid = pg_backend_pid()`

var errNoLocks = errors.New("pg_locks does not show this session's own lock: the server, or a proxy in front of it, hides locks; connect to the server itself, or use the ceiling transaction-id")

// errStandby makes the source probe the table again, which is then refused.
var errStandby = fmt.Errorf("this server is a standby now, which shows no locks: %w", ceiling.ErrChanged)

var errTable = fmt.Errorf("the table was recreated, or a partition, default, trigger or row-level security was added or removed: %w", ceiling.ErrChanged)

// holders returns the current holders. restarted says that the server was restarted, so that they
// have nothing to do with those listed before. The error wraps ErrChanged if the tables changed.
func (f *fence) holders(ctx context.Context, db ceiling.Queryer) (all map[string]*ceiling.Holder, restarted bool, err error) {
	all = map[string]*ceiling.Holder{}
	var head, row struct {
		own, standby  sql.NullBool
		boot, members sql.NullString
	}
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		h := &ceiling.Holder{}
		var id string
		if err := rows.Scan(&id, &h.Session, &row.own, &row.standby, &row.boot, &row.members); err != nil {
			return err
		}
		if row.own.Bool {
			head = row
			return nil
		}
		h.Prepared, h.Inherits = h.Session == 0, strings.HasPrefix(id, noBackend)
		all[id] = h
		return nil
	}, locksQuery, f.oid, f.table.Name, f.oids)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("reading the locks: %w", err)
	case !head.own.Bool:
		return nil, false, errNoLocks
	case head.standby.Bool:
		return nil, false, errStandby
	case head.members.String != f.members:
		return nil, false, errTable
	}
	restarted = f.boot != "" && head.boot.String != f.boot
	f.boot = head.boot.String
	return all, restarted, nil
}

// shownHolders is how many holders are named.
const shownHolders = 5

// describe names holders by pid, application and, where the role may see it, age; a prepared
// transaction by its name. Prepared ones are the last to be left out: nobody may remember them.
func (f *fence) describe(ctx context.Context, db ceiling.Queryer, by []*ceiling.Holder) (who []string, err error) {
	var pids []int64
	for _, h := range by {
		if !h.Prepared {
			pids = append(pids, h.Session)
		}
	}
	prepared := len(by) - len(pids)
	pids = pids[:min(len(pids), max(shownHolders-prepared, 0))]
	shown, err := sessions(ctx, db, `SELECT pid, COALESCE(application_name, ''), '', extract(epoch FROM clock_timestamp() - xact_start)::float8
		FROM pg_catalog.pg_stat_activity WHERE pid = ANY ($1::int[])`, array(pids))
	if err != nil {
		return nil, fmt.Errorf("reading who holds the locks: %w", err)
	}
	for _, pid := range pids {
		s := session{pid: pid}
		if i := slices.IndexFunc(shown, func(s session) bool { return s.pid == pid }); i >= 0 {
			s = shown[i]
		}
		who = append(who, s.String())
	}
	if prepared > 0 {
		named, err := sessions(ctx, db, `SELECT 0, '', x.gid, extract(epoch FROM clock_timestamp() - x.prepared)::float8 FROM pg_catalog.pg_prepared_xacts x
			WHERE x.database = current_database() AND x.transaction::text IN (
				SELECT t.transactionid::text FROM pg_catalog.pg_locks t WHERE t.locktype = 'transactionid' AND t.pid IS NULL AND t.virtualtransaction IN (
					SELECT r.virtualtransaction FROM pg_catalog.pg_locks r WHERE r.pid IS NULL AND r.relation = ANY ($1::oid[])))
			ORDER BY x.prepared LIMIT 5`, f.oids)
		if err != nil {
			return nil, err
		}
		for _, s := range named {
			who = append(who, s.String())
		}
		if named == nil {
			who = append(who, "a prepared transaction")
		}
	}
	if more := len(by) - shownHolders; more > 0 {
		who = append(who, fmt.Sprintf("%d more", more))
	}
	return who, nil
}

// session is a transaction that others wait for.
type session struct {
	pid  int64
	app  string
	gid  string          // of a prepared transaction, which has no pid
	open sql.NullFloat64 // since when, in seconds
}

// sessions runs a statement that returns these columns.
func sessions(ctx context.Context, db ceiling.Queryer, query string, args ...any) ([]session, error) {
	return ceiling.List(ctx, db, func(s *session) []any { return []any{&s.pid, &s.app, &s.gid, &s.open} }, query, args...)
}

func (s session) String() string {
	if s.pid == 0 {
		return fmt.Sprintf("prepared transaction %q, %s ago", s.gid, ceiling.FormatAge(s.open.Float64))
	}
	name := fmt.Sprintf("pid %d", s.pid)
	if s.app != "" {
		name += " (" + s.app + ")"
	}
	if s.open.Valid {
		name += ", open for " + ceiling.FormatAge(s.open.Float64)
	}
	return name
}
