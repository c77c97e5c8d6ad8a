package postgres

import (
	"context"
	"fmt"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// name is the database's name, for messages.
const name = "Postgres"

// Dialect is the SQL of Postgres.
type Dialect struct{}

// Name implements [ceiling.SQL].
func (Dialect) Name() string { return name }

// Limit implements [ceiling.SQL].
func (Dialect) Limit(n int) string { return fmt.Sprintf("LIMIT %d", n) }

// Integer implements [ceiling.SQL].
func (Dialect) Integer() string { return "?::bigint" }

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
	switch typ {
	case "timestamp with time zone":
		return ref + " < statement_timestamp() - ?::bigint * interval '1 microsecond'"
	case "timestamp without time zone":
		return ref + " < statement_timestamp()::timestamp - ?::bigint * interval '1 microsecond'"
	case "date":
		return ref + " < (statement_timestamp() - ?::bigint * interval '1 microsecond')::date"
	}
	return ""
}

// KeyValue implements [ceiling.SQL]. Postgres takes text for what it is compared with.
func (Dialect) KeyValue(string) ceiling.KeyValue {
	return ceiling.KeyValue{Select: "%s::text", Argument: "?", Convert: func(v any) any {
		if b, ok := v.([]byte); ok {
			return string(b)
		}
		return v
	}}
}
