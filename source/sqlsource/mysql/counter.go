package mysql

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// readCounter returns the number that AUTO_INCREMENT draws next in a table, if it has drawn none
// since. ok is false if the table has no such counter, or the role may not see the table.
//
// The second column says for how long MySQL 8 may cache the counter; DESIGN-ceilings.md explains
// that. MariaDB skips comments for versions of MySQL.
func readCounter(ctx context.Context, db ceiling.Queryer, parts []string) (next uint64, ok bool, err error) {
	statement := "SELECT AUTO_INCREMENT, 0 /*!80003 + @@session.information_schema_stats_expiry */ FROM information_schema.TABLES WHERE " + isTable(parts)
	for round := range 2 {
		var next sql.Null[uint64]
		var expiry int64
		err := db.QueryRowContext(ctx, statement).Scan(&next, &expiry)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return 0, false, nil
		case err != nil:
			return 0, false, fmt.Errorf("reading the AUTO_INCREMENT counter: %w", err)
		case expiry == 0:
			return next.V, next.Valid, nil
		case round == 0:
			if err := exec(ctx, db, "SET SESSION information_schema_stats_expiry = 0"); err != nil {
				return 0, false, fmt.Errorf("switching off the cache of information_schema: %w", err)
			}
		}
	}
	return 0, false, errSpread
}

// isTable is the condition for a table's rows in information_schema. With literals the server
// opens that table alone. With arguments the statement would be prepared first, which takes two
// more round trips.
func isTable(parts []string) string {
	schema := "DATABASE()"
	if len(parts) > 1 {
		schema = literal(parts[len(parts)-2])
	}
	return "TABLE_SCHEMA = " + schema + " AND TABLE_NAME = " + literal(parts[len(parts)-1])
}

// literal writes a string.
func literal(s string) string {
	if strings.ContainsAny(s, `'\`) { // what a backslash means depends on sql_mode
		return "_utf8mb4 x'" + hex.EncodeToString([]byte(s)) + "'"
	}
	return "'" + s + "'"
}
