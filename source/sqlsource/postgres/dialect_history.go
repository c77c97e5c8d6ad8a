package postgres

import (
	"context"
	"database/sql"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// History implements [dialect.Reader]. It needs no rights beyond those that everybody
// has. If the right on pg_control_system was revoked, the cluster's identity is not
// known, nor is a standby's timeline. A standby cannot lose commits that it has replayed.
// Databases that speak the protocol but lack these functions have no history.
func (d Dialect) History(ctx context.Context, db ceiling.Queryer, table []string) (dialect.History, error) {
	var name any
	if table != nil {
		name = dialect.QuoteAll(d, table)
	}
	h, err := readHistory(ctx, db, name, `(SELECT system_identifier::text FROM pg_control_system())`)
	if dberr.SQLState(err) == "42501" {
		h, err = readHistory(ctx, db, name, `''`)
	}
	switch dberr.SQLState(err) {
	case "42883", "0A000":
		return dialect.History{}, nil
	}
	return h, err
}

func readHistory(ctx context.Context, db ceiling.Queryer, name any, identifier string) (dialect.History, error) {
	var h dialect.History
	var cluster, timeline, database, oid string
	var writer float64
	err := db.QueryRowContext(ctx, `SELECT pg_is_in_recovery(), `+identifier+`,
		CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
		(SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()), COALESCE(to_regclass($1::text)::oid::text, ''),
		CASE WHEN at % pg_size_bytes(current_setting('wal_segment_size')) = 40 THEN at - 40
			WHEN at % pg_size_bytes(current_setting('wal_block_size')) = 24 THEN at - 24 ELSE at END::text,
		(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn)::text,
		extract(epoch FROM current_setting('wal_writer_delay')::interval)::float8,
		`+bootExpr+`
		FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn AS at) AS log`, name).
		Scan(&h.Standby, &cluster, &timeline, &database, &oid, &h.Mark, &h.Flushed, &writer, &h.Boot)
	// An asynchronous commit is on disk after three times the delay ("Asynchronous Commit" in the manual).
	h.Flushes = 3*time.Duration(writer*float64(time.Second)) + time.Second
	h.Parts = []dialect.HistoryPart{
		{Name: "cluster", Value: cluster, Changed: "the data source name leads to another server, or the server was initialised again, as by an upgrade"},
		{Name: "timeline", Value: strings.TrimLeft(timeline, "0"), Changed: "a standby was promoted, or the server was restored to a point in time; the last commits may be lost"},
		{Name: "database", Value: database, Changed: "the data source name leads to another database, or the database was recreated"},
		{Name: "table", Value: oid, Changed: "the table was dropped and recreated, or another table took its name"},
	}
	return h, err
}

var fullRead = regexp.MustCompile(`^\s*(?:->\s+)?(?:Parallel )?(Seq Scan on .*|Sort|Incremental Sort)$`)

// Explain implements [dialect.Reader]. The plan is made as for a large table: scans and
// sorts that remain are there because an index is missing.
func (Dialect) Explain(ctx context.Context, db *sql.DB, statement string, args []any, after bool) ([]string, ceiling.Finding, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, ceiling.Finding{}, err
	}
	defer tx.Rollback()
	for _, set := range []string{"SET LOCAL enable_seqscan = off", "SET LOCAL enable_sort = off"} {
		if _, err := tx.ExecContext(ctx, set); err != nil {
			return nil, ceiling.Finding{}, err
		}
	}
	lines, _, err := dialect.ReadPlan(ctx, tx, "EXPLAIN (COSTS OFF) "+statement, args)
	var bad []string
	seeks := !after
	for _, line := range lines {
		if m := fullRead.FindStringSubmatch(line); m != nil {
			bad = append(bad, m[1])
		}
		seeks = seeks || strings.Contains(line, "Index Cond:")
	}
	switch {
	case err != nil || bad == nil && seeks:
		return lines, ceiling.Finding{}, err
	case bad == nil:
		return lines, dialect.Slow("the rows are read in the order of an index, but from the first one on, whatever the cursor"), nil
	case slices.ContainsFunc(bad, func(node string) bool { return strings.HasSuffix(node, "Sort") }):
		return lines, dialect.Slow("no index is used to read the rows in the order of the key (%s)", strings.Join(bad, ", ")), nil
	}
	f := dialect.Slow("each poll reads the whole of a table (%s)", strings.Join(bad, ", "))
	f.Remedies = ceiling.Advice("create an index on the columns by which the Select joins it")
	return lines, f, nil
}
