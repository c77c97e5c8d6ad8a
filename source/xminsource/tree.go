package xminsource

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// member is the table, or a partition or child of it.
type member struct {
	oid, file int64
	storage   bool // it stores rows itself
	since     age  // when it became a part of the table

	root         bool
	name         string
	kind, method string // the access method is "" without files
	hidden       bool   // row-level security may hide rows
}

// age is when a member was attached, relative to X0 and X1.
type age int

const (
	before age = iota // before X0: its rows were delivered
	within            // from X0 to X1: all of its rows are new to this pass
	later             // from X1 on: it belongs to a later pass
)

// tree are the members of a table, as one connection sees them.
type tree []member

// readTree reads the members. Each is as old as the youngest link on its way to the table: the row in
// pg_inherits was written by the transaction that attached it. It refuses what ALTER may have brought since the last batch.
func (g *guard) readTree(ctx context.Context, db queryer, p position) (tree, error) {
	s := g.source
	all, err := ceiling.List(ctx, db, func(m *member) []any {
		return []any{&m.oid, &m.file, &m.storage, &m.since, &m.root, &m.name, &m.kind, &m.method, &m.hidden}
	},
		`WITH RECURSIVE tree(oid, age) AS (
			SELECT to_regclass($1::text)::oid, 2147483647
			UNION ALL SELECT i.inhrelid, LEAST(tree.age, CASE WHEN age(i.xmin) < 0 THEN 2147483647 ELSE age(i.xmin) END)
			FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
		), members AS (SELECT oid, max(age) AS age FROM tree GROUP BY oid)
		SELECT c.oid::bigint, COALESCE(pg_relation_filenode(c.oid), 0)::bigint, c.relkind IN ('r', 'm'),
			CASE WHEN members.age <= age($3::text::xid) THEN 2 WHEN $4::bool AND members.age <= age($2::text::xid) THEN 1 ELSE 0 END,
			c.oid = to_regclass($1::text), c.oid::regclass::text, c.relkind::text, COALESCE((SELECT amname::text FROM pg_catalog.pg_am WHERE oid = c.relam AND c.relkind <> 'p'), ''),
			c.oid = to_regclass($1::text) AND row_security_active(c.oid)
		FROM members JOIN pg_catalog.pg_class c ON c.oid = members.oid ORDER BY 1`, g.name, short(p.from), short(p.below), p.from != 0)
	switch {
	case err != nil:
		return nil, s.wrap(fmt.Errorf("reading the partitions: %w", err))
	case len(all) == 0:
		return nil, s.permanent("the table does not exist any more")
	}
	r := ceiling.Report{Strategy: "xmin"}
	for _, m := range all {
		m.check(&r)
	}
	if err := r.Err(ceiling.Table{Label: s.Name}); err != nil {
		return nil, s.permanent("%w", err)
	}
	return all, nil
}

var kinds = map[string]string{"v": "a view", "f": "a foreign table", "S": "a sequence", "c": "a composite type", "i": "an index", "I": "an index", "t": "a TOAST table"}

// check adds why the row versions of a member do not show what is new. The policies of the table itself hold for the
// rows of all members.
func (m member) check(r *ceiling.Report) {
	it, method := "it", "its access method"
	if !m.root {
		it = "the partition " + m.name
		method = "the access method of " + it
	}
	r.AddIf(!strings.Contains("rpm", m.kind), ceiling.Unsafe, ceiling.Advice("read the tables behind it, or compare passes with package diffsource"), "%s is %s, whose rows have no transaction id", it, kinds[m.kind])
	r.AddIf(m.storage && m.method != "heap", ceiling.Unsafe, ceiling.Advice("compare passes with package diffsource"), "%s is %s, and only that of heap is known to keep transaction ids", method, m.method)
	r.AddIf(m.hidden, ceiling.Unsafe, ceiling.Advice("read with a role that has BYPASSRLS"), "row-level security applies to this role: a row that a policy shows only later is missed")
}

// short returns an id in the form that row versions have, without its epoch.
func short(id uint64) string { return strconv.FormatUint(id&(1<<32-1), 10) }

// stamp changes when a member comes or goes, or gets another file.
func (t tree) stamp() string {
	var b strings.Builder
	for _, m := range t {
		fmt.Fprintf(&b, "%d:%d ", m.oid, m.file)
	}
	return b.String()
}

func (t tree) oids(since age) (oids []int64) {
	for _, m := range t {
		if m.since == since && m.storage {
			oids = append(oids, m.oid)
		}
	}
	return oids
}

// The conditions compare ids on a ring of 2^32, by their distance from the next one. A frozen
// version keeps its id, so that its distance can be negative. The subselects are evaluated once.
const (
	isBelow   = `age(t.xmin) > (SELECT age(?::text::xid))`
	isFrom    = `age(t.xmin) <= (SELECT age(?::text::xid))`
	isOutside = `NOT (age(t.xmin) BETWEEN 0 AND (SELECT age(?::text::xid)))`
)

// condition is the condition for the row versions of a pass.
func (t tree) condition(p position) (where string, args []any) {
	from, below := short(p.from), short(p.below)
	if p.from == 0 {
		where, args = isOutside, []any{below}
	} else {
		where, args = isFrom+" AND "+isBelow, []any{from, below}
		if attached := t.oids(within); attached != nil {
			where = "(" + where + " OR t.tableoid = ANY (?::text::oid[]) AND " + isOutside + ")"
			args = append(args, array(attached), below)
		}
	}
	if others := t.oids(later); others != nil {
		where += " AND t.tableoid <> ALL (?::text::oid[])"
		args = append(args, array(others))
	}
	return where, args
}

// at is the condition for the row versions at some places.
func (t tree) at(places []place) (where string, args []any) {
	tids := make([]string, len(places))
	for i, p := range places {
		tids[i] = p.tid()
	}
	where, args = "t.ctid = ANY (?::text::tid[])", []any{array(tids)}
	if len(t) > 1 { // versions of two members can have the same place
		oids := make([]int64, len(places))
		for i, p := range places {
			oids[i] = int64(p.table)
		}
		where += " AND (t.tableoid, t.ctid) IN (SELECT a.rel, a.tid FROM unnest(?::text::oid[], ?::text::tid[]) AS a(rel, tid))"
		args = append(args, array(oids), array(tids))
	}
	return where, args
}
