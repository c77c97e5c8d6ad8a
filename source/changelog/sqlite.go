package changelog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

type liteEngine struct{}

// liteFacts are what only SQLite has.
type liteFacts struct {
	uniques  [][]liteColumn    // the columns of each unique index that is not the key's
	triggers map[string]string // the statements of the triggers in the table's database, from their time on
}

type liteColumn struct{ name, collation string }

func (e liteEngine) probe(ctx context.Context, db ceiling.Queryer, t *Table, parts []string) (*facts, error) {
	f, p := &facts{label: t.Name}, &liteFacts{triggers: map[string]string{}}
	f.more = p
	var schema, name, kind string
	var withoutRowid bool
	last := len(parts) - 1
	err := db.QueryRowContext(ctx, `SELECT l.schema, l.name, l.type, l.wr FROM pragma_table_list(?) AS l JOIN pragma_database_list AS d ON d.name = l.schema
		WHERE ? IN ('', l.schema COLLATE NOCASE) ORDER BY d.name <> 'temp', d.seq LIMIT 1`, parts[last], strings.Join(parts[:last], "")).Scan(&schema, &name, &kind, &withoutRowid)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, permanent("%s: the table does not exist", t.Name)
	case err != nil:
		return nil, err
	case kind != "table" || schema == "temp":
		return nil, refuse(f, "it is a %s of the database %s, and not a table that other connections can see and write", kind, schema)
	}
	f.parts, f.schema, f.label = []string{schema, name}, schema, name
	if schema != "main" {
		f.label = schema + "." + name
	}
	primary, err := e.readColumns(ctx, db, f)
	if err == nil {
		err = f.keep(t, primary)
	}
	if err == nil {
		err = e.readIndexes(ctx, db, f, p, primary, withoutRowid)
	}
	if err == nil {
		f.store.fold = true
		err = f.findStore(t, 1000, func(name string) ([]stored, error) {
			return readStored(ctx, db, `SELECT name, type FROM pragma_table_xinfo(?, ?) ORDER BY cid`, name, schema)
		})
	}
	if err == nil {
		err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
			var name, text string
			err := rows.Scan(&name, &text)
			p.triggers[name] = bare(text)
			return err
		}, fmt.Sprintf(`SELECT name, sql FROM %s.sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE`, pgQuoter.Quote(schema)), name)
	}
	if err == nil {
		f.choosePairs(pgQuoter, p.triggers[f.store.object("_insert")]+p.triggers[f.store.object("_update")])
	}
	return f, err
}

func (liteEngine) readColumns(ctx context.Context, db ceiling.Queryer, f *facts) (primary []string, err error) {
	type found struct {
		name, typ string
		pk        int
		hidden    int
	}
	all, err := ceiling.List(ctx, db, func(c *found) []any { return []any{&c.name, &c.typ, &c.pk, &c.hidden} },
		`SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, ?) ORDER BY cid`, f.parts[1], f.parts[0])
	for n := 1; n <= len(all); n++ {
		for _, c := range all {
			if c.pk == n {
				primary = append(primary, c.name)
			}
		}
	}
	for _, c := range all {
		f.columns = append(f.columns, column{name: c.name})
	}
	return primary, err
}

