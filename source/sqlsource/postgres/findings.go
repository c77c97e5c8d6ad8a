package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// common adds what every strategy on Postgres reports.
func (p *table) common(r *ceiling.Report, t ceiling.Table) {
	p.relation(r, t)
	for _, m := range p.tree {
		switch {
		case m.kind == "f" && m.child:
			r.Add(ceiling.Unsafe, ceiling.Advice("detach it, or read the partitions one by one"), "the partition %s is a foreign table: its transactions are those of another server", m.name)
		case m.persistence == "u":
			r.Add(ceiling.Unsafe, ceiling.Advice("have it logged, which rewrites the table and locks it until that is done", "ALTER TABLE "+m.name+" SET LOGGED;"), "%s is unlogged: a crash empties it", m.name)
		case m.persistence == "t":
			r.Add(ceiling.Unsafe, ceiling.Advice("poll a table that other sessions can see"), "%s is temporary", m.name)
		}
	}
	if p.security {
		r.Add(ceiling.Unsafe, ceiling.Advice("read as a role with BYPASSRLS, or as the table's owner"), "row-level security applies to this role: its policies decide which rows appear and vanish, not commits")
	}
	if len(p.tree) > 1 {
		r.Add(ceiling.OK, nil, "%d tables are watched together: the table, its ancestors and all their partitions or children", len(p.tree))
	}
	if p.isTable() && !p.readable() {
		r.Add(ceiling.Unsafe, ceiling.Advice("let the Select return the table's columns of the key under their own names"), "the table has no column %q", t.Key[0].Name)
	}
	if p.readable() {
		p.indexes(r, t)
	}
}

// relation adds why rows of something that is not a table cannot be guarded.
func (p *table) relation(r *ceiling.Report, t ceiling.Table) {
	switch p.kind {
	case "v":
		tables := "its tables"
		if len(p.bases) > 0 {
			tables = strings.Join(p.bases, ", ")
		}
		r.Add(ceiling.Unsafe, ceiling.Advice(fmt.Sprintf("use a Query with Select: \"SELECT ... FROM %s\" and with Table set to the one of %s that has the key", t.Name, tables)),
			"%s is a view, which does not show how rows are added, nor which table draws the key", t.Label)
	case "m":
		r.Add(ceiling.Unsafe, ceiling.Advice("read the tables that it is made of"), "%s is a materialized view: a refresh adds rows anywhere", t.Label)
	case "f":
		r.Add(ceiling.Unsafe, ceiling.Advice("read it on its own server"), "%s is a foreign table: its transactions are those of another server", t.Label)
	}
}

// indexes adds whether the key is indexed and unique.
func (p *table) indexes(r *ceiling.Report, t ceiling.Table) {
	if p.indexed {
		r.Add(ceiling.OK, nil, "an index begins with the key")
	} else {
		words, create := "create an index", "CREATE INDEX CONCURRENTLY ON"
		if p.kind == "p" {
			words, create = "create an index, which blocks writers until it is built, because the table is partitioned", "CREATE INDEX ON"
		}
		r.Add(ceiling.Warning, ceiling.Advice(words, fmt.Sprintf("%s %s (%s);", create, t.Name, t.Columns())), "no index begins with the key (%s): each poll may read the whole table", t.Columns())
	}
	if !p.unique {
		r.Add(ceiling.Note, nil, "no unique index shows that the key (%s) is unique: two rows with the same key are an error, which may be found late", t.Columns())
	}
	if p.rules {
		r.Add(ceiling.Note, nil, "the table has rules, which may turn an INSERT into another statement")
	}
}

// readable reports whether it is a table that stores its rows and has the key.
func (p *table) readable() bool { return p.isTable() && p.tree[0].found }

func (p *table) isTable() bool { return p.kind == "r" || p.kind == "p" }

