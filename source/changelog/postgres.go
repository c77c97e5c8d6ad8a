package changelog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

type pgEngine struct{}

// pgName is the name of the table c in the schema n, quoted as pgQuoter does.
const pgName = `'"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"'`

// pgFacts are what only Postgres has.
type pgFacts struct {
	oid         int64
	partitioned bool
	leaves      []pgTable // the partitions with rows
	function    string    // the source of the function that the triggers call; "" without a function
	settings    string    // its settings, and whether it is SECURITY DEFINER
	triggers    []pgTrigger
}

type pgTable struct {
	oid  int64
	name string // for SQL
}

// pgColumn is what only Postgres has of a column.
type pgColumn struct {
	loose  bool   // the change table takes values of any type for it
	native string // its type if the change table has the values as text, because users can drop or alter the type
	enum   bool   // that type is an enum
}

// value converts text in the change table to the column's type. A label of an enum can be gone.
func (c pgColumn) value(text string) string {
	switch {
	case c.native == "":
		return text
	case c.enum:
		return fmt.Sprintf("CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_enum WHERE enumtypid = %s::regtype AND enumlabel = %s) THEN %[2]s::%[3]s END", dialect.QuoteWith("'", c.native), text, c.native)
	}
	return text + "::" + c.native
}

// exact reports whether equal values of the type in the change table have one text, unlike 1.0 and 1.00.
func (c column) exact() bool {
	return slices.Contains([]string{"bigint", "uuid", "boolean", "bytea", "date", "time without time zone", "timestamp without time zone", "timestamp with time zone"}, c.typ)
}

// pgTrigger is a trigger that calls the function.
type pgTrigger struct {
	table    int64
	of       string // the table's name for SQL
	name     string
	kind     int // the bits of tgtype
	enabled  string
	old, new string // the names of its transition tables
	plain    bool   // it has no WHEN and no columns
	clone    bool   // of a trigger of the partitioned table
}

// plainly is a condition, which is true. It makes names and types have their schema, and no needless quotes.
const plainly = `(SELECT concat(set_config('quote_all_identifiers', 'off', true), set_config('search_path', 'pg_catalog', true))) IS NOT NULL`

func (e pgEngine) probe(ctx context.Context, db ceiling.Queryer, t *Table, parts []string) (*facts, error) {
	f, p := &facts{label: t.Name}, &pgFacts{}
	f.more = p
	var kind, persistence, schema, name string
	var inherits, published, standby, forced, hidden bool
	err := db.QueryRowContext(ctx, `SELECT c.oid::bigint, c.relkind::text, c.relpersistence::text, n.nspname::text, c.relname::text,
		EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid AND c.relkind <> 'p' OR i.inhrelid = c.oid),
		EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r WHERE r.srrelid = c.oid), pg_is_in_recovery(), c.relforcerowsecurity, row_security_active(c.oid)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1::text)`,
		dialect.QuoteAll(pgQuoter, parts)).Scan(&p.oid, &kind, &persistence, &schema, &name, &inherits, &published, &standby, &forced, &hidden)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, permanent("%s: the table does not exist", t.Name)
	case err != nil:
		return nil, err
	}
	f.parts, f.schema, f.label = []string{schema, name}, schema, schema+"."+name
	p.partitioned = kind == "p"
	switch {
	case kind != "r" && kind != "p":
		return nil, refuse(f, "it is not a table, so it has no triggers that record changes; record those of the tables below it")
	case persistence != "p":
		return nil, refuse(f, "it is temporary or unlogged: a crash empties an unlogged table, and no trigger runs then")
	case inherits:
		return nil, refuse(f, "it inherits from another table, is inherited from, or is a partition; record the changes of the partitioned table, or of each table alone")
	case published:
		return nil, refuse(f, "a subscription writes to it, and logical replication runs no trigger for each statement; record the changes on the publisher")
	case forced:
		return nil, refuse(f, "row level security is forced on its owner, so the triggers may not see the rows; use NO FORCE ROW LEVEL SECURITY")
	case hidden:
		return nil, refuse(f, "row level security hides rows from the role, which would look deleted; give the role BYPASSRLS")
	case standby:
		return nil, refuse(f, "the server is a standby; read the change table of the primary")
	}
	for _, read := range []func(context.Context, ceiling.Queryer, *Table, *facts, *pgFacts) error{e.readColumns, e.readStore, e.readLeaves, e.readTriggers} {
		if err := read(ctx, db, t, f, p); err != nil {
			return nil, err
		}
	}
	f.choosePairs(pgQuoter, p.function)
	f.unrecorded("a statement that deletes a row in WITH and inserts its key again may be recorded in the other order")
	return f, nil
}

// pgQuoter quotes names before the dialect is known.
var pgQuoter = quoter(`"`)

type quoter string

