// Package mysql is what package sqlsource must know about MySQL and MariaDB.
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

// Short answers, each explained in package ceiling.

func (Dialect) Name() string       { return name }
func (Dialect) Limit(n int) string { return fmt.Sprintf("LIMIT %d", n) }
func (Dialect) Integer() string    { return "?" }

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
	v := ceiling.KeyValue{Select: "CAST(%s AS CHAR)", Argument: "?", Text: true}
	switch {
	case strings.HasSuffix(typ, "binary"), strings.HasSuffix(typ, "blob"):
		v.Select, v.Argument = "HEX(%s)", "UNHEX(?)"
	case typ == "decimal":
		v.Argument = "CAST(? AS DECIMAL(65,30))"
	case strings.HasSuffix(typ, "int"):
		v.Parse = integer
	}
	return v
}

func integer(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return n
	}
	return s
}

// Ceilings returns the ceilings of MySQL and MariaDB.
func (Dialect) Ceilings() []ceiling.Ceiling { return []ceiling.Ceiling{DirtyProbe{}} }

// Choose returns the ceiling that fits a table. Its Open may still refuse the table.
func (Dialect) Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return DirtyProbe{}, nil
}
