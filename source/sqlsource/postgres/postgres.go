// Package postgres is what package sqlsource must know about Postgres.
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

// Short answers, each explained in package ceiling.

func (Dialect) Name() string       { return name }
func (Dialect) Limit(n int) string { return fmt.Sprintf("LIMIT %d", n) }
func (Dialect) Integer() string    { return "?::bigint" }

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
	switch {
	case err != nil:
		return nil, err
	case types[0] == "xid8":
		return TransactionID{}, nil
	}
	return LockFence{}, nil
}