// readIndexes finds the unique indexes by which REPLACE can delete a row with another key.
func (liteEngine) readIndexes(ctx context.Context, db ceiling.Queryer, f *facts, p *liteFacts, primary []string, withoutRowid bool) error {
	type found struct {
		index, collation string
		column           sql.NullString
		partial          bool
	}
	all, err := ceiling.List(ctx, db, func(c *found) []any { return []any{&c.index, &c.column, &c.collation, &c.partial} },
		`SELECT l.name, i.name, COALESCE(i.coll, ''), l.partial FROM pragma_index_list(?, ?) AS l, pragma_index_xinfo(l.name, ?) AS i
		WHERE l."unique" AND i.key ORDER BY l.name, i.seqno`, f.parts[1], f.parts[0], f.parts[0])
	if err != nil {
		return err
	}
	indexes := map[string][]liteColumn{}
	var names, opaque, partial []string
	for _, c := range all {
		if !slices.Contains(names, c.index) {
			names = append(names, c.index)
		}
		if !c.column.Valid {
			opaque = append(opaque, c.index)
		}
		if c.partial {
			partial = append(partial, c.index)
		}
		indexes[c.index] = append(indexes[c.index], liteColumn{c.column.String, c.collation})
	}
	isKey := func(columns []string) bool {
		return !slices.ContainsFunc(columns, func(c string) bool { return !slices.Contains(f.key, c) })
	}
	unique := len(primary) > 0 && isKey(primary)
	for _, name := range names {
		var columns []string
		for _, c := range indexes[name] {
			columns = append(columns, c.name)
		}
		switch {
		case slices.Contains(opaque, name):
			f.unseen = fmt.Sprintf("a row that REPLACE deletes because of the index %s, which is on an expression, is not recorded while PRAGMA recursive_triggers is off", name)
		case isKey(columns) && !slices.Contains(partial, name):
			unique = true
		default:
			p.uniques = append(p.uniques, indexes[name])
		}
	}
	if !unique {
		return refuse(f, "no unique index says that the key (%s) tells rows apart", strings.Join(f.key, ", "))
	}
	if len(primary) > 0 && !isKey(primary) && !slices.Contains(names, "sqlite_autoindex_"+f.parts[1]+"_1") { // INTEGER PRIMARY KEY has no index
		var own []liteColumn
		for _, c := range primary {
			own = append(own, liteColumn{c, "BINARY"})
		}
		p.uniques = append(p.uniques, own)
	}
	return nil
}

// timing matches what stands in front of a trigger's time. SQLite changes it when it renames a table.
var timing = regexp.MustCompile(`(?is)^CREATE\s+TRIGGER\s+.*?\s(AFTER|BEFORE)\s+(INSERT|UPDATE|DELETE)\s+ON\s`)

// bare returns a trigger's statement without its name.
func bare(statement string) string {
	m := timing.FindStringSubmatchIndex(statement)
	if m == nil {
		return statement
	}
	return strings.TrimSuffix(strings.TrimSpace(statement[m[2]:]), ";")
}

// triggers returns the statements that create the triggers, from their time on, by name, in order.
func (e liteEngine) triggers(f *facts, p *liteFacts) (names, texts []string) {
	q := pgQuoter.Quote
	table, store := q(f.parts[1]), q(f.store.name)
	all := f.columns
	key := func(alias string) string {
		return list(f.keyColumns(), " AND ", func(c column) string { return table + "." + q(c.name) + " = " + alias + "." + q(c.name) })
	}
	values := func(alias string) string {
		return list(all, ", ", func(c column) string { return alias + "." + q(c.name) })
	}
	olds, news := list(all, ", ", func(c column) string { return q(f.store.old(c)) }), list(all, ", ", func(c column) string { return q(f.store.new(c)) })
	gone := table + "." + q(f.key[0]) + " IS NULL"
	into := func(columns string) string { return "INSERT INTO " + store + " (op, at, width, " + columns + ") " }
	const now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
	add := func(suffix, when, body string) {
		names = append(names, f.store.object(suffix))
		texts = append(texts, when+" ON "+table+" BEGIN "+body+"; END")
	}
	w := f.width()
	add("_insert", "AFTER INSERT", into(news)+fmt.Sprintf("SELECT '%s', %s, %d, %s FROM %s WHERE %s", opState, now, w, values(table), table, key("NEW")))
	add("_update", "AFTER UPDATE", into(olds+", "+news)+fmt.Sprintf("SELECT CASE WHEN %s THEN '%s' ELSE '%s' END, %s, %d, %s, %s FROM (SELECT 1) LEFT JOIN %s ON %s",
		gone, opDelete, opUpdate, now, w, values("OLD"), values(table), table, key("NEW")))
	add("_delete", "AFTER DELETE", into(olds+", "+news)+fmt.Sprintf("SELECT CASE WHEN %s THEN '%s' ELSE '%s' END, %s, %d, %s, %s FROM (SELECT 1) LEFT JOIN %s ON %s",
		gone, opDelete, opState, now, w, values("OLD"), values(table), table, key("OLD")))
	keys := list(f.keyColumns(), ", ", func(c column) string { return q(f.store.new(c)) })
	for i, u := range p.uniques {
		var terms []string
		for _, c := range u {
			terms = append(terms, fmt.Sprintf("%s.%s = NEW.%s COLLATE %s", table, q(c.name), q(c.name), q(c.collation)))
		}
		for _, when := range []string{"INSERT", "UPDATE"} {
			self := map[string]string{"INSERT": "NEW", "UPDATE": "OLD"}[when]
			other := list(f.keyColumns(), " OR ", func(c column) string { return table + "." + q(c.name) + " IS NOT " + self + "." + q(c.name) })
			add(fmt.Sprintf("_replace_%s%d", strings.ToLower(when), i+1), "BEFORE "+when, into(keys)+fmt.Sprintf("SELECT '%s', %s, %d, %s FROM %s WHERE %s AND (%s)",
				opReplaced, now, f.keyWidth(), list(f.keyColumns(), ", ", func(c column) string { return table + "." + q(c.name) }), table, strings.Join(terms, " AND "), other))
		}
	}
	return names, texts
}

