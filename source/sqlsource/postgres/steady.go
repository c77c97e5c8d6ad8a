package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// paged says whether all values of the rows of c are in their pages: its TOAST relation is empty. A
// foreign table or a table that is not a heap has other storage.
const paged = `c.relkind IN ('r', 'p') AND c.relam IN (0, 2) AND (c.reltoastrelid = 0 OR pg_relation_size(c.reltoastrelid) = 0) AND current_setting('block_size') = '8192'`

// single says that of a table without partitions, in a tenth of the time that tree takes.
const single = `(SELECT NOT c.relhassubclass AND ` + paged + ` FROM pg_catalog.pg_class c WHERE c.oid = %[1]s)`

// tree says that of a table and of its partitions.
const tree = `(WITH RECURSIVE tree(oid) AS (
		SELECT %[1]s::oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
	)
	SELECT bool_and(COALESCE(` + paged + `, false)) FROM tree LEFT JOIN pg_catalog.pg_class c ON c.oid = tree.oid)`

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
	var alone sql.NullBool
	err := db.QueryRowContext(ctx, "SELECT CASE WHEN "+fmt.Sprintf(tree, given)+
		" AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE attrelid = "+given+" AND to_jsonb(a)->>'attgenerated' = 'v') THEN "+fmt.Sprintf(layout, given)+" END, "+
		fmt.Sprintf(single, given), name).Scan(&columns, &alone)
	if err != nil || !columns.Valid {
		return "", err
	}
	stored, literal := tree, "'"+name+"'::regclass"
	if alone.Bool {
		stored = single
	}
	return fmt.Sprintf(stored, literal) + " AND " + fmt.Sprintf(layout, literal) + " = '" + columns.String + "'", nil
}
