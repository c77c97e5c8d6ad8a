// Package postgres is what package sqlsource must know about Postgres.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

const name = "Postgres"

// Dialect is the SQL of Postgres. The interfaces of packages dialect and
// ceiling explain its methods.
type Dialect struct{}

var _ dialect.Dialect = Dialect{}

func (Dialect) Name() string                  { return name }
func (Dialect) Limit(n int) string            { return fmt.Sprintf("LIMIT %d", n) }
func (Dialect) Quote(name string) string      { return dialect.QuoteWith(`"`, name) }
func (Dialect) Placeholder(n int) string      { return fmt.Sprintf("$%d", n) }
func (Dialect) SchemaVersion([]string) string { return "" }
func (Dialect) LockRows() string              { return "FOR UPDATE" }
func (Dialect) CreateTable(table, columns string) string {
	return "CREATE TABLE IF NOT EXISTS " + table + " (" + columns + ")"
}

func (Dialect) Compare(columns []dialect.KeyColumn, key []dialect.Value, upTo bool, args *dialect.Args) (string, error) {
	return dialect.CompareRows(columns, key, upTo, args)
}

var kinds = map[string]row.Kind{
	"BOOL": row.Auto, "BYTEA": row.Bytes,
	"INT2": row.Number, "INT4": row.Number, "INT8": row.Number, "OID": row.Number, "XID": row.Number, "CID": row.Number, "NUMERIC": row.Number,
	"FLOAT4": row.Float32, "FLOAT8": row.Number,
	"JSON": row.JSON, "JSONB": row.JSONB,
	"DATE": row.Date, "TIME": row.Time, "TIMETZ": row.TimeTZ, "TIMESTAMP": row.Timestamp, "TIMESTAMPTZ": row.TimestampTZ,
	"1266": row.TimeTZ, // pgx has no name for it
}

func (Dialect) Column(c dialect.Column, ref string) (row.Kind, string) {
	kind, ok := kinds[c.Type]
	if !ok {
		kind = row.Text
	}
	if c.Time && (kind == row.Time || kind == row.TimeTZ) { // lib/pq turns 24:00 into midnight of another day
		return kind, ref + "::text"
	}
	return kind, ""
}

// small are the types whose values always are small, besides numbers and times.
var small = []string{"BOOL", "UUID", "NAME", "CHAR", "INTERVAL", "INET", "CIDR", "MACADDR", "MACADDR8", "MONEY", "XID8", "TID", "PG_LSN", "POINT", "LINE", "LSEG", "BOX", "CIRCLE",
	"829", "774", "790", "3220", "5069"} // pgx has no name for some

// Size implements [dialect.Reader]. The length of text is known without reading it. The text of
// other values must be made; that is not done for those which are stored in a few bytes, also
// compressed ones.
func (Dialect) Size(c dialect.Column, ref string) string {
	kind := kinds[c.Type]
	switch {
	case (c.Type == "VARCHAR" || c.Type == "BPCHAR") && c.Length > 0 && c.Length <= 16<<10:
		return ""
	case c.Type == "TEXT", c.Type == "VARCHAR", c.Type == "BPCHAR", kind == row.Bytes:
		return "octet_length(" + ref + ")::bigint"
	case kind == row.Auto && !slices.Contains(small, c.Type), kind == row.JSON, kind == row.JSONB:
		return "CASE WHEN pg_column_size(" + ref + ") <= 65536 THEN 0 ELSE octet_length(" + ref + "::text)::bigint END"
	}
	return ""
}

// Key implements [dialect.Reader]. It binds text, which Postgres takes for the type of the
// column that it is compared with.
func (d Dialect) Key(_ context.Context, _ ceiling.Queryer, c dialect.Column, ref string, _ bool) (dialect.KeyColumn, error) {
	kind, expr := d.Column(c, ref)
	k := dialect.KeyColumn{Ref: ref, Expr: expr, Kind: kind, Bind: dialect.BindText}
	switch kind {
	case row.Auto:
		k.Kind = row.Text
	case row.Bytes:
		k.Bind = dialect.BindBytes
	}
	return k, nil
}

// Invisible implements [dialect.Reader].
func (Dialect) Invisible(context.Context, ceiling.Queryer, []string) ([]string, error) {
	return nil, nil
}

func (Dialect) ColumnsChanged(err error) bool {
	switch dberr.SQLState(err) {
	case "0A000", // cached plan must not change result type
		"42703", "42883", "42P18": // a column is gone, or its type does not go with the argument
		return true
	}
	return false
}

func (Dialect) RefusedValue(err error) bool {
	refused := []string{"22P02", "22P03", "22P05", "22003", "22007", "22008", "22009", "22021", "42804"}
	return slices.Contains(refused, dberr.SQLState(err))
}

func (Dialect) TextType(_ int, compared bool) string {
	if compared {
		return `TEXT COLLATE "C"`
	}
	return "TEXT"
}

func (Dialect) IdleTimeout(milliseconds int64) string {
	return fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", milliseconds)
}

// History implements [dialect.Reader]. It needs no rights beyond those that everybody
// has. If the right on pg_control_system or pg_control_checkpoint was revoked, the cluster's identity is not
// known, nor is a standby's timeline. That is the one which it receives, as far as the role sees it (pg_monitor), or had at
// its last restart point, which can be an older one. A standby cannot lose commits that it has replayed.
// Databases that speak the protocol but lack these functions have no history.
func (d Dialect) History(ctx context.Context, db ceiling.Queryer, table []string, _ string) (dialect.History, error) {
	var name any
	if table != nil {
		name = dialect.QuoteAll(d, table)
	}
	h, err := readHistory(ctx, db, name, `(SELECT system_identifier::text FROM pg_control_system())`,
		`(SELECT GREATEST(timeline_id, (SELECT max(received_tli) FROM pg_stat_wal_receiver)) FROM pg_control_checkpoint())`)
	if dberr.SQLState(err) == "42501" {
		h, err = readHistory(ctx, db, name, `''`, `NULL::int`)
	}
	if state := dberr.SQLState(err); state == "42883" || state == "0A000" {
		return dialect.History{}, nil
	}
	return h, err
}

