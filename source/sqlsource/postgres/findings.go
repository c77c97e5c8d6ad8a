package postgres

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// guard is what each strategy keeps of a table.
type guard struct {
	table  ceiling.Table
	report ceiling.Report
	probed *table
}

func (g *guard) Report() ceiling.Report { return g.report }

// refuse returns an error about rows that cannot be read, which only a change of the rows ends.
func (g *guard) refuse(remedies []ceiling.Remedy, format string, args ...any) error {
	r := g.report
	r.Findings = slices.Clone(r.Findings)
	r.Add(ceiling.Unsafe, remedies, format, args...)
	return retry.Permanent(r.Err(g.table))
}

// open probes a table and reports what matters for every strategy. Locks says that this one needs
// the locks of the transactions that write, which only a primary shows.
func open(ctx context.Context, db ceiling.Queryer, t ceiling.Table, c ceiling.Ceiling, locks bool) (*table, ceiling.Report, error) {
	r := ceiling.Report{Strategy: c.String(), Indexed: true}
	if err := r.Require(t, name); err != nil {
		return nil, r, err
	}
	p, err := probe(ctx, db, t)
	if err != nil {
		return nil, r, err
	}
	if locks && p.standby {
		remedies := append(ceiling.Advice("read from the primary"), otherMeans(t)[1:]...) // no triggers can be created here
		r.Add(ceiling.Unsafe, remedies, "this server is a standby, which shows no locks of the primary's transactions")
	}
	p.relation(&r, t)
	for _, m := range p.tree {
		r.AddIf(m.kind == "f" && m.child, ceiling.Unsafe, ceiling.Advice("detach it, or read the partitions one by one"),
			"the partition %s is a foreign table: its transactions are those of another server", m.name)
		r.AddIf(m.persistence == "u", ceiling.Unsafe,
			ceiling.Advice("make it logged, which rewrites the table and locks it until that is done", "ALTER TABLE "+m.name+" SET LOGGED;"),
			"%s is unlogged: a crash empties it", m.name)
		r.AddIf(m.persistence == "t", ceiling.Unsafe, ceiling.Advice("poll a table that other sessions can see"), "%s is temporary", m.name)
	}
	r.AddIf(p.security, ceiling.Unsafe, ceiling.Advice("read as a role with BYPASSRLS, or as the table's owner"),
		"row-level security applies to this role: its policies decide which rows appear and vanish, not commits")
	r.AddIf(len(p.tree) > 1, ceiling.OK, nil,
		"%d tables are watched together: the table, its ancestors and all their partitions or children", len(p.tree))
	isTable, found := p.kind == "r" || p.kind == "p", p.tree[0].found
	r.AddIf(isTable && !found, ceiling.Unsafe, ceiling.Advice("let the Select return the table's columns of the key under their own names"), "the table has no column %q", t.Key[0].Name)
	if !isTable || !found {
		return nil, r, r.Err(t)
	}
	p.keyIndex(&r, t)
	return p, r, nil
}

// relation adds why rows of something that is not a table cannot be guarded.
func (p *table) relation(r *ceiling.Report, t ceiling.Table) {
	words := fmt.Sprintf("use a Query with Select: \"SELECT ... FROM %s\" and with Table set to the one of %s that has the key", t.Name, cmp.Or(p.bases, "its tables"))
	r.AddIf(p.kind == "v", ceiling.Unsafe, ceiling.Advice(words), "%s is a view, which does not show how rows are added, nor which table draws the key", t.Label)
	r.AddIf(p.kind == "m", ceiling.Unsafe, ceiling.Advice("read the tables that it is made of"), "%s is a materialized view: a refresh adds rows anywhere", t.Label)
	r.AddIf(!strings.Contains("rpvmf", p.kind), ceiling.Unsafe, ceiling.Advice("name a table"), "%s is not a table", t.Label)
	r.AddIf(p.kind == "f", ceiling.Unsafe, ceiling.Advice("read it on its own server"), "%s is a foreign table: its transactions are those of another server", t.Label)
}

// keyIndex adds whether the key is indexed and unique.
func (p *table) keyIndex(r *ceiling.Report, t ceiling.Table) {
	invalid := slices.IndexFunc(p.indexes, func(i index) bool { return i.begins && !i.valid })
	switch {
	case slices.ContainsFunc(p.indexes, func(i index) bool { return i.begins && i.valid }):
		r.Add(ceiling.OK, nil, "an index begins with the key")
	case invalid >= 0 && p.kind != "p":
		name := p.indexes[invalid].name
		remedies := ceiling.Advice("build it again, unless its CREATE INDEX is still running", fmt.Sprintf(reindex, name))
		if p.indexes[invalid].unique { // each REINDEX that fails would leave one more
			remedies = ceiling.Advice("remove the rows that share a key, which are the usual reason, and then build it again by " + fmt.Sprintf(reindex, name))
		}
		r.Add(ceiling.Warning, remedies,
			"the index %s begins with the key (%s), but it is invalid, and so not used: CREATE INDEX CONCURRENTLY leaves it like that when it fails; each poll may read the whole table", name, t.Columns())
	default:
		words := "create an index"
		if p.kind == "p" {
			words += ", which blocks writers until it is built, because the table is partitioned"
		}
		r.Add(ceiling.Warning, ceiling.Advice(words, p.createIndex(p.tree[0], t.Key)),
			"no index begins with the key (%s): each poll may read the whole table", t.Columns())
	}
	unique := slices.ContainsFunc(p.indexes, func(i index) bool { return i.unique && i.valid })
	r.AddIf(!unique, ceiling.Note, nil,
		"no unique index shows that the key (%s) is unique: two rows with the same key are an error, which may be found late", t.Columns())
	r.AddIf(p.rules, ceiling.Note, nil, "the table has rules, which may turn an INSERT into another statement")
}

