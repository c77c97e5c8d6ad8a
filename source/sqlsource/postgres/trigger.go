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
	}, treeOf("$1::oid")+` SELECT g.tgrelid::bigint, g.tgname::text, g.tgrelid::regclass::text, g.tgfoid::regproc::text,
		CASE WHEN l.lanname = 'plpgsql' AND f.proconfig IS NULL THEN f.prosrc ELSE '' END,
		g.tgtype & 4 > 0, g.tgtype & 16 > 0, g.tgenabled = 'A', g.tgqual IS NOT NULL OR g.tgattr <> ''::int2vector
		FROM tree JOIN pg_catalog.pg_trigger g ON g.tgrelid = tree.oid JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
		JOIN pg_catalog.pg_language l ON l.oid = f.prolang
		WHERE g.tgconstraint = 0 AND g.tgenabled IN ('O', 'A') AND g.tgtype & 3 = 3 AND g.tgtype & 20 > 0 AND `+plainly+`
		ORDER BY g.tgrelid <> $1::oid, g.tgname, g.tgrelid`, p.oid)
	return err
}

func events(insert, update bool) string {
	switch {
	case !insert:
		return "UPDATE"
	case !update:
		return "INSERT"
	}
	return "INSERT and UPDATE"
}

// assumptions are triggers that the guarantee depends on.
type assumptions struct {
	names          []string
	seen           [][2]string // name and function
	insert, update bool        // the statements before which they run
}

// add adds a warning about a trigger, once for all of its clones.
func (a *assumptions) add(r *ceiling.Report, g trigger, remedies []ceiling.Remedy, format string, args ...any) {
	if key := [2]string{g.name, g.function}; !slices.Contains(a.seen, key) {
		a.seen = append(a.seen, key)
		a.names = append(a.names, g.name+" on "+g.table)
		a.insert, a.update = a.insert || g.insert, a.update || g.update
		r.Add(ceiling.Warning, remedies, "the trigger %s on %s runs before each %s, and its function is not checked: %s",
			g.name, g.table, events(g.insert, g.update), fmt.Sprintf(format, args...))
	}
}

// guarantee sets what is guaranteed for a key that begins with the column of a recipe: rows are
// read up to what upTo says. It returns an [*ceiling.UnsafeError] if nothing is.
func (p *table) guarantee(r *ceiling.Report, t ceiling.Table, c recipe, byWord bool, upTo string) error {
	var promise, assumed string
	column, typ := t.Key[0].Name, p.tree[0].keyType
	switch {
	case typ == c.typ:
		promise, assumed = p.settings(r, t, c, byWord)
	case byWord && typ == "timestamp without time zone":
		r.Add(ceiling.Unsafe, otherMeans(t), "the key begins with %q, a timestamp without time zone: sessions write it by their own clocks", column)
	default:
		r.Add(ceiling.Unsafe, otherMeans(t), "the key begins with %q of the type %s, and must begin with a column of the type %s", column, typ, c.typ)
	}
	r.AddIf(len(t.Key) == 1, ceiling.Unsafe, ceiling.Advice("add the primary key to Key, after "+column), "several rows can have the same %q", column)
	if err := r.Err(t); err != nil {
		return err
	}
	r.Guarantee = fmt.Sprintf("%s, in the order of %q: rows are read up to %s%s", promise, column, upTo, assumed)
	return nil
}

