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
}

// bodyStart is how the source of each version of the function begins.
const bodyStart = `
#variable_conflict use_column
DECLARE
  same bigint;
`

// body returns the function's source.
func (pgEngine) body(f *facts, p *pgFacts) string {
	b := pgBody{f, "old_rows", "new_rows"}
	if p.partitioned {
		b.old, b.new = "(SELECT OLD.*)", "(SELECT NEW.*)"
	}
	insert, update, deletes := b.one(opInsert, "n", b.new), b.moved(), b.one(opDelete, "o", b.old)
	truncate := fmt.Sprintf("INSERT INTO %s (op, width) VALUES ('%s', %d);", b.into(), opTruncate, f.width())
	if p.partitioned {
		truncate = b.emptied()
	} else {
		update = b.paired()
	}
	return bodyStart + fmt.Sprintf(`BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    %s
    RETURN NULL;
  END IF;
  IF pg_trigger_depth() > 1 THEN
    PERFORM set_config('devotion.nested', 'on', true);
  END IF;
  IF current_setting('devotion.nested', true) = 'on' THEN
    IF TG_OP = 'INSERT' THEN
      %s
    ELSIF TG_OP = 'DELETE' THEN
      %s
    ELSE
      %s
    END IF;
  ELSIF TG_OP = 'INSERT' THEN
    %s
  ELSIF TG_OP = 'DELETE' THEN
    %s
  ELSE
    %s
  END IF;
  RETURN NULL;
END
`, truncate, b.state(b.new), b.state(b.old), b.state(b.old, b.new), insert, deletes, update)
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

// state records the present state of each key of the given rows.
func (b pgBody) state(from ...string) string {
	key := b.keyColumns()
	var union []string
	for _, f := range from {
		union = append(union, "SELECT * FROM "+b.rows(key, f, "")+" AS k")
	}
	var match []string
	for i, c := range key {
		match = append(match, fmt.Sprintf("%s %s s.k%d", pgQuoter.Quote(c.name), c.equal, i+1))
	}
	i := 0
	gone := list(key, ", ", func(column) string { i++; return fmt.Sprintf("CASE WHEN p.f IS NULL THEN s.k%d END", i) })
	return fmt.Sprintf(`INSERT INTO %s (op, width, %s, %s) SELECT CASE WHEN p.f THEN '%s' ELSE '%s' END, CASE WHEN p.f THEN %d ELSE 0 END, %s, %s
      FROM (%s) AS s(%s) CROSS JOIN %s AS d LEFT JOIN LATERAL (SELECT true, %s FROM %s AS r WHERE %s OFFSET 0) AS p(f, %s) ON true;`,
		b.into(), b.names(b.store.old, key), b.names(b.store.new, b.columns), opState, opDelete, b.width(), gone, numbered(b.columns, "p.n"),
		strings.Join(union, " UNION "), numbered(key, "k"), b.empty(b.columns),
		list(b.columns, ", ", func(c column) string { return pgQuoter.Quote(c.name) }), dialect.QuoteAll(pgQuoter, b.parts), strings.Join(match, " AND "), numbered(b.columns, "n"))
}

// emptied records the rows of a partition that TRUNCATE is about to empty, each as deleted. A table that
// was detached keeps the trigger.
func (b pgBody) emptied() string {
	names := list(b.columns, ", ", func(c column) string { return pgQuoter.Quote(c.name) })
	return fmt.Sprintf(`IF EXISTS (SELECT FROM pg_partition_ancestors(TG_RELID) AS a(oid) JOIN pg_trigger AS g ON g.tgrelid = a.oid AND g.tgtype & 1 = 1
        JOIN pg_trigger AS own ON own.tgfoid = g.tgfoid AND own.tgrelid = TG_RELID AND own.tgname = TG_NAME WHERE a.oid <> TG_RELID) `+"THEN\n      EXECUTE format('INSERT INTO %%s (op, width, %%s) SELECT ''%s'', %d, %%s FROM ONLY %%I.%%I', %s, %s, %s, TG_TABLE_SCHEMA, TG_TABLE_NAME);\n    END IF;",
		opDelete, b.width(), dialect.QuoteWith("'", b.into()), dialect.QuoteWith("'", b.names(b.store.old, b.columns)), dialect.QuoteWith("'", names))
}
