package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// table is what Postgres says about a table, read with the rights of a plain role.
type table struct {
	oid       int64
	kind      string // relkind: r, p, v, m, f
	version   int    // 150018
	standby   bool
	role      string // this role, quoted
	security  bool   // row-level security applies to it
	tree      []member
	columns   []column // of the root
	sequences []sequence
	triggers  []trigger
	rules     bool
	published bool // rows come from a publisher of logical replication
	indexes   []index
	bases     string // the tables that a view reads
	members   string // read first, so that any later change shows
}

// member is the table, an ancestor of it, or a partition or child of those.
type member struct {
	oid               int64
	name              string // with its schema, quoted
	schema, relation  string // the parts of the name, not quoted
	kind, persistence string
	keyType, keyExact string // of the key's first column, without and with its modifier
	identity          string // a: GENERATED ALWAYS, d: BY DEFAULT
	expr              string // the column's default
	found             bool
	child, partition  bool
	ancestor, top     bool // an ancestor's own rows are not read; top has no parent
}

type column struct {
	name, typ, expr string
	drawn           bool // it is an identity, or its default is the next value of a sequence
}

type index struct {
	table    int64  // its oid
	relation string // the index's name, not quoted
	name     string // with its schema, quoted
	valid    bool
	unique   bool // it says that the key is unique
	begins   bool // it begins with the key's columns
}

// sequence is a sequence that the key's first column draws from.
type sequence struct {
	oid              int64
	name             string // quoted
	draw             string // the default that draws from it, as pg_get_expr shows it
	persistence      string
	cache, increment int64
	cycles, mayRead  bool
}

// plainly is a condition, which is true. It lets names and types be written without needless quotes,
// whatever the session's settings say.
const plainly = `(SELECT set_config('quote_all_identifiers', 'off', true)) IS NOT NULL`

// treeOf begins a statement with all tables whose inserts can reach a table: an insert into an
// ancestor draws the key before it locks a partition.
func treeOf(oid string) string {
	return `WITH RECURSIVE up(oid) AS (
		SELECT ` + oid + ` UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.oid
	), tree(oid) AS (
		SELECT oid FROM up UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
	)`
}

