package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// pgTable is what Postgres says of a table, read with the rights of a plain role.
type pgTable struct {
	oid       int64
	kind      string // relkind: r, p, v, m, f
	version   int    // 150018
	standby   bool
	security  bool   // row-level security applies to us
	role      string // ours, quoted
	tree      []pgMember
	sequences []pgSequence
	triggers  []pgTrigger
	rules     bool
	published bool // rows come from a publisher of logical replication
	unique    bool // an index says that the key is
	indexed   bool // one begins with the key's columns
	bases     []string
	members   string // read first, so that any change since shows
}

// pgMember is the table, an ancestor of it, or a partition or child of those.
type pgMember struct {
	oid                   int64
	name                  string // quoted
	kind, persistence     string
	keyType, keyExact     string // of the key's first column, without and with its modifier
	identity              string // a: GENERATED ALWAYS, d: BY DEFAULT
	expr                  string // its default
	found, notNull, child bool
	ancestor              bool // its own rows are not read
}

// pgSequence is a sequence that the key's first column draws from.
type pgSequence struct {
	oid              int64
	name             string // quoted
	persistence      string
	cache, increment int64
	cycles, mayRead  bool
}

// pgTree is the statement for all tables whose inserts can reach the table $1:
// an insert into an ancestor draws the key before it locks a partition.
const pgTree = `WITH RECURSIVE up(oid) AS (
	SELECT $1::oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.oid
), tree(oid) AS (
	SELECT oid FROM up UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
)`

func probePostgres(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (*pgTable, error) {
	p := &pgTable{}
	err := db.QueryRowContext(ctx, `SELECT c.oid::bigint, c.relkind::text, row_security_active(c.oid), c.relhasrules,
		pg_is_in_recovery(), current_setting('server_version_num')::int, quote_ident(current_user)
		FROM pg_catalog.pg_class c WHERE c.oid = to_regclass($1::text)`, t.Name).
		Scan(&p.oid, &p.kind, &p.security, &p.rules, &p.standby, &p.version, &p.role)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("there is no table %s", t.Name)
	}
	if err == nil {
		err = db.QueryRowContext(ctx, strings.ReplaceAll(pgTree+" SELECT "+pgMembers, "$3", "$2"), p.oid, t.Name).Scan(&p.members)
	}
	for _, read := range []func(context.Context, ceiling.Queryer, ceiling.Table) error{p.readTree, p.readSequences, p.readTriggers, p.readIndexes, p.readBases} {
		if err == nil {
			err = read(ctx, db, t)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the database says of the table: %w", err)
	}
	return p, nil
}

func (p *pgTable) readTree(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		m := pgMember{}
		err := rows.Scan(&m.oid, &m.name, &m.kind, &m.persistence, &m.child, &m.ancestor, &m.found, &m.keyType, &m.keyExact, &m.notNull, &m.identity, &m.expr)
		p.tree = append(p.tree, m)
		return err
	}, pgTree+` SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relpersistence::text,
		c.oid <> $1::oid, c.oid <> $1::oid AND c.oid IN (SELECT oid FROM up), a.attnum IS NOT NULL, COALESCE(format_type(a.atttypid, NULL), ''), COALESCE(format_type(a.atttypid, a.atttypmod), ''), COALESCE(a.attnotnull, false),
		COALESCE(a.attidentity::text, ''), COALESCE(pg_get_expr(d.adbin, d.adrelid), '')
		FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $2::text AND NOT a.attisdropped
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		ORDER BY c.oid <> $1::oid, c.oid`, p.oid, t.Key[0].Name)
}

func (p *pgTable) readSequences(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		s := pgSequence{}
		err := rows.Scan(&s.oid, &s.name, &s.persistence, &s.cache, &s.increment, &s.cycles, &s.mayRead)
		p.sequences = append(p.sequences, s)
		return err
	}, pgTree+` SELECT DISTINCT s.oid::bigint, format('%I.%I', n.nspname, s.relname), s.relpersistence::text,
		q.seqcache, q.seqincrement, q.seqcycle, has_sequence_privilege(s.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
		FROM tree JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.oid AND a.attname = $2::text AND NOT a.attisdropped
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		JOIN pg_catalog.pg_depend e ON
			e.classid = 'pg_catalog.pg_attrdef'::regclass AND e.objid = d.oid AND e.refclassid = 'pg_catalog.pg_class'::regclass
			OR e.deptype = 'i' AND e.classid = 'pg_catalog.pg_class'::regclass AND e.refclassid = 'pg_catalog.pg_class'::regclass
				AND e.refobjid = a.attrelid AND e.refobjsubid = a.attnum
		JOIN pg_catalog.pg_class s ON s.relkind = 'S' AND s.oid IN (e.refobjid, e.objid)
		JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
		JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid`, p.oid, t.Key[0].Name)
}