func (e liteEngine) install(f *facts) Script {
	p := f.more.(*liteFacts)
	schema, store := pgQuoter.Quote(f.schema), f.qualified(f.store.name)
	s := Script{"BEGIN IMMEDIATE;", fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (seq INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT, at TEXT, width INTEGER, %s);", store, strings.Join(f.definitions(""), ", "))}
	if f.store.exists { // ADD COLUMN has no IF NOT EXISTS: a second run of the same script fails here, and changes nothing
		s = append(s, f.alter(func(name, _ string) string {
			return "ALTER TABLE " + store + " ADD COLUMN " + pgQuoter.Quote(name) + ";"
		})...)
	}
	names, texts := e.triggers(f, p)
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, dialect.QuoteWith("'", name))
	}
	s = append(s, fmt.Sprintf("INSERT INTO %s (op, width) SELECT '%s', 0 WHERE %s;", store, opStart, f.started(e,
		fmt.Sprintf("(SELECT count(*) FROM %s.sqlite_master WHERE type = 'trigger' AND tbl_name = %s COLLATE NOCASE AND name IN (%s) AND instr(sql, %s)) = %d", schema, dialect.QuoteWith("'", f.parts[1]), strings.Join(quoted, ", "), dialect.QuoteWith("'", e.inserts(f)), len(names)), store)))
	for _, name := range e.own(f, p, names) {
		s = append(s, fmt.Sprintf("DROP TRIGGER IF EXISTS %s;", f.qualified(name)))
	}
	for i, name := range names {
		s = append(s, fmt.Sprintf("CREATE TRIGGER %s %s;", f.qualified(name), texts[i]))
	}
	return append(s, "COMMIT;")
}

// inserts is in all triggers.
func (liteEngine) inserts(f *facts) string {
	return "INSERT INTO " + pgQuoter.Quote(f.store.name) + " (op, at, width, "
}

// own returns the names of all triggers that are or were of the script.
func (liteEngine) own(f *facts, p *liteFacts, names []string) []string {
	all := slices.Clone(names)
	for name, text := range p.triggers {
		if strings.HasPrefix(name, f.store.name+"_") && strings.Contains(text, "INSERT INTO "+pgQuoter.Quote(f.store.name)+" ") && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func (e liteEngine) remove(f *facts) Script {
	p := f.more.(*liteFacts)
	names, _ := e.triggers(f, p)
	s := Script{"BEGIN IMMEDIATE;"}
	for _, name := range e.own(f, p, names) {
		s = append(s, fmt.Sprintf("DROP TRIGGER IF EXISTS %s;", f.qualified(name)))
	}
	if f.store.exists {
		s = append(s, "DROP TABLE IF EXISTS "+f.qualified(f.store.name)+";")
	}
	return append(s, "COMMIT;")
}

func (e liteEngine) wrong(f *facts) (wrong []finding) {
	p := f.more.(*liteFacts)
	names, texts := e.triggers(f, p)
	for i, name := range names {
		switch text, ok := p.triggers[name]; {
		case !ok:
			wrong = append(wrong, finding{"the trigger " + name + " is missing", true})
		case text != texts[i]:
			ours := strings.Contains(text, e.inserts(f))
			wrong = append(wrong, finding{"the trigger " + name + " is not that of the table's present columns and indexes", i >= 3 || !ours})
		}
	}
	for _, name := range e.own(f, p, nil) {
		if !slices.Contains(names, name) {
			wrong = append(wrong, finding{"the trigger " + name + " is of an index that does not exist any more", false})
		}
	}
	return wrong
}

func (liteEngine) grants(*facts, string, string) Script { return nil }

func (liteEngine) complete(context.Context, ceiling.Queryer, *facts) error { return nil }