func readHistory(ctx context.Context, db ceiling.Queryer, name any, identifier, received string) (dialect.History, error) {
	var h dialect.History
	var cluster, timeline, database, oid string
	var writer float64
	err := db.QueryRowContext(ctx, `SELECT pg_is_in_recovery(), `+identifier+`,
		CASE WHEN pg_is_in_recovery() THEN COALESCE(lpad(upper(to_hex(`+received+`)), 8, '0'), '') ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
		(SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()), COALESCE(to_regclass($1::text)::oid::text, ''),
		CASE WHEN at % pg_size_bytes(current_setting('wal_segment_size')) = 40 THEN at - 40
			WHEN at % pg_size_bytes(current_setting('wal_block_size')) = 24 THEN at - 24 ELSE at END::text,
		(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn)::text,
		extract(epoch FROM current_setting('wal_writer_delay')::interval)::float8,
		`+bootExpr+`
		FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn AS at) AS log`, name).
		Scan(&h.Standby, &cluster, &timeline, &database, &oid, &h.Mark, &h.Flushed, &writer, &h.Boot)
	if oid != "" && !h.Standby { // a server that was not started again, and is not a standby, does not go back
		h.Same = fmt.Sprintf(" AND %s = '%s' AND (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) = %s AND %s::regclass = %s::oid",
			bootExpr, h.Boot, database, dialect.QuoteWith("'", fmt.Sprint(name)), oid)
	}
	// An asynchronous commit is on disk after three times the delay ("Asynchronous Commit" in the manual).
	h.Flushes = 3*time.Duration(writer*float64(time.Second)) + time.Second
	h.Parts = []dialect.HistoryPart{
		{Name: "cluster", Value: cluster, Changed: "the data source name leads to another server, or the server was initialised again, as by an upgrade"},
		{Name: "timeline", Value: strings.TrimLeft(timeline, "0"), Changed: "a standby was promoted, or the server was restored to a point in time; the last commits may be lost", AtLeast: h.Standby},
		{Name: "database", Value: database, Changed: "the data source name leads to another database, or the database was recreated"},
		{Name: "table", Value: oid, Changed: "the table was dropped and recreated, or another table took its name"},
	}
	return h, err
}

// Marks implements [dialect.Reader]. TRUNCATE, VACUUM FULL and ALTER TABLE give a table another file,
// and partitions and children come and go.
func (d Dialect) Marks(ctx context.Context, db ceiling.Queryer, table []string) (m dialect.Marks, err error) {
	if table == nil {
		return m, nil
	}
	var files string
	err = db.QueryRowContext(ctx, `WITH RECURSIVE tree(oid) AS (
			SELECT to_regclass($1::text)::oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
		) SELECT COALESCE(string_agg(pg_relation_filenode(oid)::text, ',' ORDER BY oid), '') FROM tree`, dialect.QuoteAll(d, table)).Scan(&files)
	if state := dberr.SQLState(err); state == "42883" || state == "0A000" {
		return m, nil
	}
	m.Parts = []dialect.HistoryPart{{Name: "files", Value: files, Changed: "the table was rewritten or emptied, or partitions or children were attached or detached"}}
	return m, err
}

// Unnoticed implements [dialect.Reader].
func (Dialect) Unnoticed() string {
	return "if the server's disk is restored, or the sequence is set back, by setval or by a move without it, and the keys pass the cursor again before the next poll, only delivered rows that are still there can show it (with a warning only: after setval, if few of them were replaced, or if no column tells rows apart)"
}

var fullRead = regexp.MustCompile(`^\s*(?:->\s+)?(?:Parallel )?(Seq Scan on .*|Sort|Incremental Sort)$`)

// Explain implements [dialect.Reader]. The plan is made as for a large table: scans and
// sorts that remain are there because an index is missing.
func (Dialect) Explain(ctx context.Context, db ceiling.Queryer, statement string, args []any, after bool) (lines []string, _ ceiling.Finding, err error) {
	err = inTransaction(ctx, db, func() error {
		lines, err = ceiling.Texts(ctx, db, "EXPLAIN (COSTS OFF) "+statement, args...)
		return err
	}, `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true), set_config('quote_all_identifiers', 'off', true)`)
	if errors.Is(err, errTransaction) {
		return nil, ceiling.Finding{Level: ceiling.Note, Text: "the plan is not shown: the connection ended when a transaction began, as a pooler with pool_mode = statement does"}, nil
	}
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

// Choose returns the ceiling that fits a table, by the type of the key's first column. Its
// Open may still refuse the table.
func (Dialect) Choose(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Ceiling, error) {
	if t.Name == "" { // which it refuses
		return LockFence{}, nil
	}
	types, err := ceiling.Texts(ctx, db, `SELECT format_type(atttypid, NULL) FROM pg_catalog.pg_attribute
		WHERE attrelid = to_regclass($1::text) AND attname = $2::text AND NOT attisdropped AND `+plainly, t.Name, t.Key[0].Name)
	if err != nil {
		return nil, fmt.Errorf("reading the type of the key: %w", err)
	}
	if slices.Contains(types, txRecipe.typ) {
		return TransactionID{}, nil
	}
	return LockFence{}, nil
}
