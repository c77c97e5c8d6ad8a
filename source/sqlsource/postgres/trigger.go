package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// trigger is a BEFORE trigger for each row.
type trigger struct {
	oid                   int64 // of the table
	name, table, function string
	source                string // of the function, if it is PL/pgSQL and has no SET clause
	insert, update        bool
	always                bool // ENABLE ALWAYS: it also runs for what replication brings
	conditional           bool // it has WHEN, or UPDATE OF some columns
}

// readTriggers also reads the partitions' clones of a trigger, which some versions of the
// server mark as internal, like those of constraints.
func (p *table) readTriggers(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) (err error) {
	p.triggers, err = ceiling.List(ctx, db, func(g *trigger) []any {
		return []any{&g.oid, &g.name, &g.table, &g.function, &g.source, &g.insert, &g.update, &g.always, &g.conditional}
	}, treeQuery+` SELECT g.tgrelid::bigint, g.tgname::text, g.tgrelid::regclass::text, g.tgfoid::regproc::text,
		CASE WHEN l.lanname = 'plpgsql' AND f.proconfig IS NULL THEN f.prosrc ELSE '' END,
		g.tgtype & 4 > 0, g.tgtype & 16 > 0, g.tgenabled = 'A', g.tgqual IS NOT NULL OR g.tgattr <> ''::int2vector
		FROM tree JOIN pg_catalog.pg_trigger g ON g.tgrelid = tree.oid JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
		JOIN pg_catalog.pg_language l ON l.oid = f.prolang
		WHERE g.tgconstraint = 0 AND g.tgenabled IN ('O', 'A') AND g.tgtype & 3 = 3 AND g.tgtype & 20 > 0
		ORDER BY g.tgrelid <> $1::oid, g.tgname, g.tgrelid`, p.oid)
	return err
}

// events names the statements before which a trigger runs.
func (g trigger) events() string {
	switch {
	case !g.insert:
		return "UPDATE"
	case !g.update:
		return "INSERT"
	}
	return "INSERT and UPDATE"
}

// assumptions are triggers that the guarantee depends on.
type assumptions struct {
	names []string
	seen  [][2]string // name and function
}

// add adds a warning about a trigger, once for all of its clones.
func (a *assumptions) add(r *ceiling.Report, g trigger, remedies []ceiling.Remedy, format string, args ...any) {
	if key := [2]string{g.name, g.function}; !slices.Contains(a.seen, key) {
		a.seen = append(a.seen, key)
		a.names = append(a.names, g.name+" on "+g.table)
		r.Add(ceiling.Warning, remedies, "the trigger %s on %s runs before each %s, and its function is not checked: %s",
			g.name, g.table, g.events(), fmt.Sprintf(format, args...))
	}
}

// clause is what the guarantee says about the triggers, such as
// `, as long as the trigger set_id on orders leaves "id" alone`.
func (a *assumptions) clause(one, several string) string {
	switch len(a.names) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(", as long as the trigger %s %s", a.names[0], one)
	}
	last := len(a.names) - 1
	return fmt.Sprintf(", as long as the triggers %s and %s %s", strings.Join(a.names[:last], ", "), a.names[last], several)
}

// setting is who sets a column of the key when a row is written.
type setting struct {
	updates  bool // each change of a row sets it
	vouched  bool // nothing but the user's word says that it is set
	triggers assumptions
}

// settings finds out who sets the key's first column to the value of a recipe. Only a trigger of
// the recipe is known to do so. ByWord says that the user vouches for other triggers.
func (p *table) settings(r *ceiling.Report, t ceiling.Table, c recipe, byWord bool) (s setting) {
	column, fix := t.Key[0].Name, p.resetRemedies(t, c)
	inserted, updated := map[int64]bool{}, map[int64]bool{} // tables whose triggers set it
	for _, g := range p.triggers {
		if p.setsOther(g, column) {
			continue
		}
		known := g.source == c.body(column) && !g.conditional
		if (known || byWord) && (g.always || !p.published) { // others do not run for what replication brings
			inserted[g.oid] = inserted[g.oid] || g.insert && !g.conditional
			updated[g.oid] = updated[g.oid] || g.update && !g.conditional
		}
		switch {
		case known:
			r.Add(ceiling.OK, nil, "the trigger %s on %s sets %q to %s", g.name, g.table, column, c.value)
		case p.overruled(g, c.body(column)):
		case byWord:
			s.triggers.add(r, g, fix, "by your word it sets %q to %s each time", column, c.value)
		default:
			s.triggers.add(r, g, fix, "rows are missed if it sets %q to anything but %s", column, c.value)
		}
	}
	inserts := p.everywhere(inserted)
	s.updates = p.everywhere(updated)
	if p.published && !inserts {
		r.Add(ceiling.Unsafe, slices.Concat(ceiling.Advice("read at the publisher"), fix), "the table is filled by logical replication, which runs no defaults, and no triggers but those that are ENABLE ALWAYS")
		return s
	}
	for _, m := range p.tree {
		if !inserts && !inserted[m.oid] && !(m.ancestor && m.kind == "r") { // the rows of such an ancestor are not read
			s.vouched = p.setByDefault(r, m, c, column, byWord, fix) || s.vouched
		}
	}
	r.AddIf(!inserts, ceiling.Note, nil, "clients can choose the value of %q: a row with one below the cursor is missed", column)
	r.AddIf(!s.updates, ceiling.Note, fix, "no trigger is known to set %q when a row is changed: changes are not read", column)
	return s
}

// setByDefault adds whether the default of a table's column is the value of a recipe. It reports
// whether the user must vouch for it.
func (p *table) setByDefault(r *ceiling.Report, m member, c recipe, column string, byWord bool, fix []ceiling.Remedy) (vouched bool) {
	switch {
	case unqualified(m.expr) == c.value:
		r.Add(ceiling.OK, nil, "%q of %s is %s by default", column, m.name, c.value)
	case m.expr != "":
		r.Add(ceiling.Unsafe, fix, "the default of %q in %s is %s, not %s", column, m.name, m.expr, c.value)
	case m.child:
		r.Add(ceiling.Note, nil, "%q has no default in %s: rows that are inserted there directly must set it to %s", column, m.name, c.value)
	case byWord:
		r.Add(ceiling.Warning, fix, "%q of %s has no default, and no trigger runs before each INSERT: by your word it is set to %s each time", column, m.name, c.value)
		return true
	default:
		r.Add(ceiling.Unsafe, fix, "%q of %s has no default %s, and no trigger that is known to set it: clients make its values, or a trigger whose text is not read", column, m.name, c.value)
	}
	return false
}

// setsOther reports whether a trigger is that of a recipe for another column.
func (p *table) setsOther(g trigger, column string) bool {
	for name := range p.columns {
		if name != column && (g.source == txRecipe.body(name) || g.source == stampRecipe.body(name)) {
			return true
		}
	}
	return false
}

// overruled reports whether a trigger of a recipe runs after g, and sets the column again.
func (p *table) overruled(g trigger, body string) bool {
	return slices.ContainsFunc(p.triggers, func(last trigger) bool {
		return last.oid == g.oid && last.source == body && !last.conditional && last.name > g.name &&
			(last.always || !p.published) && (last.insert || !g.insert) && (last.update || !g.update)
	})
}

// everywhere reports whether all tables of the tree whose rows are read are in a set. Partitions
// inherit the triggers of their table; children that are not partitions do not.
func (p *table) everywhere(set map[int64]bool) bool {
	return len(set) > 0 && !slices.ContainsFunc(p.tree, func(m member) bool { return m.kind == "r" && !m.ancestor && !set[m.oid] })
}
