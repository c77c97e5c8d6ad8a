package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// paged says whether all values of a table and of its partitions are in their rows' pages: the TOAST
// relations are empty. A foreign table or a table that is not a heap has other storage.
const paged = `(WITH RECURSIVE tree(oid) AS (
		SELECT %[1]s::oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
	)
	SELECT bool_and(COALESCE(c.relkind IN ('r', 'p') AND c.relam IN (0, 2) AND (c.reltoastrelid = 0 OR pg_relation_size(c.reltoastrelid) = 0), false))
	FROM tree LEFT JOIN pg_catalog.pg_class c ON c.oid = tree.oid) AND current_setting('block_size') = '8192'`

// layout is text for the columns that a table has and had, as numbers. A server can have no md5.
const layout = `(SELECT string_agg(concat_ws(' ', attnum, hashtext(attname::text), atttypid, atttypmod), ',' ORDER BY attnum)
	FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attnum > 0)`

// Steady implements [dialect.Reader]. The executor evaluates the condition once, after the snapshot of
// the statement was taken. DESIGN.md of package sqlsource says what that proves. The name is a literal
// of the type regclass, because Postgres looks that up together with the name after FROM. A virtual
// generated column is stored nowhere.
func (d Dialect) Steady(ctx context.Context, db ceiling.Queryer, table []string) (string, error) {
	name := dialect.QuoteAll(d, table)
	if strings.ContainsAny(name, `'\$?`) { // it would need more than quotes in a literal
		return "", nil
	}
	const given = "to_regclass($1::text)"
	var columns sql.NullString
	err := db.QueryRowContext(ctx, "SELECT CASE WHEN "+fmt.Sprintf(paged, given)+
		" AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE attrelid = "+given+" AND to_jsonb(a)->>'attgenerated' = 'v') THEN "+fmt.Sprintf(layout, given)+" END", name).Scan(&columns)
	if err != nil || !columns.Valid {
		return "", err
	}
	literal := "'" + name + "'::regclass"
	return fmt.Sprintf(paged, literal) + " AND " + fmt.Sprintf(layout, literal) + " = '" + columns.String + "'", nil
}
