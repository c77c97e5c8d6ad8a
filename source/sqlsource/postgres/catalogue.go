package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// relations sums the sizes of a table, its partitions and its children, all of which are read
// through it. A key is a unique index over columns, of all rows: one of a parent has none of its children's rows.
const relations = `WITH RECURSIVE tree(root, oid) AS (
		SELECT c.oid, c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
			AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
		UNION ALL SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
	), size AS (
		SELECT tree.root, sum(greatest(c.reltuples, s.n_live_tup, 0)) AS rows, sum(greatest(c.relpages, t.relpages, 0)) AS pages,
			bool_or(c.reltuples < 0 AND COALESCE(s.n_live_tup, 0) = 0 AND c.relkind IN ('r', 'm')) AS unknown
		FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
		LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid GROUP BY tree.root
	)
	SELECT n.nspname::text, c.relname::text, c.relkind::text, CASE WHEN size.unknown THEN -1 ELSE size.rows::bigint END,
		size.pages::bigint * current_setting('block_size')::bigint, COALESCE(key.names, 'null'), COALESCE(key.nulls, false),
		c.relkind = 'r' AND c.relhassubclass OR c.relkind = 'p' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate),
		CASE WHEN c.relkind IN ('r', 'm') AND NOT c.relhassubclass THEN 'ctid' ELSE '' END,
		has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
		pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE') OR r.rolsuper,
		(r.rolreplication OR r.rolsuper) AND current_setting('wal_level') = 'logical'
	FROM size JOIN pg_catalog.pg_class c ON c.oid = size.root JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_roles r ON r.rolname = current_user LEFT JOIN LATERAL (
		SELECT json_agg(a.attname ORDER BY k.n)::text AS names, bool_or(NOT a.attnotnull) AS nulls
		FROM pg_catalog.pg_index i, LATERAL unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, n)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
		WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate AND NOT (c.relkind = 'r' AND c.relhassubclass)
		GROUP BY i.indexrelid, i.indisprimary ORDER BY NOT i.indisprimary, 2, count(*), i.indexrelid LIMIT 1
	) AS key ON true ORDER BY 1, 2`

var relationKinds = map[string]string{"r": "table", "p": "table", "v": "view", "m": "materialized view", "f": "foreign table"}

// Relations implements [dialect.Catalogue].
func (Dialect) Relations(ctx context.Context, db ceiling.Queryer) (list []dialect.Relation, err error) {
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var r dialect.Relation
		var kind, key string
		if err := rows.Scan(&r.Schema, &r.Name, &kind, &r.Rows, &r.Bytes, &key, &r.Nulls, &r.Branches, &r.Place, &r.Grants.Read, &r.Grants.Trigger, &r.Grants.Log); err != nil {
			return err
		}
		r.Kind = relationKinds[kind]
		if kind == "v" || kind == "f" {
			r.Rows, r.Bytes = -1, -1
		}
		list = append(list, r)
		return json.Unmarshal([]byte(key), &list[len(list)-1].Key)
	}, relations)
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	return list, nil
}
