package changelog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func (e pgEngine) install(f *facts) Script {
	p := f.more.(*pgFacts)
	table, store := dialect.QuoteAll(pgQuoter, f.parts), f.qualified(f.store.name)
	function := f.qualified(f.store.object("_record"))
	s := Script{"BEGIN;", "LOCK TABLE " + table + " IN SHARE ROW EXCLUSIVE MODE;",
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, op text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), width int NOT NULL, %s);",
			store, strings.Join(f.definitions(""), ", "))}
	if f.store.exists {
		s = append(s, f.alter(func(name, typ string) string {
			return fmt.Sprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS %s %s;", store, pgQuoter.Quote(name), typ)
		})...)
	}
	body := e.body(f, p)
	tag := "$devotion$"
	for i := 1; strings.Contains(body, tag); i++ {
		tag = fmt.Sprintf("$devotion%d$", i)
	}
	wanted := e.wanted(f, p)
	s = append(s, e.start(f, wanted),
		fmt.Sprintf("CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER %s AS %s%s%s;", function, f.settings("SET %s = %s", " "), tag, body, tag),
		"REVOKE ALL ON FUNCTION "+function+"() FROM PUBLIC;")
	for _, g := range p.triggers {
		if !g.clone && !slices.ContainsFunc(wanted, func(w pgTrigger) bool { return w.table == g.table && w.name == g.name }) {
			s = append(s, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s;", pgQuoter.Quote(g.name), g.of))
		}
	}
	for _, g := range wanted {
		name := pgQuoter.Quote(g.name)
		s = append(s, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s;", name, g.of),
			fmt.Sprintf("CREATE TRIGGER %s %s ON %s%s EXECUTE FUNCTION %s();", name, g.event(), g.of, g.each(), function),
			fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s;", g.of, name))
	}
	return append(s, "COMMIT;")
}

// settings returns the settings of the function, each in a format. Those after the first one are of
// package sqlsource: the text of a value depends on them.
func (f *facts) settings(format, separator string) string {
	all := []string{fmt.Sprintf(format, "search_path", "pg_catalog, pg_temp")}
	if slices.ContainsFunc(f.columns, func(c column) bool { return c.pg.native != "" && !c.pg.enum }) {
		for _, s := range [][2]string{{"DateStyle", "'ISO'"}, {"IntervalStyle", "'postgres'"}, {"extra_float_digits", "'1'"}, {"bytea_output", "'hex'"}, {"TimeZone", "'UTC'"}} {
			all = append(all, fmt.Sprintf(format, s[0], s[1]))
		}
	}
	return strings.Join(all, separator)
}

// start returns the statement that marks the start of recording, see started. The trigger for TRUNCATE of a new
// partition may be missing: the guarantee says so.
func (e pgEngine) start(f *facts, wanted []pgTrigger) string {
	p := f.more.(*pgFacts)
	installed := slices.ContainsFunc(p.triggers, func(g pgTrigger) bool { return g.table == p.oid })
	quote := func(s string) string { return dialect.QuoteWith("'", s) }
	function := "to_regprocedure(" + quote(f.qualified(f.store.object("_record"))+"()") + ")"
	there := []string{fmt.Sprintf(`EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid = %s AND prosecdef AND proconfig[1] = 'search_path=pg_catalog, pg_temp'
		AND strpos(btrim(regexp_replace(prosrc, '\s+', ' ', 'g')), %s) = 1 AND strpos(prosrc, %s) > 0)`, function, quote(spaced(bodyStart)), quote("INSERT INTO "+f.qualified(f.store.name)+" (")),
		fmt.Sprintf("NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgfoid = %s AND tgenabled <> 'A')", function)}
	for _, g := range wanted {
		if installed && g.table != p.oid && !slices.ContainsFunc(p.triggers, func(h pgTrigger) bool { return h.table == g.table && h.name == g.name }) {
			continue
		}
		there = append(there, fmt.Sprintf(`EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s AND tgfoid = %s AND tgtype = %d
		AND COALESCE(tgoldtable, '') = %s AND COALESCE(tgnewtable, '') = %s AND tgqual IS NULL AND tgattr::text = '')`, quote(g.of), quote(g.name), function, g.kind, quote(g.old), quote(g.new)))
	}
	return fmt.Sprintf("INSERT INTO %s (op, width) SELECT '%s', 0 WHERE %s;", f.qualified(f.store.name), opStart, f.started(e, strings.Join(there, " AND "), f.qualified(f.store.name)))
}

// event returns when a trigger runs, for CREATE TRIGGER.
func (g pgTrigger) event() string {
	var events []string
	for bit, name := range map[int]string{4: "INSERT", 8: "DELETE", 16: "UPDATE", 32: "TRUNCATE"} {
		if g.kind&bit != 0 {
			events = append(events, name)
		}
	}
	slices.Sort(events)
	when := "AFTER "
	if g.kind&2 != 0 {
		when = "BEFORE "
	}
	return when + strings.Join(events, " OR ")
}

// each returns for what a trigger runs, for CREATE TRIGGER.
func (g pgTrigger) each() string {
	var tables string
	if g.old != "" {
		tables += " OLD TABLE AS " + g.old
	}
	if g.new != "" {
		tables += " NEW TABLE AS " + g.new
	}
	switch {
	case tables != "":
		return " REFERENCING" + tables + " FOR EACH STATEMENT"
	case g.kind&1 != 0:
		return " FOR EACH ROW"
	}
	return " FOR EACH STATEMENT"
}

func (pgEngine) remove(f *facts) Script {
	p := f.more.(*pgFacts)
	s := Script{"BEGIN;"}
	for _, g := range p.triggers {
		if !g.clone {
			s = append(s, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s;", pgQuoter.Quote(g.name), g.of))
		}
	}
	s = append(s, "DROP FUNCTION IF EXISTS "+f.qualified(f.store.object("_record"))+"();")
	if f.store.exists {
		s = append(s, "DROP TABLE IF EXISTS "+f.qualified(f.store.name)+";")
	}
	return append(s, "COMMIT;")
}

func (pgEngine) grants(f *facts, reader, pruner string) (s Script) {
	store, table := f.qualified(f.store.name), dialect.QuoteAll(pgQuoter, f.parts)
	for _, role := range []string{reader, pruner} {
		if role != "" {
			s = append(s, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", pgQuoter.Quote(f.schema), pgQuoter.Quote(role)))
		}
	}
	if reader != "" {
		s = append(s, fmt.Sprintf("GRANT SELECT ON %s, %s TO %s;", table, store, pgQuoter.Quote(reader)))
	}
	if pruner != "" {
		s = append(s, fmt.Sprintf("GRANT SELECT, DELETE ON %s TO %s;", store, pgQuoter.Quote(pruner)))
	}
	return s
}

func (pgEngine) complete(context.Context, ceiling.Queryer, *facts) error { return nil }