func (p *pgTable) readIndexes(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	names := make([]string, len(t.Key))
	for i, k := range t.Key {
		names[i] = k.Name
	}
	return db.QueryRowContext(ctx, pgTree+`, key AS (
			SELECT array_agg(a.attnum::int ORDER BY k.n) AS columns FROM unnest($2::text[]) WITH ORDINALITY AS k(name, n)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::oid AND a.attname = k.name AND NOT a.attisdropped
		), indexes AS (
			SELECT i.indisunique, (string_to_array(i.indkey::text, ' ')::int[])[1:i.indnkeyatts] AS columns
			FROM pg_catalog.pg_index i WHERE i.indrelid = $1::oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
		)
		SELECT COALESCE(bool_or(i.indisunique AND i.columns <@ k.columns), false),
			COALESCE(bool_or(i.columns[1:cardinality(k.columns)] = k.columns), false),
			EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r JOIN tree ON tree.oid = r.srrelid)
		FROM key k LEFT JOIN indexes i ON true`, p.oid, pgArray(names)).Scan(&p.unique, &p.indexed, &p.published)
}

// readBases finds the tables that a view reads.
func (p *pgTable) readBases(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) error {
	if p.kind != "v" && p.kind != "m" {
		return nil
	}
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		p.bases = append(p.bases, name)
		return err
	}, `SELECT DISTINCT d.refobjid::regclass::text FROM pg_catalog.pg_rewrite r
		JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
			AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class
		WHERE r.ev_class = $1::oid ORDER BY 1`, p.oid)
}

// pgArray writes an array as every driver passes it on, as text.
func pgArray[T string | int64](items []T) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		switch v := any(item).(type) {
		case int64:
			quoted[i] = strconv.FormatInt(v, 10)
		case string:
			quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
		}
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// common adds what every strategy on Postgres has to say.
func (p *pgTable) common(r *ceiling.Report, t ceiling.Table) {
	switch p.kind {
	case "v":
		tables := "its tables"
		if len(p.bases) > 0 {
			tables = strings.Join(p.bases, ", ")
		}
		r.Add(ceiling.Unsafe, fmt.Sprintf("use a Query with Select: \"SELECT ... FROM %s\" and with Table set to the one of %s that has the key", t.Name, tables),
			"%s is a view: whose rows are added how, and which table draws the key, cannot be seen from it", t.Label)
	case "m":
		r.Add(ceiling.Unsafe, "read the tables it is made of", "%s is a materialized view: a refresh adds rows anywhere", t.Label)
	case "f":
		r.Add(ceiling.Unsafe, "read it where it is", "%s is a foreign table: its transactions are another server's", t.Label)
	}
	for _, m := range p.tree {
		switch {
		case m.kind == "f" && m.child:
			r.Add(ceiling.Unsafe, "detach it, or read the partitions one by one", "the partition %s is a foreign table: its transactions are another server's", m.name)
		case m.persistence == "u":
			r.Add(ceiling.Unsafe, "ALTER TABLE "+m.name+" SET LOGGED", "%s is unlogged: a crash empties it", m.name)
		case m.persistence == "t":
			r.Add(ceiling.Unsafe, "poll a table that other sessions can see", "%s is temporary", m.name)
		}
	}
	if p.security {
		r.Add(ceiling.Unsafe, "read as a role with BYPASSRLS, or as the table's owner", "row-level security applies to this role: rows appear and vanish by its policies, not by commits")
	}
	if len(p.tree) > 1 {
		r.Add(ceiling.OK, "", "%d tables are watched together: the table, its ancestors and all their partitions or children", len(p.tree))
	}
	if p.isTable() && !p.readable() {
		r.Add(ceiling.Unsafe, "have the Select give the table's columns of the key out under their own names", "the table has no column %q", t.Key[0].Name)
	}
	if !p.readable() {
		return
	}
	if p.indexed {
		r.Add(ceiling.OK, "", "an index begins with the key")
	} else {
		r.Add(ceiling.Warning, fmt.Sprintf("%s ON %s (%s)", p.createIndex(), t.Name, t.Columns()), "no index begins with the key (%s), and each poll may read the whole table", t.Columns())
	}
	if !p.unique {
		r.Add(ceiling.Note, "", "no unique index of the table says that the key (%s) is unique: two rows of one key, one behind the other, are an error, and may be found late", t.Columns())
	}
	if p.rules {
		r.Add(ceiling.Note, "", "the table has rules, which may turn an INSERT into something else")
	}
}

