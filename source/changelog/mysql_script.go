package changelog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// myAltered are the errors of a statement in a trigger after ALTER TABLE or RENAME TABLE: an unknown column,
// an unknown table, and a value that is not a geometry.
const myAltered = "1054, 1146, 1416"

// guarded returns the body of a trigger. If the record cannot be made because the table was altered, it
// records that the rows with these keys must be looked up, and without a known key that changes are missing.
func (e myEngine) guarded(f *facts, record string, rows ...string) string {
	missing := fmt.Sprintf("INSERT INTO %s (op, at, width) VALUES ('%s', UTC_TIMESTAMP(6), 0);", f.stored(), opStart)
	body := e.begins() + missing + " "
	if rows != nil {
		var keys []string
		for _, r := range rows {
			keys = append(keys, fmt.Sprintf("('%s', UTC_TIMESTAMP(6), %d, %s)", opLookUp, f.keyWidth(), list(f.keyColumns(), ", ", func(c column) string { return r + "." + myQuoter.Quote(c.name) })))
		}
		body = e.begins() + body + fmt.Sprintf("INSERT INTO %s (op, at, width, %s) VALUES %s; END; ", f.stored(),
			list(f.keyColumns(), ", ", func(c column) string { return myQuoter.Quote(f.store.new(c)) }), strings.Join(keys, ", "))
	}
	return body + record + "; END"
}

// begins is how the bodies of all triggers begin.
func (myEngine) begins() string { return "BEGIN DECLARE EXIT HANDLER FOR " + myAltered + " " }

// triggers returns the triggers by name, in the order in which they are created.
func (e myEngine) triggers(f *facts, p *myFacts) (names []string, triggers []myTrigger) {
	add := func(suffix, schema, table, when, body string) {
		names = append(names, f.store.object(suffix))
		triggers = append(triggers, myTrigger{schema, table, when, body, myMode})
	}
	q := myQuoter.Quote
	into := func(columns string) string {
		return "INSERT INTO " + f.stored() + " (op, at, width, " + columns + ") "
	}
	olds := list(f.columns, ", ", func(c column) string { return q(f.store.old(c)) })
	news := list(f.columns, ", ", func(c column) string { return q(f.store.new(c)) })
	before := list(f.columns, ", ", func(c column) string { return "OLD." + q(c.name) })
	after := list(f.columns, ", ", func(c column) string { return "NEW." + q(c.name) })
	w := f.width()
	own := func(suffix, event, op, columns, values string) {
		row := map[string]string{"INSERT": "NEW", "DELETE": "OLD"}[event]
		add(suffix, f.parts[0], f.parts[1], "AFTER "+event, e.guarded(f, into(columns)+fmt.Sprintf("VALUES ('%s', UTC_TIMESTAMP(6), %d, %s)", op, w, values), row))
	}
	own("_insert", "INSERT", opInsert, news, after)
	add("_update", f.parts[0], f.parts[1], "AFTER UPDATE", e.guarded(f, e.updated(f, into(olds+", "+news)+fmt.Sprintf("SELECT '%s', UTC_TIMESTAMP(6), %d, %s", opUpdate, w, before)), "OLD", "NEW"))
	own("_delete", "DELETE", opDelete, olds, before)
	keys := f.keyColumns()
	for i, parent := range p.parents {
		table := dialect.QuoteAll(myQuoter, f.parts)
		fill := into(list(keys, ", ", func(c column) string { return q(f.store.new(c)) }))
		var match, differ []string
		for k, name := range parent.own {
			match = append(match, fmt.Sprintf("%s = OLD.%s", q(name), q(parent.theirs[k])))
			differ = append(differ, fmt.Sprintf("BINARY OLD.%s <=> BINARY NEW.%[1]s", q(parent.theirs[k])))
		}
		record := func(value func(column) string, cond string) string {
			lock := "FOR UPDATE"
			if parent.schema == f.parts[0] && parent.table == f.parts[1] { // a trigger must not lock its own table for writing
				lock = "LOCK IN SHARE MODE"
			}
			return e.guarded(f, fill+fmt.Sprintf("SELECT '%s', UTC_TIMESTAMP(6), %d, %s FROM %s WHERE %s%s %s", opLookUp, f.keyWidth(), list(keys, ", ", value), table, strings.Join(match, " AND "), cond, lock))
		}
		plain := func(c column) string { return q(c.name) }
		if parent.onDelete != "RESTRICT" && parent.onDelete != "NO ACTION" {
			add(fmt.Sprintf("_parent%d_delete", i+1), parent.schema, parent.table, "BEFORE DELETE", record(plain, ""))
		}
		if parent.onUpdate == "RESTRICT" || parent.onUpdate == "NO ACTION" {
			continue
		}
		changed := " AND NOT (" + strings.Join(differ, " AND ") + ")"
		add(fmt.Sprintf("_parent%d_update", i+1), parent.schema, parent.table, "BEFORE UPDATE", record(plain, changed))
		if slices.ContainsFunc(parent.own, func(c string) bool { return slices.Contains(f.key, c) }) { // the cascade changes the key
			add(fmt.Sprintf("_parent%d_moved", i+1), parent.schema, parent.table, "BEFORE UPDATE", record(func(c column) string {
				if k := slices.Index(parent.own, c.name); k >= 0 {
					return "NEW." + q(parent.theirs[k])
				}
				return q(c.name)
			}, changed))
		}
	}
	return names, triggers
}

