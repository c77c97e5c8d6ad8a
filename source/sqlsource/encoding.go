package sqlsource

import (
	"context"
	"fmt"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// utf8 for Postgres: pgx leaves client_encoding to the server's default, which
// is the encoding of the database. In SQL_ASCII there is nothing to convert.
func (postgres) utf8(ctx context.Context, db ceiling.Queryer) error {
	var client, server string
	err := db.QueryRowContext(ctx, `SELECT current_setting('client_encoding'), current_setting('server_encoding')`).Scan(&client, &server)
	if err != nil || client == "UTF8" || server == "SQL_ASCII" || client == "SQL_ASCII" && server == "UTF8" {
		return err
	}
	return retry.Permanent(fmt.Errorf("client_encoding is %s, and text would not arrive as UTF-8: set client_encoding=UTF8 in the DSN", client))
}

// utf8 for MySQL: the server puts a question mark in place of a character that
// the connection's character set has not, and its utf8 has no emoji.
func (mysql) utf8(ctx context.Context, db ceiling.Queryer) error {
	var results string
	err := db.QueryRowContext(ctx, `SELECT COALESCE(@@character_set_results, 'none')`).Scan(&results)
	if err != nil || results == "utf8mb4" {
		return err
	}
	return retry.Permanent(fmt.Errorf("the connection's character set is %s, and text would lose characters: set charset=utf8mb4 in the DSN", results))
}

// utf8 for SQLite: its drivers ask for UTF-8, whatever the file is in.
func (sqlite) utf8(context.Context, ceiling.Queryer) error { return nil }
