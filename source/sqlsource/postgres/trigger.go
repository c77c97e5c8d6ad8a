package postgres

import (
	"context"
	"database/sql"
	"regexp"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// pgTrigger is a BEFORE trigger for each row.
type pgTrigger struct {
	oid                           int64 // of the table
	name, table, function, source string
	insert, update                bool
	always                        bool // ENABLE ALWAYS: also for what replication brings
	conditional                   bool // WHEN, or UPDATE OF some columns
}

// readTriggers reads the partitions' clones of a trigger, too, which some versions
// hold for internal, as those of constraints are.
func (p *pgTable) readTriggers(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		g := pgTrigger{}
		err := rows.Scan(&g.oid, &g.name, &g.table, &g.function, &g.source, &g.insert, &g.update, &g.always, &g.conditional)
		p.triggers = append(p.triggers, g)
		return err
	}, pgTree+` SELECT g.tgrelid::bigint, g.tgname::text, g.tgrelid::regclass::text, g.tgfoid::regproc::text, f.prosrc,
		g.tgtype & 4 > 0, g.tgtype & 16 > 0, g.tgenabled = 'A', g.tgqual IS NOT NULL OR g.tgattr <> ''::int2vector
		FROM tree JOIN pg_catalog.pg_trigger g ON g.tgrelid = tree.oid JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
		WHERE g.tgconstraint = 0 AND g.tgenabled IN ('O', 'A') AND g.tgtype & 3 = 3 AND g.tgtype & 20 > 0
		ORDER BY g.tgrelid <> $1::oid, g.tgname, g.tgrelid`, p.oid)
}

// onceEach returns a function that adds what is to be said of a trigger, but once
// for all of its clones.
func onceEach(r *ceiling.Report) func(g pgTrigger, level ceiling.Level, fix, format string, args ...any) {
	said := map[[2]string]bool{}
	return func(g pgTrigger, level ceiling.Level, fix, format string, args ...any) {
		if key := [2]string{g.name, g.function}; !said[key] {
			said[key] = true
			r.Add(level, fix, "the trigger %s on %s "+format, append([]any{g.name, g.table}, args...)...)
		}
	}
}

// setByTrigger looks for triggers that give the key another value.
func (p *pgTable) setByTrigger(r *ceiling.Report, t ceiling.Table, s pgSequence) {
	sets := regexp.MustCompile(assigns(t.Key[0].Name))
	bare := s.name[strings.LastIndexByte(s.name, '.')+1:]
	add := onceEach(r)
	for _, g := range p.triggers {
		if !g.insert {
			continue
		}
		switch {
		case !sets.MatchString(g.source):
			add(g, ceiling.Note, "", "runs before each INSERT; it is taken to leave the key alone")
		case strings.Contains(g.source, strings.Trim(bare, `"`)):
			add(g, ceiling.Note, "", "sets the key, by the same sequence")
		default:
			add(g, ceiling.Unsafe, p.txColumn(t), "sets the key, and not by the sequence %s", s.name)
		}
	}
}

