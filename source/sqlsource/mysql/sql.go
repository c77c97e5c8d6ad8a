package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// name is the databases' name, for messages.
const name = "MySQL or MariaDB"

// Dialect is the SQL of MySQL and MariaDB.
type Dialect struct{}

// Name implements [ceiling.SQL].
func (Dialect) Name() string { return name }

// Limit implements [ceiling.SQL].
func (Dialect) Limit(n int) string { return fmt.Sprintf("LIMIT %d", n) }

// Integer implements [ceiling.SQL].
func (Dialect) Integer() string { return "?" }

// KeyTypes implements [ceiling.SQL].
func (Dialect) KeyTypes(ctx context.Context, db ceiling.Queryer, t ceiling.Table) ([]string, error) {
	types := make([]string, len(t.Key))
	var schema any
	if len(t.Parts) == 2 {
		schema = t.Parts[0]
	}
	for i, k := range t.Key {
		err := db.QueryRowContext(ctx, `SELECT data_type FROM information_schema.columns
			WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND column_name = ?`, schema, t.Parts[len(t.Parts)-1], k.Name).Scan(&types[i])
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("reading the type of the key: %w", err)
		}
	}
	return types, nil
}

// Older implements [ceiling.SQL].
func (Dialect) Older(ref, typ string) string {
	switch typ {
	case "datetime", "timestamp":
		return ref + " < NOW(6) - INTERVAL ? MICROSECOND"
	case "date":
		return ref + " < DATE(NOW(6) - INTERVAL ? MICROSECOND)"
	}
	return ""
}

// KeyValue implements [ceiling.SQL]. It makes numbers of digits, because MySQL compares
// text and numbers as doubles.
func (Dialect) KeyValue(typ string) ceiling.KeyValue {
	v := ceiling.KeyValue{Select: "CAST(%s AS CHAR)", Argument: "?", Convert: text}
	switch {
	case strings.HasSuffix(typ, "binary"), strings.HasSuffix(typ, "blob"):
		v.Select, v.Argument = "HEX(%s)", "UNHEX(?)"
	case typ == "decimal":
		v.Argument = "CAST(? AS DECIMAL(65,30))"
	case strings.HasSuffix(typ, "int"):
		v.Convert = integer
	}
	return v
}

func text(v any) any {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return v
}

func integer(v any) any {
	s, ok := text(v).(string)
	if !ok {
		return v
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return n
	}
	return s
}
