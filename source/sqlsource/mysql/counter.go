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

// counter is a table's AUTO_INCREMENT counter.
type counter struct {
	column string // the one that draws from it
	next   uint64 // the number that is drawn next, if none was drawn since
}

// readCounter reads the counter of a table by the parts of its name. ok is false if the table
// has none, or the role may not see the table.
//
// MySQL 8 keeps what information_schema shows of a counter for information_schema_stats_expiry
// seconds, a day by default. So the statement also returns that variable, and where it is not
// 0 it is set to 0 for the session, and the counter is read again. MariaDB has neither: it skips
// comments for versions of MySQL.
func readCounter(ctx context.Context, db ceiling.Queryer, parts []string) (c counter, ok bool, err error) {
	where := "TABLE_SCHEMA = DATABASE()"
	if len(parts) > 1 {
		where = "TABLE_SCHEMA = " + literal(parts[len(parts)-2])
	}
	where += " AND TABLE_NAME = " + literal(parts[len(parts)-1])
	statement := "SELECT AUTO_INCREMENT, (SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE " + where + " AND EXTRA LIKE '%auto_increment%')," +
		" 0 /*!80003 + @@session.information_schema_stats_expiry */ FROM information_schema.TABLES WHERE " + where
	for round := range 2 {
		var next sql.Null[uint64]
		var column sql.NullString
		var expiry int64
		err := db.QueryRowContext(ctx, statement).Scan(&next, &column, &expiry)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return c, false, nil
		case err != nil:
			return c, false, fmt.Errorf("reading the AUTO_INCREMENT counter: %w", err)
		case expiry == 0:
			return counter{column.String, next.V}, next.Valid && column.Valid, nil
		case round == 0:
			if err := exec(ctx, db, "SET SESSION information_schema_stats_expiry = 0"); err != nil {
				return c, false, fmt.Errorf("having the AUTO_INCREMENT counter read as it is: %w", err)
			}
		}
	}
	return c, false, errSpread
}

// literal writes a string. It is not an argument, because a statement with arguments is
// prepared first, which takes two more round trips.
func literal(s string) string {
	if strings.ContainsAny(s, `'\`) { // what a backslash means depends on sql_mode
		return "_utf8mb4 x'" + hex.EncodeToString([]byte(s)) + "'"
	}
	return "'" + s + "'"
}