// settings finds out who sets the key's first column to the value of a recipe. Only a trigger of
// the recipe is known to do so. ByWord says that the user vouches for other triggers. It returns
// the promise of the guarantee, and its assumption, which is the last clause.
func (p *table) settings(r *ceiling.Report, t ceiling.Table, c recipe, byWord bool) (promise, assumed string) {
	column, fix := t.Key[0].Name, otherMeans(t)
	known, knownUpdates := p.setters(func(g trigger) bool { return g.source == c.body(column) })
	byWord = byWord && !(p.everywhere(known) && p.everywhere(knownUpdates))
	all, allUpdates := known, knownUpdates
	if byWord {
		all, allUpdates = p.setters(func(g trigger) bool { return !p.setsOther(g, column) })
	}
	var a assumptions
	for _, g := range p.triggers {
		switch {
		case p.setsOther(g, column), p.overruled(g, c.body(column)):
		case g.source == c.body(column) && !g.conditional:
			r.Add(ceiling.OK, nil, "the trigger %s on %s sets %q to %s", g.name, g.table, column, c.value)
		case byWord:
			a.add(r, g, fix, "by your word it sets %q to %s each time", column, c.value)
		default:
			a.add(r, g, fix, "rows are missed if it sets %q to anything but %s", column, c.value)
		}
	}
	inserts, updates := p.everywhere(all), p.everywhere(allUpdates)
	if p.published && !inserts {
		r.Add(ceiling.Unsafe, slices.Concat(ceiling.Advice("read at the publisher"), fix), "the table is filled by logical replication, which runs no defaults, and no triggers but those that are ENABLE ALWAYS")
		return "", ""
	}
	vouched, replaced := p.defaults(r, c, column, fix, known, all, byWord)
	r.AddIf(!inserts, ceiling.Note, nil, "clients can choose the value of %q: a row with one below the cursor is missed", column)
	promise = "every row is read once it is committed, and its latest version again after each change"
	r.Updates = ceiling.UpdatesRead
	if !updates {
		r.Updates = ceiling.UpdatesNotRead
		promise = "every row is read once it is committed, and its later changes are not read"
		r.Add(ceiling.Note, fix, "no trigger is known to set %q when a row is changed: changes are not read", column)
	}
	switch value := fmt.Sprintf("%q to %s at each ", column, c.value); {
	case vouched:
		return promise, ", as long as clients or triggers set " + value + events(true, updates) + ", for which it takes your word"
	case byWord:
		return promise, ceiling.AsLongAs(a.names, "set", value+events(a.insert, a.update)) + replaced
	}
	return promise, ceiling.AsLongAs(a.names, "set", fmt.Sprintf("%q to nothing but %s", column, c.value))
}

// defaults adds the defaults of the column in all tables where no trigger is known to set it. The
// user vouches for a table without any. Replaced says which defaults hold nothing but by the user's
// word that a trigger replaces them.
func (p *table) defaults(r *ceiling.Report, c recipe, column string, fix []ceiling.Remedy, known, all map[int64]bool, byWord bool) (vouched bool, replaced string) {
	var list []string
	for _, m := range p.tree {
		right := unqualified(m.expr) == c.value
		switch {
		case m.ancestor && m.kind == "r": // its rows are not read
		case known[m.oid] || p.everywhere(known):
		case all[m.oid] || p.everywhere(all):
			if m.expr != "" && !right {
				r.Add(ceiling.Warning, fix, "the default of %q in %s is %s: by your word a trigger sets %[1]q to %[4]s in its place at each INSERT; otherwise rows are missed", column, m.name, m.expr, c.value)
				list = append(list, m.expr)
			}
		case right:
			r.Add(ceiling.OK, nil, "%q of %s is %s by default", column, m.name, c.value)
		case m.expr != "":
			r.Add(ceiling.Unsafe, fix, "the default of %q in %s is %s, not %s", column, m.name, m.expr, c.value)
		case m.child:
			r.Add(ceiling.Note, nil, "%q has no default in %s: rows that are inserted there directly must set it to %s", column, m.name, c.value)
		case byWord:
			r.Add(ceiling.Warning, fix, "%q of %s has no default, and no trigger runs before each INSERT: by your word it is set to %s each time", column, m.name, c.value)
			vouched = true
		default:
			r.Add(ceiling.Unsafe, fix, "%q of %s has no default %s, and no trigger that is known to set it: clients make its values, or a trigger whose text is not read", column, m.name, c.value)
		}
	}
	slices.Sort(list)
	if list = slices.Compact(list); list != nil {
		replaced = ", in place of the default " + strings.Join(list, " or ")
	}
	return vouched, replaced
}

// setters returns the tables, by their oids, with a trigger that sets a column for each row before
// each INSERT, and before each UPDATE. What replication brings runs only triggers that are ENABLE ALWAYS.
func (p *table) setters(is func(trigger) bool) (inserts, updates map[int64]bool) {
	inserts, updates = map[int64]bool{}, map[int64]bool{}
	for _, g := range p.triggers {
		if is(g) && !g.conditional && (g.always || !p.published) {
			inserts[g.oid] = inserts[g.oid] || g.insert
			updates[g.oid] = updates[g.oid] || g.update
		}
	}
	return inserts, updates
}

// setsOther reports whether a trigger is that of a recipe for another column.
func (p *table) setsOther(g trigger, column string) bool {
	for _, other := range p.columns {
		if other.name != column && (g.source == txRecipe.body(other.name) || g.source == stampRecipe.body(other.name)) {
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