// updated records the row after an UPDATE from the table. The trigger also runs for a row that UPDATE IGNORE
// has not changed, because of another row with the same value in a unique index: then NEW is not the row. If the
// key has changed, it records nothing while the row with the old key exists; this takes as long again.
func (myEngine) updated(f *facts, record string) string {
	table, keys := dialect.QuoteAll(myQuoter, f.parts), f.keyColumns()
	same := func(left, right string) string {
		return list(keys, " AND ", func(c column) string {
			name := myQuoter.Quote(c.name)
			return left + name + " = " + right + name
		})
	}
	fresh := fmt.Sprintf(", %s FROM %s AS t WHERE %s", list(f.columns, ", ", func(c column) string { return "t." + myQuoter.Quote(c.name) }), table, same("t.", "NEW."))
	moved := fmt.Sprintf("NOT EXISTS (SELECT 1 FROM %s AS o WHERE %s)", table, same("o.", "OLD."))
	if len(f.columns) > len(keys) {
		return fmt.Sprintf("IF %s THEN %s%s; ELSE %[2]s%[3]s AND %s; END IF", same("OLD.", "NEW."), record, fresh, moved)
	}
	// Nothing but the key is recorded, so a row that has kept it need not be read.
	return fmt.Sprintf("IF %s THEN %s, %s; ELSE %[2]s%[4]s AND (%s OR %s); END IF", same("BINARY OLD.", "BINARY NEW."), record,
		list(f.columns, ", ", func(c column) string { return "NEW." + myQuoter.Quote(c.name) }), fresh, same("OLD.", "NEW."), moved)
}

// The statements that save and restore the sql_mode of the session that runs the script. Restoring does
// nothing if nothing was saved.
const (
	mySave    = "SET @devotion_mode = @@SESSION.sql_mode;"
	myRestore = "SET SESSION sql_mode = COALESCE(@devotion_mode, @@SESSION.sql_mode);"
)