// whole is a type of numbers without a fraction.
var whole = regexp.MustCompile(`^numeric\(\d+,0\)$`)

// drawn adds whether a single sequence draws the key, in ascending order. It returns the
// triggers that the guarantee depends on.
func (p *table) drawn(r *ceiling.Report, t ceiling.Table) (a assumptions) {
	column, own := t.Key[0].Name, p.tree[0]
	switch {
	case strings.HasPrefix(own.keyType, "timestamp"):
		r.Add(ceiling.Unsafe, p.byWord(t), "the key begins with %q of the type %s: rows do not commit in the order of their times", column, own.keyType)
	case !slices.Contains([]string{"bigint", "integer", "smallint"}, own.keyType) && !whole.MatchString(own.keyExact):
		r.Add(ceiling.Unsafe, slices.Concat(p.drawnFirst(t), otherMeans(t)), "the key begins with %q of the type %s: rows do not commit in the order of its values", column, own.keyType)
	case len(p.sequences) == 0:
		r.Add(ceiling.Unsafe, slices.Concat(p.drawnFirst(t), otherMeans(t)), "no sequence draws %q: the column has neither an identity nor a nextval default, so clients or a trigger make its values", column)
	case len(p.sequences) > 1:
		var names []string
		for _, s := range p.sequences {
			names = append(names, s.name)
		}
		r.Add(ceiling.Unsafe, otherMeans(t), "%q is drawn by several sequences: %s", column, strings.Join(names, ", "))
	default:
		s := p.sequences[0]
		p.sequence(r, t, s)
		for _, m := range p.tree {
			if m.expr != "" && m.expr != s.draw && m.expr != "("+s.draw+")::"+m.keyType && m.expr != "("+s.draw+")::"+m.keyExact {
				r.Add(ceiling.Unsafe, otherMeans(t), "the default of %q in %s is not simply the next value of a sequence", column, m.name)
			}
		}
		r.AddIf(own.identity != "a", ceiling.Note, nil, "the database lets clients choose the value of %q: a row with one below the greatest is missed", column)
		for _, g := range p.triggers {
			if g.insert && !p.setsOther(g, column) {
				a.add(r, g, nil, "rows are missed if it gives %q a value that the sequence %s did not draw at that time", column, s.name)
			}
		}
	}
	return a
}

// drawnFirst returns how to read by a later column of the key that a sequence draws: with that one first.
func (p *table) drawnFirst(t ceiling.Table) []ceiling.Remedy {
	i := slices.IndexFunc(t.Key, func(k ceiling.Column) bool {
		return slices.ContainsFunc(p.columns, func(c column) bool { return c.name == k.Name && c.drawn })
	})
	if i < 1 {
		return nil
	}
	key := slices.Concat(t.Key[i:i+1], t.Key[:i], t.Key[i+1:])
	names := strings.Join(ceiling.Table{Key: key}.Names(), ", ")
	return ceiling.Advice(fmt.Sprintf("for inserted rows, set Key to %s: a sequence draws %q; this needs an index that begins with it", names, t.Key[i].Name), p.createIndex(p.tree[0], key))
}

// sequence adds whether a sequence hands out its values once and in ascending order.
func (p *table) sequence(r *ceiling.Report, t ceiling.Table, s sequence) {
	alter := "ALTER SEQUENCE " + s.name
	r.AddIf(p.published, ceiling.Unsafe, slices.Concat(ceiling.Advice("read at the publisher"), otherMeans(t)),
		"the table is filled by logical replication: its rows come with the publisher's keys, in another order")
	before := len(r.Findings)
	r.AddIf(s.cache != 1, ceiling.Unsafe, ceiling.Advice("let each session draw one value at a time", alter+" CACHE 1;"),
		"the sequence %s has CACHE %d: each session draws that many values ahead and uses them later", s.name, s.cache)
	r.AddIf(s.increment != 1, ceiling.Unsafe, otherMeans(t),
		"the sequence %s has INCREMENT %d: it is shared with other servers, or runs backwards", s.name, s.increment)
	r.AddIf(s.cycles, ceiling.Unsafe, ceiling.Advice("let it end at its greatest value", alter+" NO CYCLE;"),
		"the sequence %s has CYCLE: it would begin again below the cursor", s.name)
	r.AddIf(s.persistence == "u", ceiling.Unsafe, ceiling.Advice("make it logged", alter+" SET LOGGED;"),
		"the sequence %s is unlogged: after a crash it begins again", s.name)
	if len(r.Findings) == before {
		r.Add(ceiling.OK, nil, "%q is drawn by the sequence %s: CACHE 1, INCREMENT 1, NO CYCLE", t.Key[0].Name, s.name)
	}
	r.AddIf(!s.mayRead, ceiling.Warning, ceiling.Advice("let the role read the sequence", fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s;", s.name, p.role)),
		"the role may not read the sequence %s: keys that clients made up above it, and a setval below the cursor, go unnoticed", s.name)
}
