// Package postgres is what package sqlsource must know about Postgres.
package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// name is the database's name, for messages.
const name = "Postgres"

// Dialect is the SQL of Postgres.
type Dialect struct{}

var _ dialect.Dialect = Dialect{}

// Short answers, each explained in package ceiling or dialect.

func (Dialect) Name() string             { return name }
func (Dialect) Limit(n int) string       { return fmt.Sprintf("LIMIT %d", n) }
func (Dialect) Integer() string          { return "?::bigint" }
func (Dialect) DriverNames() []string    { return []string{"pgx", "pgx/v4", "pgx/v5", "postgres", "pq"} }
func (Dialect) DriverPackages() []string { return []string{"jackc/pgx", "lib/pq"} }
func (Dialect) Quote(name string) string { return dialect.QuoteWith(`"`, name) }
func (Dialect) Placeholder(n int) string { return fmt.Sprintf("$%d", n) }
func (Dialect) ListsColumns() bool       { return false }
func (Dialect) CeilingsSeeIndexes() bool { return true }
func (Dialect) LockRows() string         { return "FOR UPDATE" }
func (Dialect) SchemaVersion(context.Context, ceiling.Queryer, []string) (int64, error) {
	return 0, nil
}
func (Dialect) CreateTable(table, columns string) string {
	return "CREATE TABLE IF NOT EXISTS " + table + " (" + columns + ")"
}

// Compare implements [dialect.Writer].
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

// Column implements [dialect.Reader].
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

// Key implements [dialect.Reader]. It binds text, which Postgres takes for the type of the
// column that it is compared with.
func (d Dialect) Key(_ context.Context, _ ceiling.Queryer, c dialect.Column, ref string) (dialect.KeyColumn, error) {
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

// CheckSession implements [dialect.Reader]. pgx leaves client_encoding to the server's
// default, which is the database's encoding. In SQL_ASCII there is nothing to convert.
func (Dialect) CheckSession(ctx context.Context, db ceiling.Queryer) error {
	var client, server string
	err := db.QueryRowContext(ctx, `SELECT current_setting('client_encoding'), current_setting('server_encoding')`).Scan(&client, &server)
	if err != nil || client == "UTF8" || server == "SQL_ASCII" || client == "SQL_ASCII" && server == "UTF8" {
		return err
	}
	return dialect.Permanent("client_encoding is %s, and text would not arrive as UTF-8: set client_encoding=UTF8 in the DSN", client)
}

// NotNull implements [dialect.Reader]. It returns all of the table's columns, the system's
// too. If no column is called f, Postgres takes t.f for a function such as row_to_json(t).
func (d Dialect) NotNull(ctx context.Context, db ceiling.Queryer, table, named []string) (map[string]bool, error) {
	all, err := dialect.ReadNotNull(ctx, db,
		`SELECT attname::text, attnotnull FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass($1::text) AND NOT attisdropped`,
		dialect.QuoteAll(d, table))
	for _, name := range named {
		if _, ok := all[name]; !ok && len(all) > 0 && err == nil {
			err = dialect.Permanent("the table has no column %q", name)
		}
	}
	return all, err
}

// ColumnsChanged implements [dialect.Reader].
func (Dialect) ColumnsChanged(err error) bool {
	switch dberr.SQLState(err) {
	case "0A000", // cached plan must not change result type
		"42703", "42883", "42P18": // a column is gone, or its type does not go with the argument
		return true
	}
	return false
}

// RefusedValue implements [dialect.Reader].
func (Dialect) RefusedValue(err error) bool {
	refused := []string{"22P02", "22P03", "22P05", "22003", "22007", "22008", "22009", "22021", "42804"}
	return slices.Contains(refused, dberr.SQLState(err))
}

// TextType implements [dialect.Checkpoints].
func (Dialect) TextType(_ int, compared bool) string {
	if compared {
		return `TEXT COLLATE "C"`
	}
	return "TEXT"
}

// IdleTimeout implements [dialect.Checkpoints].
func (Dialect) IdleTimeout(milliseconds int64) string {
	return fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", milliseconds)
}

// KeyTypes implements [ceiling.SQL].
func (Dialect) KeyTypes(ctx context.Context, db ceiling.Queryer, t ceiling.Table) ([]string, error) {
	types := make([]string, len(t.Key))
	for i, k := range t.Key {
		err := db.QueryRowContext(ctx, `SELECT COALESCE((SELECT format_type(atttypid, NULL) FROM pg_catalog.pg_attribute
			WHERE attrelid = to_regclass($1::text) AND attname = $2::text AND NOT attisdropped), '')`, t.Name, k.Name).Scan(&types[i])
		if err != nil {
			return nil, fmt.Errorf("reading the type of the key: %w", err)
		}
	}
	return types, nil
}

// Older implements [ceiling.SQL].
func (Dialect) Older(ref, typ string) string {
	const ago = " - ?::bigint * interval '1 microsecond'"
	switch typ {
	case "timestamp with time zone":
		return ref + " < statement_timestamp()" + ago
	case "timestamp without time zone":
		return ref + " < statement_timestamp()::timestamp" + ago
	case "date":
		return ref + " < (statement_timestamp()" + ago + ")::date"
	}
	return ""
}

// KeyValue implements [ceiling.SQL]. Postgres takes text for the type of the column that it is compared with.
func (Dialect) KeyValue(string) ceiling.KeyValue {
	return ceiling.KeyValue{Select: "%s::text", Argument: "?", Text: true}
}

// Ceilings returns the ceilings of Postgres.
func (Dialect) Ceilings() []ceiling.Ceiling {
	return []ceiling.Ceiling{LockFence{}, TransactionID{}, Stamp{}}
}

// Choose returns the ceiling that fits a table, by the type of the key's first column. Its
// Open may still refuse the table.
func (Dialect) Choose(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Ceiling, error) {
	if t.Name == "" { // which it refuses
		return LockFence{}, nil
	}
	types, err := Dialect{}.KeyTypes(ctx, db, t)
	if err != nil {
		return nil, err
	}
	if types[0] == txRecipe.typ {
		return TransactionID{}, nil
	}
	return LockFence{}, nil
}