func (e myEngine) install(f *facts) Script {
	p := f.more.(*myFacts)
	store := f.stored()
	s := Script{fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (seq bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, op char(1) CHARACTER SET ascii NOT NULL, at datetime(6), width int NOT NULL, %s) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;",
		store, strings.Join(f.definitions(" NULL DEFAULT NULL"), ", "))}
	if f.store.exists {
		unless := ""
		if p.maria {
			unless = "IF NOT EXISTS "
		}
		s = append(s, f.alter(func(name, typ string) string {
			return fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s%s %s NULL DEFAULT NULL;", store, unless, myQuoter.Quote(name), typ)
		})...)
	}
	names, triggers := e.triggers(f, p)
	s = append(s, mySave, "SET SESSION sql_mode = '"+myMode+"';", e.lock(f, p))
	var quoted []string
	for i, name := range names {
		g := triggers[i]
		quoted = append(quoted, fmt.Sprintf("TRIGGER_NAME = %s AND EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = %s", myLiteral(name), myLiteral(g.schema), myLiteral(g.table)))
	}
	s = append(s, fmt.Sprintf("INSERT INTO %s (op, at, width) SELECT '%s', UTC_TIMESTAMP(6), 0 FROM (SELECT COUNT(*) AS n FROM information_schema.TRIGGERS WHERE (%s) AND LOCATE(%s, ACTION_STATEMENT) = 1 AND LOCATE(%s, ACTION_STATEMENT) > 0) AS g WHERE %s;",
		store, opStart, strings.Join(quoted, " OR "), myLiteral(e.begins()), myLiteral(e.inserts(f)), f.started(e, fmt.Sprint("n = ", len(names)), store)))
	for _, name := range e.own(f, p, names) {
		s = append(s, fmt.Sprintf("DROP TRIGGER IF EXISTS %s;", e.named(f, p, name, names, triggers)))
	}
	for i, name := range names {
		g := triggers[i]
		s = append(s, fmt.Sprintf("CREATE TRIGGER %s %s ON %s FOR EACH ROW %s;", dialect.QuoteAll(myQuoter, []string{g.schema, name}), g.when,
			dialect.QuoteAll(myQuoter, []string{g.schema, g.table}), g.body))
	}
	return append(s, "UNLOCK TABLES;", myRestore)
}

// named quotes a trigger's name, which is in the schema of its table.
func (myEngine) named(f *facts, p *myFacts, name string, names []string, triggers []myTrigger) string {
	schema := f.parts[0]
	if i := slices.Index(names, name); i >= 0 {
		schema = triggers[i].schema
	} else if g, ok := p.triggers[name]; ok {
		schema = g.schema
	}
	return dialect.QuoteAll(myQuoter, []string{schema, name})
}

// lock returns the statement that keeps writers away while triggers are replaced.
func (e myEngine) lock(f *facts, p *myFacts) string {
	tables := []string{dialect.QuoteAll(myQuoter, f.parts) + " WRITE", f.stored() + " WRITE", f.stored() + " AS past READ"}
	for _, parent := range p.parents {
		if name := dialect.QuoteAll(myQuoter, []string{parent.schema, parent.table}) + " WRITE"; !slices.Contains(tables, name) {
			tables = append(tables, name)
		}
	}
	for _, name := range e.own(f, p, nil) {
		g := p.triggers[name]
		if table := dialect.QuoteAll(myQuoter, []string{g.schema, g.table}) + " WRITE"; !slices.Contains(tables, table) {
			tables = append(tables, table)
		}
	}
	return "LOCK TABLES " + strings.Join(tables, ", ") + ";"
}

func (e myEngine) remove(f *facts) Script {
	p := f.more.(*myFacts)
	names, triggers := e.triggers(f, p)
	var s Script
	for _, name := range e.own(f, p, names) {
		s = append(s, fmt.Sprintf("DROP TRIGGER IF EXISTS %s;", e.named(f, p, name, names, triggers)))
	}
	if f.store.exists {
		s = append(s, "DROP TABLE IF EXISTS "+f.stored()+";")
	}
	return s
}

func (myEngine) grants(f *facts, reader, pruner string) (s Script) {
	p := f.more.(*myFacts)
	if reader != "" {
		tables := []string{dialect.QuoteAll(myQuoter, f.parts)}
		for _, parent := range p.parents {
			if name := dialect.QuoteAll(myQuoter, []string{parent.schema, parent.table}); !slices.Contains(tables, name) {
				tables = append(tables, name)
			}
		}
		s = append(s, "GRANT PROCESS ON *.* TO "+reader+";", "GRANT SELECT ON "+f.stored()+" TO "+reader+";")
		for _, name := range tables {
			s = append(s, "GRANT SELECT, TRIGGER ON "+name+" TO "+reader+";")
		}
	}
	if pruner != "" {
		s = append(s, "GRANT SELECT, DELETE ON "+f.stored()+" TO "+pruner+";")
	}
	return s
}
