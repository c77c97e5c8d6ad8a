package sqlsource

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

type postgres struct{}

func (postgres) quote(name string) string { return quoteWith(`"`, name) }
func (postgres) explicit() bool           { return false }

var postgresKinds = map[string]row.Kind{
	"BOOL": row.Auto, "BYTEA": row.Bytes,
	"INT2": row.Number, "INT4": row.Number, "INT8": row.Number, "OID": row.Number, "XID": row.Number, "CID": row.Number, "NUMERIC": row.Number,
	"FLOAT4": row.Float32, "FLOAT8": row.Number,
	"JSON": row.JSON, "JSONB": row.JSONB,
	"DATE": row.Date, "TIME": row.Time, "TIMETZ": row.TimeTZ, "TIMESTAMP": row.Timestamp, "TIMESTAMPTZ": row.TimestampTZ,
	"1266": row.TimeTZ, // pgx has no name for it
}

func (postgres) column(c column, ref string) (row.Kind, string) {
	kind, ok := postgresKinds[c.typ]
	if !ok {
		kind = row.Text
	}
	if c.time && (kind == row.Time || kind == row.TimeTZ) { // lib/pq makes 24:00 another day's midnight
		return kind, ref + "::text"
	}
	return kind, ""
}

// key binds text: Postgres takes an argument for what it is compared with.
func (p postgres) key(_ context.Context, _ ceiling.Queryer, c column, ref string) (keyColumn, error) {
	kind, expr := p.column(c, ref)
	k := keyColumn{name: c.name, ref: ref, expr: expr, kind: kind, bind: asText}
	if kind == row.Auto {
		k.kind = row.Text
	}
	if kind == row.Bytes {
		k.bind = func(v value) (string, any, error) {
			b, err := v.bytes()
			return "%s", b, err
		}
	}
	return k, nil
}

func (postgres) after(columns []keyColumn, key []value, args *args) (string, error) {
	return compareRows(columns, " > ", key, args)
}

func (postgres) upTo(columns []keyColumn, key []value, args *args) (string, error) {
	return compareRows(columns, " <= ", key, args)
}

// notNull has all of the table's columns, those of the system too.
func (p postgres) notNull(ctx context.Context, db ceiling.Queryer, table []string) (map[string]bool, error) {
	return readNotNull(ctx, db,
		`SELECT attname::text, attnotnull FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass($1::text) AND NOT attisdropped`,
		quoteAll(p, table))
}

func (postgres) schema(context.Context, ceiling.Queryer, []string) (int64, error) { return 0, nil }

// history needs no rights but what everybody has, unless somebody took away that
// on pg_control_system, which costs the cluster's identity. On a standby nothing
// can be lost that it has replayed, and the timeline it is on is not to be had. Databases that speak as Postgres
// does but lack these functions have no history to be told.
//
// The WAL writer has an asynchronous commit on disk after three times its delay
// ("Asynchronous Commit" in the manual). What a transaction in progress has
// written since may stay in memory for much longer.
func (p postgres) history(ctx context.Context, db ceiling.Queryer, table []string) (history, error) {
	var name any
	if table != nil {
		name = quoteAll(p, table)
	}
	h, err := p.historyWith(ctx, db, name, `(SELECT system_identifier::text FROM pg_control_system())`)
	if sqlState(err) == "42501" {
		h, err = p.historyWith(ctx, db, name, `''`)
	}
	switch sqlState(err) {
	case "42883", "0A000":
		return history{}, nil
	}
	return h, err
}

func (postgres) historyWith(ctx context.Context, db ceiling.Queryer, name any, identifier string) (history, error) {
	var cluster, timeline, database, oid, mark, flushed, boot string
	var standby bool
	var writer float64
	err := db.QueryRowContext(ctx, `SELECT pg_is_in_recovery(), `+identifier+`,
		CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
		(SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()), COALESCE(to_regclass($1::text)::oid::text, ''),
		CASE WHEN at % pg_size_bytes(current_setting('wal_segment_size')) = 40 THEN at - 40
			WHEN at % pg_size_bytes(current_setting('wal_block_size')) = 24 THEN at - 24 ELSE at END::text,
		(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn)::text,
		extract(epoch FROM current_setting('wal_writer_delay')::interval)::float8,
		concat((extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, ' ', (extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::bigint)
		FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn AS at) AS log`, name). // a crash changes the time of the reset alone
		Scan(&standby, &cluster, &timeline, &database, &oid, &mark, &flushed, &writer, &boot)
	h := history{behind: standby, boot: boot, flushes: 3*time.Duration(writer*float64(time.Second)) + time.Second, parts: []historyPart{
		{"cluster", cluster, "the data source name leads to another server, or the server was set up anew, as by an upgrade"},
		{"timeline", strings.TrimLeft(timeline, "0"), "a standby was promoted, or the server was restored to a point in time; what was committed last may be lost"},
		{"database", database, "the data source name leads to another database, or it was made anew"},
		{"table", oid, "the table was dropped and made anew, or another one took its name"},
	}}
	if err == nil {
		h.mark, err = strconv.ParseUint(mark, 10, 64)
	}
	if err == nil {
		h.flushed, err = strconv.ParseUint(flushed, 10, 64)
	}
	return h, err
}

func (postgres) changed(err error) bool {
	switch sqlState(err) {
	case "0A000", // cached plan must not change result type
		"42703", "42883", "42P18": // a column is gone, or its type does not go with the argument
		return true
	}
	return false
}

func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

func quoteAll(d dialect, parts []string) string {
	quoted := make([]string, len(parts))
	for i, p := range parts {
		quoted[i] = d.quote(p)
	}
	return strings.Join(quoted, ".")
}

// bytes returns a binary key. At may have been given a string.
func (v value) bytes() ([]byte, error) {
	switch v.tag {
	case tagBytes:
		return hex.DecodeString(v.text)
	case tagText, tagGiven:
		return []byte(v.text), nil
	}
	return nil, errors.New("it is not binary, the column is")
}