// Quote implements a part of [dialect.Writer].
func (q quoter) Quote(name string) string { return dialect.QuoteWith(string(q), name) }

// readColumns reads the columns with the types that their values have in the change table: those
// of domains' bases, and without a limit, so that a column that becomes wider keeps its values. Types that
// users have created are text there, so that nothing depends on them.
func (pgEngine) readColumns(ctx context.Context, db ceiling.Queryer, t *Table, f *facts, p *pgFacts) error {
	type found struct {
		column
		virtual, notNull bool
		primary          int
	}
	all, err := ceiling.List(ctx, db, func(c *found) []any {
		return []any{&c.name, &c.typ, &c.pg.loose, &c.pg.native, &c.pg.enum, &c.virtual, &c.notNull, &c.primary, &c.equal}
	}, `WITH RECURSIVE base(attnum, type, mod) AS (
			SELECT attnum, atttypid, atttypmod FROM pg_catalog.pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped
			UNION SELECT b.attnum, t.typbasetype, t.typtypmod FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype = 'd'
		)
		SELECT a.attname::text, CASE WHEN b.type IN ('int2'::regtype, 'int4'::regtype) THEN 'bigint' WHEN b.type >= 16384 THEN 'text' ELSE format_type(b.type, -1) END,
			t.typcategory = 'S' OR b.type >= 16384, CASE WHEN b.type >= 16384 THEN format_type(b.type, -1) ELSE '' END, t.typtype = 'e',
			a.attgenerated = 'v', a.attnotnull, COALESCE(array_position(k.indkey::int[], a.attnum::int), -1),
			COALESCE((SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM pg_catalog.pg_opclass c
				JOIN pg_catalog.pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3
				JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
				WHERE c.oid = (SELECT x.indclass[array_position(x.indkey::int[], a.attnum::int)] FROM pg_catalog.pg_index x
					WHERE x.indrelid = $1::oid AND x.indisunique AND a.attnum = ANY (x.indkey::int[]) ORDER BY x.indisprimary DESC, x.indexrelid LIMIT 1)), '=')
		FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
		LEFT JOIN pg_catalog.pg_index k ON k.indrelid = $1::oid AND k.indisprimary
		WHERE a.attrelid = $1::oid AND `+plainly+` ORDER BY a.attnum`, p.oid)
	if err != nil {
		return err
	}
	var primary []string
	for n := 0; n < len(all); n++ {
		for _, c := range all {
			if c.primary == n {
				primary = append(primary, c.name)
			}
		}
	}
	for _, c := range all {
		f.columns = append(f.columns, c.column)
	}
	if err := f.keep(t, primary); err != nil {
		return err
	}
	for _, c := range all {
		recorded := slices.ContainsFunc(f.columns, func(k column) bool { return k.name == c.name })
		if recorded && c.virtual {
			return refuse(f, "the column %q is virtual: triggers do not see its values; name it in Omit, or set KeysOnly", c.name)
		}
		if slices.Contains(f.key, c.name) && !c.notNull {
			return refuse(f, "the column %q of the key may be NULL", c.name)
		}
	}
	return unique(ctx, db, f, `SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
		AND (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int[])[0:i.indnkeyatts - 1])) <@ $2::text[])`,
		p.oid, pgArray(f.key))
}

// unique refuses a key that no unique index guarantees.
func unique(ctx context.Context, db ceiling.Queryer, f *facts, statement string, args ...any) error {
	var ok bool
	if err := db.QueryRowContext(ctx, statement, args...).Scan(&ok); err != nil {
		return err
	}
	if !ok {
		return refuse(f, "no unique index says that the key (%s) tells rows apart", strings.Join(f.key, ", "))
	}
	return nil
}