// probe reads what strategies must know about a table. Its first statement reads membersExpr: what
// changes after it shows in that, and so does a table that is in the tree by the time of readTree.
func probe(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (*table, error) {
	p := &table{}
	err := db.QueryRowContext(ctx, treeOf("to_regclass($1::text)::oid")+` SELECT c.oid::bigint, c.relkind::text, row_security_active(c.oid), c.relhasrules,
		pg_is_in_recovery(), current_setting('server_version_num')::int, quote_ident(current_user),
		COALESCE((SELECT string_agg(DISTINCT d.refobjid::regclass::text, ', ') FROM pg_catalog.pg_rewrite r
			JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
				AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class
			WHERE r.ev_class = c.oid), ''),
		EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r JOIN tree ON r.srrelid = tree.oid), `+membersExpr("c.oid", "(SELECT array_agg(oid) FROM tree)")+`
		FROM pg_catalog.pg_class c WHERE c.oid = to_regclass($1::text) AND `+plainly, t.Name).
		Scan(&p.oid, &p.kind, &p.security, &p.rules, &p.standby, &p.version, &p.role, &p.bases, &p.published, &p.members)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("the table %s does not exist", t.Name)
	}
	for _, read := range []func(context.Context, ceiling.Queryer, ceiling.Table) error{p.readTree, p.readColumns, p.readSequences, p.readTriggers, p.readIndexes} {
		if err == nil {
			err = read(ctx, db, t)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the database says about the table: %w", err)
	}
	return p, nil
}

func (p *table) oids() (list []int64) {
	for _, m := range p.tree {
		list = append(list, m.oid)
	}
	return list
}

func (p *table) readTree(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (err error) {
	p.tree, err = ceiling.List(ctx, db, func(m *member) []any {
		return []any{&m.oid, &m.name, &m.schema, &m.relation, &m.kind, &m.persistence, &m.child, &m.partition, &m.ancestor, &m.top,
			&m.found, &m.keyType, &m.keyExact, &m.identity, &m.expr}
	}, treeOf("$1::oid")+` SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
		c.oid <> $1::oid, c.relispartition, c.oid <> $1::oid AND c.oid IN (SELECT oid FROM up), NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid), a.attnum IS NOT NULL, COALESCE(format_type(a.atttypid, NULL), ''), COALESCE(format_type(a.atttypid, a.atttypmod), ''),
		COALESCE(a.attidentity::text, ''), COALESCE(pg_get_expr(d.adbin, d.adrelid), '')
		FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $2::text AND NOT a.attisdropped
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE `+plainly+` ORDER BY c.oid <> $1::oid, c.oid`, p.oid, t.Key[0].Name)
	return err
}

// root is the table that a column must be added to: that of which it is a partition.
func (p *table) root() member {
	if own := p.tree[0]; !own.partition {
		return own
	}
	return p.tree[slices.IndexFunc(p.tree, func(m member) bool { return m.top })]
}

func (p *table) readColumns(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) (err error) {
	p.columns, err = ceiling.List(ctx, db, func(c *column) []any { return []any{&c.name, &c.typ, &c.expr, &c.drawn} },
		`SELECT a.attname::text, format_type(a.atttypid, NULL), COALESCE(pg_get_expr(d.adbin, d.adrelid), ''),
			a.attidentity <> '' OR COALESCE(pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\(''[^'']*''::regclass\)$', false)
		FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = $1::oid AND NOT a.attisdropped AND `+plainly, p.root().oid)
	return err
}

func (p *table) readSequences(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (err error) {
	p.sequences, err = ceiling.List(ctx, db, func(s *sequence) []any {
		return []any{&s.oid, &s.name, &s.draw, &s.persistence, &s.cache, &s.increment, &s.cycles, &s.mayRead}
	}, treeOf("$1::oid")+` SELECT DISTINCT s.oid::bigint, format('%I.%I', n.nspname, s.relname), format('nextval(%L::regclass)', s.oid::regclass::text), s.relpersistence::text,
		q.seqcache, q.seqincrement, q.seqcycle, has_sequence_privilege(s.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
		FROM tree JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.oid AND a.attname = $2::text AND NOT a.attisdropped
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		JOIN pg_catalog.pg_depend e ON
			e.classid = 'pg_catalog.pg_attrdef'::regclass AND e.objid = d.oid AND e.refclassid = 'pg_catalog.pg_class'::regclass
			OR e.deptype = 'i' AND e.classid = 'pg_catalog.pg_class'::regclass AND e.refclassid = 'pg_catalog.pg_class'::regclass
				AND e.refobjid = a.attrelid AND e.refobjsubid = a.attnum
		JOIN pg_catalog.pg_class s ON s.relkind = 'S' AND s.oid IN (e.refobjid, e.objid)
		JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
		JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid WHERE `+plainly, p.oid, t.Key[0].Name)
	return err
}

func (p *table) readIndexes(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (err error) {
	p.indexes, err = ceiling.List(ctx, db, func(i *index) []any {
		return []any{&i.table, &i.relation, &i.name, &i.valid, &i.unique, &i.begins}
	}, treeOf("$1::oid")+`, key AS (
			SELECT array_agg(a.attnum::int ORDER BY k.n) AS columns FROM unnest($2::text[]) WITH ORDINALITY AS k(name, n)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::oid AND a.attname = k.name AND NOT a.attisdropped
		)
		SELECT i.indrelid::bigint, c.relname::text, format('%I.%I', n.nspname, c.relname), i.indisvalid,
			COALESCE(own AND i.indisunique AND u.columns <@ key.columns, false), COALESCE(own AND u.columns[1:cardinality(key.columns)] = key.columns, false)
		FROM key, tree JOIN pg_catalog.pg_index i ON i.indrelid = tree.oid JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, LATERAL (
			SELECT i.indrelid = $1::oid AND i.indpred IS NULL AND i.indexprs IS NULL AS own, (string_to_array(i.indkey::text, ' ')::int[])[1:i.indnkeyatts] AS columns
		) AS u WHERE `+plainly+` ORDER BY 2`, p.oid, array(t.Names()))
	return err
}

// array writes an array as every driver passes it on, as text.
func array[T string | int64](items []T) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var quoted []string
	for _, item := range items {
		quoted = append(quoted, `"`+escape.Replace(fmt.Sprint(item))+`"`)
	}
	return "{" + strings.Join(quoted, ",") + "}"
}
