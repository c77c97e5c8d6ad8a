package pglog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// table is one of the publication.
type table struct {
	id           int64
	schema, name string
	identity     string // relreplident
	partitioned  bool
	children     bool     // other tables inherit from it, and are separate tables in the log
	key          []string // of the replica identity, or else the primary key
	columns      []string // those in the log
	filter       string   // the publication's condition for rows
	hidden       bool     // row-level security hides rows from the role
	differing    []string // partitions whose replica identity differs from that of the table
}

// label is the table's name in changes and messages.
func (t table) label() string { return tableName(t.schema, t.name) }

// identityColumns is an expression for the columns that identify the rows of a table in pg_class, NULL for none or all.
func identityColumns(class string) string {
	return `(SELECT array_agg(a.attname ORDER BY a.attname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
		WHERE i.indrelid = ` + class + `.oid AND i.indimmediate AND CASE ` + class + `.relreplident WHEN 'i' THEN i.indisreplident WHEN 'd' THEN i.indisprimary END)`
}

// With publish_via_partition_root, the log has the identity of the root, and the values of that of the partition.
var tablesQuery = `SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relreplident::text, c.relkind = 'p', c.relhassubclass AND c.relkind = 'r', row_security_active(c.oid),
	COALESCE((SELECT json_agg(a.attname ORDER BY k.n) FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indrelid = c.oid AND k.n <= i.indnkeyatts AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate ELSE i.indisprimary END)::text, '[]'),
	COALESCE((SELECT json_agg(a.attname ORDER BY a.attnum)::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		AND (a.attgenerated = '' OR current_setting('server_version_num')::int >= 180000) AND COALESCE(to_jsonb(p)->'attnames' @> to_jsonb(a.attname::text), true)), '[]'),
	COALESCE(to_jsonb(p)->>'rowfilter', ''), COALESCE((SELECT json_agg(json_build_array(ln.nspname, l.relname) ORDER BY ln.nspname, l.relname) FROM pg_partition_tree(c.oid) AS tree
		JOIN pg_catalog.pg_class l ON l.oid = tree.relid AND l.relkind = 'r' JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace
		WHERE c.relkind = 'p' AND l.relreplident <> 'f' AND (c.relreplident = 'f' OR ` + identityColumns("l") + ` IS DISTINCT FROM ` + identityColumns("c") + `))::text, '[]')
	FROM pg_catalog.pg_publication_tables p JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname
	JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
	WHERE p.pubname = $1::text ORDER BY c.oid`

// readTables returns the publication's tables that the source reads, in the order of their ids.
func (s *Source) readTables(ctx context.Context) (list []table, err error) {
	var all []table
	err = s.catalog(ctx, func(db session) error {
		return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
			var t table
			var key, columns, differing string
			var partitions [][2]string
			err := rows.Scan(&t.id, &t.schema, &t.name, &t.identity, &t.partitioned, &t.children, &t.hidden, &key, &columns, &t.filter, &differing)
			if err == nil {
				err = errors.Join(json.Unmarshal([]byte(key), &t.key), json.Unmarshal([]byte(columns), &t.columns), json.Unmarshal([]byte(differing), &partitions))
			}
			for _, p := range partitions {
				t.differing = append(t.differing, tableName(p[0], p[1]))
			}
			all = append(all, t)
			return err
		}, tablesQuery, s.Publication)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the tables of the publication: %w", err)
	}
	if s.Tables == nil {
		return all, nil
	}
	for _, name := range s.Tables {
		i := slices.IndexFunc(all, func(t table) bool { return t.named(name) })
		if i < 0 {
			return nil, retry.Permanent(fmt.Errorf("%w: %s is not a table of the publication %s: it was dropped or renamed, taken out, or never added; correct Tables, or ALTER PUBLICATION ... ADD TABLE", ErrTables, name, s.Publication))
		}
		list = append(list, all[i])
	}
	slices.SortFunc(list, func(a, b table) int { return int(a.id - b.id) })
	return list, nil
}

// named reports whether a name from Tables is the table's: public.orders, or with each part in quotes.
func (t table) named(name string) bool {
	quote := postgres.Dialect{}.Quote
	return slices.Contains([]string{t.label(), t.schema + "." + t.name, quote(t.schema) + "." + quote(t.name)}, name) || t.schema == "public" && name == t.name
}

// identified returns an error if changes of a table do not name their rows. Postgres then refuses
// the application's UPDATE and DELETE.
func identified(tables []table) error {
	var bad, differing []string
	for _, t := range tables {
		differing = append(differing, t.differing...)
		if t.identity == "n" || t.identity != "f" && len(t.key) == 0 {
			bad = append(bad, t.label())
		}
	}
	switch {
	case bad == nil && differing == nil:
		return nil
	case bad == nil:
		return retry.Permanent(fmt.Errorf("%w: the partitions %s have another replica identity than their table, so that the log does not have the keys of the table, or Postgres refuses UPDATE and DELETE: ALTER TABLE ... REPLICA IDENTITY FULL for each",
			ErrIdentity, strings.Join(differing, ", ")))
	}
	return retry.Permanent(fmt.Errorf("%w: %s. As long as the publication has such a table, Postgres refuses each UPDATE and DELETE of it: ALTER TABLE ... REPLICA IDENTITY FULL, or USING INDEX with a unique index of columns that are NOT NULL, or take the table out of the publication",
		ErrIdentity, strings.Join(bad, ", ")))
}

// fingerprint identifies a list of tables.
func fingerprint(tables []table) string {
	h := fnv.New64a()
	for _, t := range tables {
		fmt.Fprintln(h, t.id, t.key)
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// wanted returns which tables are read: by their ids, so that a table that is renamed stays one of them, and by the
// names that they had in the log, so that the changes before another table took a name are read.
func (s *Source) wanted() func(layout) bool {
	if s.Tables == nil {
		return func(layout) bool { return true }
	}
	ids := map[uint32]bool{}
	for _, t := range s.tables {
		ids[uint32(t.id)] = true
	}
	return func(l layout) bool {
		return ids[l.id] || slices.ContainsFunc(s.Tables, table{schema: l.schema, name: l.name}.named)
	}
}