func pgArray(names []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = `"` + escape.Replace(name) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

func (pgEngine) readStore(ctx context.Context, db ceiling.Queryer, t *Table, f *facts, _ *pgFacts) error {
	return f.findStore(t, 63, func(name string) ([]stored, error) {
		return readStored(ctx, db, `SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
			WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped AND `+plainly+` ORDER BY a.attnum`,
			dialect.QuoteAll(pgQuoter, []string{f.schema, name}))
	})
}

// readLeaves reads the partitions that hold rows.
func (pgEngine) readLeaves(ctx context.Context, db ceiling.Queryer, _ *Table, f *facts, p *pgFacts) (err error) {
	if !p.partitioned {
		return nil
	}
	p.leaves, err = ceiling.List(ctx, db, func(l *pgTable) []any { return []any{&l.oid, &l.name} },
		`WITH RECURSIVE tree(oid) AS (
			SELECT $1::oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
		) SELECT c.oid::bigint, `+pgName+` FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid AND c.relkind <> 'p'
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE `+plainly+` ORDER BY 2`, p.oid)
	f.unseen = "rows that come or go with a partition, by ATTACH, DETACH or DROP, are not changes, and neither is a TRUNCATE of a partition that is newer than the script's last run"
	return err
}

func (pgEngine) readTriggers(ctx context.Context, db ceiling.Queryer, _ *Table, f *facts, p *pgFacts) error {
	name := f.qualified(f.store.object("_record")) + "()"
	err := db.QueryRowContext(ctx, `SELECT p.prosrc, CASE WHEN p.prosecdef THEN 'definer ' ELSE '' END || COALESCE(array_to_string(p.proconfig, ';'), '')
		FROM pg_catalog.pg_proc p WHERE p.oid = to_regprocedure($1::text)`, name).Scan(&p.function, &p.settings)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	p.triggers, err = ceiling.List(ctx, db, func(g *pgTrigger) []any {
		return []any{&g.table, &g.of, &g.name, &g.kind, &g.enabled, &g.old, &g.new, &g.plain, &g.clone}
	}, `SELECT g.tgrelid::bigint, `+pgName+`, g.tgname::text, g.tgtype::int, g.tgenabled::text, COALESCE(g.tgoldtable::text, ''), COALESCE(g.tgnewtable::text, ''),
		g.tgqual IS NULL AND g.tgattr::text = '', g.tgtype & 1 = 1 AND g.tgrelid <> $2::oid
		FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE g.tgfoid = to_regprocedure($1::text) AND `+plainly+` ORDER BY 1, 3`, name, p.oid)
	return err
}

// qualified quotes a name in the schema of the change table.
func (f *facts) qualified(name string) string {
	q := quoter(`"`)
	if f.schema == "" {
		return q.Quote(name)
	}
	return dialect.QuoteAll(q, []string{f.schema, name})
}

// wanted returns the triggers that must exist.
func (pgEngine) wanted(f *facts, p *pgFacts) (list []pgTrigger) {
	const row, before, insert, deletes, update, truncate = 1, 2, 4, 8, 16, 32
	own := dialect.QuoteAll(pgQuoter, f.parts)
	add := func(table int64, of, suffix string, kind int, old, new string) {
		list = append(list, pgTrigger{table: table, of: of, name: f.store.object(suffix), kind: kind, enabled: "A", old: old, new: new, plain: true})
	}
	if p.partitioned {
		add(p.oid, own, "_row", row|insert|deletes|update, "", "")
		for _, l := range p.leaves {
			add(l.oid, l.name, "_truncate", before|truncate, "", "")
		}
		return list
	}
	add(p.oid, own, "_insert", insert, "", "new_rows")
	add(p.oid, own, "_update", update, "old_rows", "new_rows")
	add(p.oid, own, "_delete", deletes, "old_rows", "")
	add(p.oid, own, "_truncate", truncate, "", "")
	return list
}

func (e pgEngine) wrong(f *facts) (wrong []finding) {
	p := f.more.(*pgFacts)
	add := func(gap bool, format string, args ...any) {
		wrong = append(wrong, finding{fmt.Sprintf(format, args...), gap})
	}
	for _, want := range e.wanted(f, p) {
		i := slices.IndexFunc(p.triggers, func(g pgTrigger) bool { return g.table == want.table && g.name == want.name })
		switch {
		case i < 0 && p.partitioned && strings.HasSuffix(want.name, "_truncate"): // of a new partition; the guarantee says so
		case i < 0:
			add(true, "the trigger %s of %s is missing", want.name, want.of)
		case p.triggers[i].enabled != "A":
			add(true, "the trigger %s of %s is disabled, or does not run for all sessions (session_replication_role)", want.name, want.of)
		case p.triggers[i] != want:
			add(true, "the trigger %s of %s was changed", want.name, want.of)
		}
	}
	if p.partitioned {
		for _, l := range p.leaves {
			if !slices.ContainsFunc(p.triggers, func(g pgTrigger) bool { return g.table == l.oid && g.clone && g.enabled == "A" }) {
				add(true, "the trigger of the partition %s is missing or disabled", l.name)
			}
		}
	}
	switch {
	case p.function == "":
		add(true, "the function %s does not exist", f.store.object("_record"))
	case !strings.HasPrefix(p.settings, "definer search_path=pg_catalog, pg_temp") || !strings.HasPrefix(spaced(p.function), spaced(bodyStart)) || !strings.Contains(spaced(p.function), spaced("INSERT INTO "+f.qualified(f.store.name)+" (")):
		add(true, "the function %s was replaced", f.store.object("_record"))
	case spaced(p.function) != spaced(e.body(f, p)) || p.settings != "definer "+strings.ReplaceAll(f.settings("%s=%s", ";"), "'", ""):
		add(false, "the function %s is not that of the table's present columns and key", f.store.object("_record"))
	}
	return wrong
}