// drawn adds whether a single sequence draws the key, in ascending order. It returns the
// triggers that the guarantee depends on.
func (p *table) drawn(r *ceiling.Report, t ceiling.Table) (a assumptions) {
	column, own := t.Key[0].Name, p.tree[0]
	switch {
	case strings.HasPrefix(own.keyType, "timestamp"):
		r.Fallbacks = []string{"lag=5m"}
		r.Add(ceiling.Unsafe, p.stampRemedies(t), "the key begins with %q of the type %s: rows do not commit in the order of their times", column, own.keyType)
		return a
	case !slices.Contains([]string{"bigint", "integer", "smallint"}, own.keyType):
		r.Add(ceiling.Unsafe, p.remedies(t, false), "the key begins with %q of the type %s: rows do not commit in the order of its values", column, own.keyType)
		return a
	case len(p.sequences) == 0:
		r.Add(ceiling.Unsafe, p.remedies(t, false), "no sequence draws %q: the column has neither an identity nor a nextval default, so clients or a trigger make its values", column)
		return a
	case len(p.sequences) > 1:
		var names []string
		for _, s := range p.sequences {
			names = append(names, s.name)
		}
		r.Add(ceiling.Unsafe, p.remedies(t, false), "%q is drawn by several sequences: %s", column, strings.Join(names, ", "))
		return a
	}
	s := p.sequences[0]
	p.sequence(r, t, s)
	for _, m := range p.tree {
		if m.expr != "" && m.expr != s.draw && m.expr != "("+s.draw+")::"+m.keyType {
			r.Add(ceiling.Unsafe, p.remedies(t, false), "the default of %q in %s is not simply the next value of a sequence", column, m.name)
			r.Fallbacks = nil
		}
	}
	if own.identity != "a" {
		r.Add(ceiling.Note, nil, "the database lets clients choose the value of %q: a row with one below the greatest is missed", column)
	}
	for _, g := range p.triggers {
		if g.insert && !p.setsOther(g, column) {
			a.add(r, g, nil, "rows are missed if it gives %q a value that the sequence %s did not draw at that time", column, s.name)
		}
	}
	return a
}

// sequence adds whether a sequence hands out its values once and in ascending order.
func (p *table) sequence(r *ceiling.Report, t ceiling.Table, s sequence) {
	if p.published {
		r.Add(ceiling.Unsafe, slices.Concat(ceiling.Advice("read at the publisher"), p.remedies(t, true)), "the table is filled by logical replication: its rows come with the publisher's keys, in another order")
	}
	before := len(r.Findings)
	if s.cache != 1 {
		r.Add(ceiling.Unsafe, ceiling.Advice("let each session draw one value at a time", fmt.Sprintf("ALTER SEQUENCE %s CACHE 1;", s.name)), "the sequence %s has CACHE %d: each session draws that many values ahead and uses them later", s.name, s.cache)
	}
	if s.increment != 1 {
		r.Add(ceiling.Unsafe, p.remedies(t, false), "the sequence %s has INCREMENT %d: it is shared with other servers, or runs backwards", s.name, s.increment)
	}
	if s.cycles {
		r.Add(ceiling.Unsafe, ceiling.Advice("let it end at its greatest value", fmt.Sprintf("ALTER SEQUENCE %s NO CYCLE;", s.name)), "the sequence %s has CYCLE: it would begin again below the cursor", s.name)
	}
	if s.persistence == "u" {
		r.Add(ceiling.Unsafe, ceiling.Advice("have it logged", fmt.Sprintf("ALTER SEQUENCE %s SET LOGGED;", s.name)), "the sequence %s is unlogged: after a crash it begins again", s.name)
	}
	if len(r.Findings) == before {
		r.Add(ceiling.OK, nil, "%q is drawn by the sequence %s: CACHE 1, INCREMENT 1, NO CYCLE", t.Key[0].Name, s.name)
		r.Fallbacks = []string{"lag=5m", "grace=30s"}
	}
	if !s.mayRead {
		r.Add(ceiling.Warning, ceiling.Advice("let the role read the sequence", fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s;", s.name, p.role)), "the role may not read the sequence %s: keys that clients made up above it, and a setval below the cursor, go unnoticed", s.name)
	}
}