// stamped looks whether the key's first column is set to value, a call of a
// function, whenever a row is written, and reports whether updates set it too.
// Unless it must be seen, what cannot be seen is taken to be so.
func (p *pgTable) stamped(r *ceiling.Report, t ceiling.Table, value string, mustSee bool, fix string) (updates bool) {
	name := t.Key[0].Name
	inserted, updated := map[int64]bool{}, map[int64]bool{} // tables whose triggers do
	add := onceEach(r)
	for _, g := range p.triggers {
		s := setsTo(g.source, name, value)
		switch {
		case s == leaves, p.published && !g.always: // it does not run for what replication brings
		case s == sets && !g.conditional:
			inserted[g.oid], updated[g.oid] = inserted[g.oid] || g.insert, updated[g.oid] || g.update
			add(g, ceiling.OK, "", "sets %q to %s", name, value)
		case s != setsOther && !mustSee:
			updated[g.oid] = updated[g.oid] || g.update
			add(g, ceiling.Note, fix, "sets %q to %s on some condition: that it is set so each time is your word", name, value)
		default:
			add(g, ceiling.Unsafe, fix, "does not set %q to %s each time", name, value)
		}
	}
	inserts := p.everywhere(inserted)
	updates = p.everywhere(updated)
	if p.published && !inserts {
		r.Add(ceiling.Unsafe, "read at the publisher, or set it by a trigger that is ENABLE ALWAYS", "the table is filled by logical replication, which brings rows past defaults and other triggers")
		return updates
	}
	for _, m := range p.tree {
		expr := strings.TrimPrefix(m.expr, "pg_catalog.")
		switch {
		case inserts, inserted[m.oid]:
		case m.ancestor && m.kind == "r": // its own rows are not read
		case expr == value:
			r.Add(ceiling.OK, "", "%q of %s is %s by default", name, m.name, value)
		case m.expr != "":
			r.Add(ceiling.Unsafe, fix, "the default of %q in %s is %s, which is not when the row is written, nor which transaction does", name, m.name, m.expr)
		case mustSee && !m.child:
			r.Add(ceiling.Unsafe, fix, "%q has no default, and no trigger that sets it to %s: its values are made by clients", name, value)
		default:
			r.Add(ceiling.Note, fix, "nothing is seen in %s that sets %q to %s: that it is set so each time is your word", m.name, name, value)
			updates = updates || !m.child && !mustSee
		}
	}
	if !inserts {
		r.Add(ceiling.Note, "", "clients can give %q a value of their own: one below the cursor is missed (see Audit)", name)
	}
	if !updates {
		r.Add(ceiling.Note, fix, "no trigger sets %q when a row is changed: changes are not read", name)
	}
	return updates
}

// everywhere reports whether all tables of the tree whose rows are read are in a
// set. A trigger of a partitioned table is one of each partition; that of another
// table is none of those that inherit from it.
func (p *pgTable) everywhere(set map[int64]bool) bool {
	return len(set) > 0 && !slices.ContainsFunc(p.tree, func(m pgMember) bool { return m.kind == "r" && !m.ancestor && !set[m.oid] })
}

// setting is what a function does to a column of NEW.
type setting int

const (
	leaves    setting = iota
	sets              // always
	setsOnce          // on some condition, as far as can be seen
	setsOther         // to something else
)

// unsaid is what is no code: comments, texts, and the one use of the word EXCEPTION
// that begins no handler.
var unsaid = regexp.MustCompile(`(?is)--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\bRAISE\s+EXCEPTION\b`)

const blocks = `\bEND\s+(?:IF|CASE|LOOP)\b|\b(?:IF|CASE|LOOP|EXCEPTION)\b|\bRETURN\s+\w+`

// setsTo reads PL/pgSQL. What is not in a condition, loop or handler, or behind a
// RETURN of a row, is done always. What it cannot tell, it takes for a condition.
func setsTo(source, column, value string) setting {
	to := `\bNEW\s*\.\s*"?` + regexp.QuoteMeta(column) + `"?\s*:?=\s*(?:pg_catalog\.)?` + regexp.QuoteMeta(value) + `\s*;`
	other := assigns(column) + `|\bNEW\s*:?=|\bINTO\s+(?:STRICT\s+)?NEW\b`
	tokens := regexp.MustCompile(`(?i)(` + to + `)|(` + other + `)|` + blocks)
	s, depth := leaves, 0
	for _, m := range tokens.FindAllStringSubmatch(unsaid.ReplaceAllString(source, " "), -1) {
		word := strings.ToUpper(strings.Join(strings.Fields(m[0]), " "))
		switch {
		case m[1] != "" && depth == 0:
			s = sets
		case m[1] != "" && s == leaves:
			s = setsOnce
		case m[1] != "":
		case m[2] != "":
			s = setsOther
		case word == "RETURN NULL", word == "RETURN OLD": // nothing is written, or what was there
		case strings.HasPrefix(word, "RETURN "):
			if s != sets {
				depth = 1 << 30 // what follows may not be reached
			}
		case strings.HasPrefix(word, "END "):
			depth--
		default:
			depth++
		}
	}
	return s
}

// assigns matches PL/pgSQL that sets a column of NEW.
func assigns(column string) string {
	name := `\bNEW\s*\.\s*"?` + regexp.QuoteMeta(column) + `"?`
	return `(?i:` + name + `\s*(?::=|=[^=])|\bINTO\s+` + name + `\b)`
}
