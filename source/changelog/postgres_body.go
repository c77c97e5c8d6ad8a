package changelog

import (
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// pgBody writes the function that the triggers call. DESIGN.md says why its statements have their form.
type pgBody struct {
	*facts
	old, new string // where the rows before and after come from
	table    string // its id, as SQL
	rowwise  bool   // the triggers run for each row
}

// bodyStart is how the source of each version of the function begins.
const bodyStart = `
#variable_conflict use_column
DECLARE
  same bigint;
`

// body returns the function's source. Its statements are parsed when they are first executed, so those that
// an altered column would make fail are not executed: the keys are recorded instead.
func (pgEngine) body(f *facts, p *pgFacts) string {
	b := pgBody{facts: f, old: "old_rows", new: "new_rows", table: "to_regclass(" + dialect.QuoteWith("'", dialect.QuoteAll(pgQuoter, f.parts)) + ")"}
	if p.partitioned { // without a table in it, a statement would not be planned again after ALTER TABLE
		planned := " WHERE NOT EXISTS (SELECT FROM " + dialect.QuoteAll(pgQuoter, f.parts) + " WHERE false))"
		b.old, b.new, b.rowwise = "(SELECT OLD.*"+planned, "(SELECT NEW.*"+planned, true
	}
	insert, update, deletes := b.one(opInsert, "n", b.new), b.moved(), b.one(opDelete, "o", b.old)
	truncate := b.truncated()
	own := b.table + " = TG_RELID"
	if p.partitioned {
		truncate, own = b.emptied(), "EXISTS (SELECT FROM pg_partition_ancestors(TG_RELID) AS a(oid) WHERE a.oid = "+b.table+")"
	} else {
		update = b.paired()
	}
	check := "nested"
	if b.rowwise {
		check = "true"
	}
	return bodyStart + fmt.Sprintf(`  nested boolean;
  fit boolean := true;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    %s
    RETURN NULL;
  END IF;
  IF pg_trigger_depth() > 1 THEN
    PERFORM set_config('devotion.nested', 'on', true);
  END IF;
  nested := coalesce(current_setting('devotion.nested', true) = 'on', false);
  IF %s THEN
    fit := coalesce(%s AND has_table_privilege(%[4]s, 'SELECT') AND NOT row_security_active(%[4]s), false);
  END IF;
  IF TG_OP = 'INSERT' THEN
    %[5]s
  ELSIF TG_OP = 'DELETE' THEN
    %[6]s
  ELSE
    %[7]s
  END IF;
  RETURN NULL;
END
`, truncate, check, own, b.table, b.branch(insert, "NEW"), b.branch(deletes, "OLD"), b.branch(update, "OLD", "NEW"))
}

// branch is what is done after a statement: plain, or what records the state or the keys of the changed rows.
func (b pgBody) branch(plain string, changed ...string) string {
	var from []string
	for _, rows := range changed {
		from = append(from, map[string]string{"OLD": b.old, "NEW": b.new}[rows])
	}
	return fmt.Sprintf(`IF fit THEN
      fit := %s;
    END IF;
    IF NOT fit THEN
      %s
    ELSIF nested THEN
      %s
    ELSE
      %s
    END IF;`, b.fits(b.columns, from[0], true), b.lookUp(changed, from), b.state(from...), plain)
}

func (b pgBody) into() string { return b.qualified(b.store.name) }

// names lists the columns of the change table for values before or after.
func (b pgBody) names(of func(column) string, columns []column) string {
	return list(columns, ", ", func(c column) string { return pgQuoter.Quote(of(c)) })
}

// empty is one row of NULLs with the names and types of the columns. Next to a table in which a column
// was dropped or renamed, the column's name means the one here, so that no write fails.
func (b pgBody) empty(columns []column) string {
	return "(SELECT " + list(columns, ", ", func(c column) string { return "NULL::" + c.typ + " AS " + pgQuoter.Quote(c.name) }) + ")"
}

// rows reads columns from a transition table or a record, as alias(c1, c2, ...). More columns can
// stand in front.
func (b pgBody) rows(columns []column, from, more string) string {
	names := list(columns, ", ", func(c column) string { return pgQuoter.Quote(c.name) })
	return fmt.Sprintf("(SELECT x.* FROM %s AS d CROSS JOIN LATERAL (SELECT %s%s FROM %s AS r) AS x)", b.empty(columns), more, names, from)
}

// numbered names the columns of rows: c1, c2, ...
func numbered(columns []column, prefix string) string {
	i := 0
	return list(columns, ", ", func(column) string { i++; return fmt.Sprint(prefix, i) })
}

// one records rows that were inserted or deleted.
func (b pgBody) one(op, alias, from string) string {
	of := b.store.new
	if op == opDelete {
		of = b.store.old
	}
	return fmt.Sprintf("INSERT INTO %s (op, width, %s) SELECT '%s', %d, %s.* FROM %s AS %[5]s;",
		b.into(), b.names(of, b.columns), op, b.width(), alias, b.rows(b.columns, from, ""))
}

// both is the beginning of a statement that records rows before and after.
func (b pgBody) both() string {
	return fmt.Sprintf("INSERT INTO %s (op, width, %s, %s) SELECT", b.into(), b.names(b.store.old, b.columns), b.names(b.store.new, b.columns))
}

// moved records one row that was updated.
func (b pgBody) moved() string {
	return fmt.Sprintf("%s '%s', %d, o.*, n.* FROM %s AS o CROSS JOIN %s AS n;", b.both(), opUpdate, b.width(), b.rows(b.columns, b.old, ""), b.rows(b.columns, b.new, ""))
}

// same is the condition that two rows have one key. left and right are prefixes of numbered columns.
func (b pgBody) same(left, right string) string {
	var terms []string
	for i, c := range b.columns {
		if c.key {
			terms = append(terms, fmt.Sprintf("%s%d %s %s%d", left, i+1, c.equal, right, i+1))
		}
	}
	return strings.Join(terms, " AND ")
}

// paired records the rows of an UPDATE: first those that keep their key, paired by it, and then the
// others, paired by their position in the transition tables. A FULL JOIN is never a nested loop, and coalesce keeps
// the planner from making an inner join of it: the plan was made when the tables were small, and stays.
func (b pgBody) paired() string {
	o, n := numbered(b.columns, "o"), numbered(b.columns, "n")
	full := fmt.Sprintf("FROM %s AS o(ro, %s) FULL JOIN %s AS n(rn, %s) ON %s",
		b.rows(b.columns, b.old, "row_number() OVER () AS \"devotion row\", "), o, b.rows(b.columns, b.new, "row_number() OVER () AS \"devotion row\", "), n, b.same("o", "n"))
	plain := fmt.Sprintf("FROM %s AS o(%s) FULL JOIN %s AS n(%s) ON %s", b.rows(b.columns, b.old, ""), o, b.rows(b.columns, b.new, ""), n, b.same("o", "n"))
	kept := "coalesce(" + b.same("o", "n") + ", false)"
	return fmt.Sprintf(`%[1]s '%[2]s', %[3]d, %[4]s, %[5]s %[6]s WHERE %[7]s;
    GET DIAGNOSTICS same = ROW_COUNT;
    IF same < (SELECT count(*) FROM %[8]s AS r) THEN
      WITH u AS MATERIALIZED (SELECT * %[9]s WHERE NOT %[7]s),
        a AS (SELECT ro, %[4]s FROM u WHERE ro IS NOT NULL), b AS (SELECT rn, %[5]s FROM u WHERE rn IS NOT NULL)
      %[1]s CASE WHEN rn IS NULL THEN '%[10]s' WHEN ro IS NULL THEN '%[11]s' ELSE '%[2]s' END, %[3]d, %[4]s, %[5]s
      FROM a FULL JOIN b ON ro = rn ORDER BY rn IS NOT NULL, rn;
    END IF;`, b.both(), opUpdate, b.width(), o, n, plain, kept, b.new, full, opDelete, opInsert)
}

// state records the present state of each key of the given rows. Equal keys can have different texts, such
// as 1.0 and 1.00: then the row is not that of the key, which is recorded first.
func (b pgBody) state(from ...string) string {
	key, texts := b.keyColumns(), ""
	names := numbered(key, "k")
	var match []string
	for i, c := range key {
		match = append(match, fmt.Sprintf("r.%s %s s.k%d", pgQuoter.Quote(c.name), c.equal, i+1))
		if !c.exact() {
			texts += fmt.Sprintf(`, k%d::text COLLATE "C"`, i+1)
			names += fmt.Sprintf(", t%d", i+1)
			match = append(match, fmt.Sprintf(`r.%s::text = s.t%d`, pgQuoter.Quote(c.name), i+1))
		}
	}
	var union []string
	for _, f := range from {
		union = append(union, fmt.Sprintf("SELECT k.*%s FROM %s AS k(%s)", texts, b.rows(key, f, ""), numbered(key, "k")))
	}
	i := 0
	gone := list(key, ", ", func(column) string { i++; return fmt.Sprintf("CASE WHEN p.f IS NULL THEN s.k%d END", i) })
	return fmt.Sprintf(`INSERT INTO %s (op, width, %s, %s) SELECT CASE WHEN p.f THEN '%s' ELSE '%s' END, CASE WHEN p.f THEN %d ELSE %d END, %s, %s
      FROM (%s) AS s(%s) CROSS JOIN %s AS d LEFT JOIN LATERAL (SELECT true, %s FROM %s AS r WHERE %s OFFSET 0) AS p(f, %s) ON true ORDER BY p.f IS NOT NULL;`,
		b.into(), b.names(b.store.old, key), b.names(b.store.new, b.columns), opState, opDelete, b.width(), -b.keyWidth(), gone, numbered(b.columns, "p.n"),
		strings.Join(union, " UNION "), names, b.empty(b.columns),
		list(b.columns, ", ", func(c column) string { return pgQuoter.Quote(c.name) }), dialect.QuoteAll(pgQuoter, b.parts), strings.Join(match, " AND "), numbered(b.columns, "n"))
}

// fits is the condition that the columns of from can be stored, and that the names of the key's columns
// are known, and the operators that compare them if compared is set.
func (b pgBody) fits(columns []column, from string, compared bool) string {
	var terms []string
	for _, c := range columns {
		typ := "pg_typeof(coalesce(x." + pgQuoter.Quote(c.name) + ", NULL))" // of a domain, this is the base
		switch {
		case !c.pg.loose && c.typ == "bigint":
			terms = append(terms, typ+" IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)")
		case !c.pg.loose:
			terms = append(terms, typ+" = "+dialect.QuoteWith("'", c.typ)+"::regtype")
		case c.key && compared && !strings.HasPrefix(c.equal, "OPERATOR(pg_catalog."): // the operator can go with the type
			terms = append(terms, typ+"::text = "+dialect.QuoteWith("'", c.pg.native))
		case c.key:
			terms = append(terms, typ+" <> 'void'::regtype")
		}
	}
	absent := "(SELECT " + list(columns, ", ", func(c column) string {
		if c.key {
			return "NULL::void AS " + pgQuoter.Quote(c.name)
		}
		return "NULL::" + c.typ + " AS " + pgQuoter.Quote(c.name)
	}) + ")"
	names := list(columns, ", ", func(c column) string { return pgQuoter.Quote(c.name) })
	return fmt.Sprintf("(SELECT %s FROM %s AS d LEFT JOIN LATERAL (SELECT %s FROM %s AS r WHERE false) AS x ON true)", strings.Join(terms, " AND "), absent, names, from)
}

// lookUp records the keys of the changed rows, so that the rows are looked up. Without a key that can be
// stored, it records that changes are missing.
func (b pgBody) lookUp(changed, from []string) string {
	run := func(s string) string { return s + ";" }
	known := b.fits(b.keyColumns(), from[0], false)
	if b.rowwise { // a statement with NEW in it can fail after ALTER TABLE, and one with its fields does
		known = ""
		from = []string{"(SELECT ($1).*)", "(SELECT ($2).*)"}[:len(changed)]
		run = func(s string) string {
			return "EXECUTE " + dialect.QuoteWith("'", s) + " USING " + strings.Join(changed, ", ") + ";"
		}
	}
	var any []string
	for _, f := range from {
		any = append(any, "EXISTS (SELECT FROM "+f+" AS r)")
	}
	test := "fit := " + known + ";"
	if b.rowwise {
		test = strings.Replace(run("SELECT "+b.fits(b.keyColumns(), from[0], false)), " USING ", " INTO fit USING ", 1)
		any = []string{"true"}
	}
	return fmt.Sprintf(`%s
      IF fit THEN
        %s
      ELSE
        INSERT INTO %s (op, width) SELECT '%s', 0 WHERE %s;
      END IF;`, test, run(fmt.Sprintf("INSERT INTO %s (op, width, %s) SELECT '%s', %d, s.* FROM (%s) AS s",
		b.into(), b.names(b.store.new, b.keyColumns()), opLookUp, b.keyWidth(), b.keysOf(from...))), b.into(), opStart, strings.Join(any, " OR "))
}

// keysOf selects the keys of rows, as the change table has them, each text of equal ones once. Those of the first rows
// come first.
func (b pgBody) keysOf(from ...string) string {
	key, names, texts := b.keyColumns(), "", ""
	i := 0
	values := list(key, ", ", func(c column) string {
		i++
		switch {
		case c.pg.native != "":
			return fmt.Sprintf("k%d::text", i)
		case !c.exact():
			texts += fmt.Sprintf(`, k%d::text COLLATE "C"`, i)
			names += fmt.Sprintf(", t%d", i)
		}
		return fmt.Sprintf("k%d", i)
	})
	all := make([]string, len(from))
	for m, f := range from {
		all[m] = fmt.Sprintf("SELECT %s%s, %d FROM %s AS k(%s)", values, texts, m, b.rows(key, f, ""), numbered(key, "k"))
	}
	keys := numbered(key, "k")
	return fmt.Sprintf("SELECT %[1]s FROM (%[2]s) AS u(%[1]s%[3]s, m) GROUP BY %[1]s%[3]s ORDER BY min(m)", keys, strings.Join(all, " UNION ALL "), names)
}

// inTable runs a statement that was made for rows from a zero byte with those of the table or partition that
// the trigger belongs to, whatever its name is now.
func inTable(statement, into string) string {
	return "EXECUTE " + strings.ReplaceAll(dialect.QuoteWith("'", statement), "\x00", "' || format('ONLY %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) || '") + into + ";"
}

// present records the keys of the rows that exist, and that changes are missing if they cannot be read.
func (b pgBody) present() string {
	return fmt.Sprintf(`fit := has_table_privilege(TG_RELID, 'SELECT') AND NOT row_security_active(TG_RELID);
    IF fit THEN
      %s
    END IF;
    IF fit THEN
      %s
    ELSE
      INSERT INTO %s (op, width) VALUES ('%s', 0);
    END IF;`, inTable("SELECT "+b.fits(b.keyColumns(), "\x00", false), " INTO fit"),
		inTable(fmt.Sprintf("INSERT INTO %s (op, width, %s) SELECT '%s', %d, s.* FROM (%s) AS s", b.into(), b.names(b.store.new, b.keyColumns()), opLookUp, b.keyWidth(), b.keysOf("\x00")), ""), b.into(), opStart)
}

// truncated records a TRUNCATE, and after it the rows that other triggers for it have inserted before.
func (b pgBody) truncated() string {
	return fmt.Sprintf("INSERT INTO %s (op, width) VALUES ('%s', %d);\n    %s", b.into(), opTruncate, b.width(), b.present())
}

// emptied records the rows of a partition that TRUNCATE is about to empty, each as deleted. A table that
// was detached keeps the trigger.
func (b pgBody) emptied() string {
	return fmt.Sprintf(`IF NOT EXISTS (SELECT FROM pg_partition_ancestors(TG_RELID) AS a(oid) JOIN pg_trigger AS g ON g.tgrelid = a.oid AND g.tgtype & 1 = 1
        JOIN pg_trigger AS own ON own.tgfoid = g.tgfoid AND own.tgrelid = TG_RELID AND own.tgname = TG_NAME WHERE a.oid <> TG_RELID) THEN
      RETURN NULL;
    END IF;
    IF has_table_privilege(TG_RELID, 'SELECT') AND NOT row_security_active(TG_RELID) THEN
      %s
      IF fit THEN
        %s
        RETURN NULL;
      END IF;
    END IF;
    %s`, inTable("SELECT "+b.fits(b.columns, "\x00", false), " INTO fit"),
		inTable(fmt.Sprintf("INSERT INTO %s (op, width, %s) SELECT '%s', %d, n.* FROM %s AS n", b.into(), b.names(b.store.old, b.columns), opDelete, b.width(), b.rows(b.columns, "\x00", "")), ""), b.present())
}