// readable reports whether it is a table whose rows are its own, with the key.
func (p *pgTable) readable() bool { return p.isTable() && p.tree[0].found }

func (p *pgTable) isTable() bool { return p.kind == "r" || p.kind == "p" }

// createIndex is how an index is made. That of a partitioned table cannot be made
// beside writers.
func (p *pgTable) createIndex() string {
	if p.kind == "p" {
		return "CREATE INDEX"
	}
	return "CREATE INDEX CONCURRENTLY"
}

// txColumn is how to give a table an xid8 column, the way out that always fits.
func (p *pgTable) txColumn(t ceiling.Table) string {
	if p.version < 130000 {
		return "upgrade to Postgres 13 or later, and give the table a column of the type xid8"
	}
	return fmt.Sprintf("ALTER TABLE %s ADD COLUMN _tx xid8 NOT NULL DEFAULT pg_current_xact_id(); %s ON %s (_tx, %s); and then Key _tx, %s",
		t.Name, p.createIndex(), t.Name, t.Columns(), strings.ReplaceAll(t.Columns(), `"`, ""))
}

var nextval = regexp.MustCompile(`^\(?nextval\('(?:[^']|'')*'::regclass\)\)?(::\w+)?$`)

// drawn adds whether the key is drawn by one sequence, in order.
func (p *pgTable) drawn(r *ceiling.Report, t ceiling.Table) {
	column := t.Key[0].Name
	own := p.tree[0]
	if !slices.Contains([]string{"bigint", "integer", "smallint"}, own.keyType) {
		fix := p.txColumn(t)
		if strings.HasPrefix(own.keyType, "timestamp") {
			fix += "; or " + stampTrigger(t, t.Key[0].Quoted)
		}
		r.Add(ceiling.Unsafe, fix, "the key begins with %q of the type %s, and no order of commits is known for that", column, own.keyType)
		return
	}
	for _, m := range p.tree {
		if m.expr != "" && !nextval.MatchString(m.expr) {
			r.Add(ceiling.Unsafe, p.txColumn(t), "the default of %q in %s is not simply the next value of a sequence", column, m.name)
		}
	}
	switch len(p.sequences) {
	case 0:
		r.Add(ceiling.Unsafe, p.txColumn(t), "no sequence draws %q: the column has neither an identity nor a nextval default, so its values are made by clients, or by a trigger", column)
		return
	case 1:
	default:
		var names []string
		for _, s := range p.sequences {
			names = append(names, s.name)
		}
		r.Add(ceiling.Unsafe, p.txColumn(t), "%q is drawn by several sequences: %s", column, strings.Join(names, ", "))
		return
	}
	s := p.sequences[0]
	if p.published {
		r.Add(ceiling.Unsafe, "read at the publisher; or give it a column _tx of the type xid8 that a trigger which is ENABLE ALWAYS sets to pg_current_xact_id()", "the table is filled by logical replication, which brings the publisher's keys in its own time")
	}
	before := len(r.Findings)
	if s.cache != 1 {
		r.Add(ceiling.Unsafe, fmt.Sprintf("ALTER SEQUENCE %s CACHE 1", s.name), "the sequence %s has CACHE %d: each session draws that many values ahead and uses them later", s.name, s.cache)
	}
	if s.increment != 1 {
		r.Add(ceiling.Unsafe, p.txColumn(t), "the sequence %s has INCREMENT %d: it is shared with other servers, or runs backwards", s.name, s.increment)
	}
	if s.cycles {
		r.Add(ceiling.Unsafe, fmt.Sprintf("ALTER SEQUENCE %s NO CYCLE", s.name), "the sequence %s has CYCLE and would begin anew below the cursor", s.name)
	}
	if s.persistence == "u" {
		r.Add(ceiling.Unsafe, fmt.Sprintf("ALTER SEQUENCE %s SET LOGGED", s.name), "the sequence %s is unlogged: after a crash it begins anew", s.name)
	}
	if len(r.Findings) == before {
		r.Add(ceiling.OK, "", "%q is drawn by the sequence %s: CACHE 1, INCREMENT 1, NO CYCLE", column, s.name)
	}
	if !s.mayRead {
		r.Add(ceiling.Warning, fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s", s.name, p.role), "the role may not read the sequence %s: keys made up by clients above it, and a setval below the cursor, cannot be seen", s.name)
	}
	if own.identity != "a" {
		r.Add(ceiling.Note, "", "the database lets clients give %q a value of their own: one below the greatest is missed (see Audit)", column)
	}
	p.setByTrigger(r, t, s)
}
