package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Settings implements [dialect.Reader]. MariaDB and MySQL have each a way to set variables for one
// statement, and take the other's for a comment. A TIMESTAMP is written in the session's time zone,
// a CHAR with its trailing spaces if sql_mode says so, and GROUP_CONCAT is cut off.
func (Dialect) Settings(zone bool) dialect.Settings {
	const length = "1073741823"
	maria := "group_concat_max_len = " + length + ", sql_mode = REPLACE(@@sql_mode, 'PAD_CHAR_TO_FULL_LENGTH', '')"
	mysql := "SET_VAR(group_concat_max_len = " + length + ")"
	if zone {
		maria += ", time_zone = '+00:00'"
		mysql += " SET_VAR(time_zone = '+00:00')"
	}
	return dialect.Settings{Before: "/*M! SET STATEMENT " + maria + " FOR */ ", Hint: "/*+ " + mysql + " */ "}
}

// Session implements [dialect.Reader]. The server replaces a character that the connection's
// character set lacks by a question mark, and its utf8 has no emoji. So another character set is
// exchanged for utf8mb4, and set back afterwards.
func (Dialect) Session(ctx context.Context, conn *sql.Conn, _ bool, _ []string) (dialect.Session, error) {
	var client, results, collation string
	err := conn.QueryRowContext(ctx, "SELECT @@character_set_client, COALESCE(@@character_set_results, 'NULL'), @@collation_connection").Scan(&client, &results, &collation)
	if err != nil || client == "utf8mb4" && results == "utf8mb4" {
		return dialect.Plain, err
	}
	back := fmt.Sprintf("SET character_set_client = %s, character_set_results = %s, collation_connection = %s", client, results, collation)
	return func(ctx context.Context, conn *sql.Conn) (ceiling.Queryer, func(), error) {
		err := ceiling.Exec(ctx, conn, "SET NAMES utf8mb4")
		return conn, func() { ceiling.Restore(ctx, conn, back) }, err //nolint:errcheck // the connection has ended then
	}, nil
}

// wantUTC refuses a TIMESTAMP key in a session whose clock repeats an hour.
func wantUTC(ctx context.Context, db ceiling.Queryer, column string) error {
	var winter, summer int64
	var zone string
	err := db.QueryRowContext(ctx, "SELECT @@session.time_zone, UNIX_TIMESTAMP('2026-01-15 00:00:00'), UNIX_TIMESTAMP('2026-07-15 00:00:00')").Scan(&zone, &winter, &summer)
	if err != nil {
		return fmt.Errorf("reading the session's time zone: %w", err)
	}
	if winter != time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC).Unix() || summer != time.Date(2026, 7, 15, 0, 0, 0, 0, time.UTC).Unix() {
		return dialect.Permanent("the key column %q is a TIMESTAMP, and the session's time zone is %s, in which two moments can have one text; add time_zone=%%27%%2B00:00%%27 to the data source name", column, strconv.Quote(zone))
	}
	return nil
}
