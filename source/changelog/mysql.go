package changelog

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
)

type myEngine struct{}

const myQuoter = quoter("`")

// myMode is the sql_mode of the triggers: a copy of a value is never refused, also if it is a date that no
// calendar has.
const myMode = "ALLOW_INVALID_DATES"

// myFacts are what only MariaDB and MySQL have.
type myFacts struct {
	maria    bool
	parents  []myParent
	triggers map[string]myTrigger // by name, of the table and its parents
}

type myTrigger struct {
	schema, table string
	when          string // BEFORE DELETE
	body          string
	mode          string
}

// myParent is a foreign key of the table whose parent changes its rows without running triggers.
type myParent struct {
	name          string // of the foreign key
	schema, table string
	own, theirs   []string // the columns
	onDelete      string
	onUpdate      string
}

func (e myEngine) probe(ctx context.Context, db ceiling.Queryer, t *Table, parts []string) (*facts, error) {
	f, p := &facts{label: t.Name}, &myFacts{triggers: map[string]myTrigger{}}
	f.more = p
	if len(parts) == 1 {
		var schema sql.NullString
		if err := db.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&schema); err != nil {
			return nil, err
		}
		parts = []string{schema.String, parts[0]}
	}
	var schema, name, kind, engine, version string
	err := db.QueryRowContext(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, ''), VERSION() FROM information_schema.TABLES WHERE "+myTable(parts)).
		Scan(&schema, &name, &kind, &engine, &version)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, permanent("%s: the table does not exist, or the role may not see it", t.Name)
	case err != nil:
		return nil, err
	}
	f.parts, f.schema, f.label = []string{schema, name}, schema, schema+"."+name
	p.maria = strings.Contains(version, "MariaDB")
	switch {
	case kind != "BASE TABLE":
		return nil, refuse(f, "it is not a base table, but a %s", strings.ToLower(kind))
	case !strings.EqualFold(engine, "InnoDB"):
		return nil, refuse(f, "the engine is %s: only with InnoDB are a change and its record committed together", engine)
	}
	for _, read := range []func(context.Context, ceiling.Queryer, *Table, *facts, *myFacts) error{e.readRights, e.readColumns, e.readStore, e.readParents, e.readTriggers, e.readMarks} {
		if err := read(ctx, db, t, f, p); err != nil {
			return nil, err
		}
	}
	f.unrecorded("a write under LOCK TABLES may fail with error 1442, and is not made then")
	f.choosePairs(myQuoter, p.triggers[f.store.object("_insert")].body+p.triggers[f.store.object("_update")].body)
	return f, nil
}

// myTable is the condition for a table's rows in information_schema.
func myTable(parts []string) string {
	return "TABLE_SCHEMA = " + myLiteral(parts[0]) + " AND TABLE_NAME = " + myLiteral(parts[1])
}

// myLiteral writes a string, whatever a backslash means.
func myLiteral(s string) string {
	if strings.ContainsAny(s, `'\`) {
		return "_utf8mb4 x'" + hex.EncodeToString([]byte(s)) + "'"
	}
	return "'" + s + "'"
}

// readRights refuses a role that would not see the triggers: they would look missing.
func (myEngine) readRights(ctx context.Context, db ceiling.Queryer, _ *Table, f *facts, _ *myFacts) error {
	grants, err := ceiling.Texts(ctx, db, "SHOW GRANTS")
	if err != nil {
		return err
	}
	own := []string{"ON *.* ", "ON " + myQuoter.Quote(f.parts[0]) + ".* ", "ON " + dialect.QuoteAll(myQuoter, f.parts) + " ",
		"ON " + myQuoter.Quote(strings.ReplaceAll(f.parts[0], "_", `\_`)) + ".* "}
	for _, g := range grants {
		sees := strings.Contains(g, "TRIGGER") || strings.HasPrefix(g, "GRANT ALL PRIVILEGES ")
		if sees && slices.ContainsFunc(own, func(on string) bool { return strings.Contains(g, on) }) {
			return nil
		}
		if strings.HasPrefix(g, "GRANT `") && !strings.Contains(g, " ON ") { // a role, whose rights are not among them
			return nil
		}
	}
	return refuse(f, "the user does not see its triggers: grant TRIGGER on it, as Grants says")
}

func (e myEngine) readColumns(ctx context.Context, db ceiling.Queryer, t *Table, f *facts, _ *myFacts) error {
	type found struct {
		name, typ, base, charset, collation string
		length                              int64
		nullable                            bool
	}
	all, err := ceiling.List(ctx, db, func(c *found) []any {
		return []any{&c.name, &c.typ, &c.base, &c.charset, &c.collation, &c.length, &c.nullable}
	}, "SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, COALESCE(CHARACTER_SET_NAME, ''), COALESCE(COLLATION_NAME, ''), COALESCE(CHARACTER_OCTET_LENGTH, 0), IS_NULLABLE = 'YES' "+
		"FROM information_schema.COLUMNS WHERE "+myTable(f.parts)+" ORDER BY ORDINAL_POSITION")
	if err != nil {
		return err
	}
	for _, c := range all {
		f.columns = append(f.columns, column{name: c.name, typ: myType(c.typ, c.base, c.charset, c.collation, c.length)})
	}
	primary, err := ceiling.Texts(ctx, db, "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE "+myTable(f.parts)+" AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX")
	if err != nil {
		return err
	}
	if err := f.keep(t, primary); err != nil {
		return err
	}
	for _, c := range all {
		for i := range f.columns {
			if f.columns[i].key && f.columns[i].name == c.name { // a string can become longer
				f.columns[i].typ = myType(c.typ, c.base, c.charset, c.collation, inRow+1)
			}
		}
		if c.nullable && slices.Contains(f.key, c.name) {
			return refuse(f, "the column %q of the key may be NULL", c.name)
		}
	}
	var names []string
	for _, name := range f.key {
		names = append(names, myLiteral(name))
	}
	return unique(ctx, db, f, "SELECT EXISTS (SELECT 1 FROM information_schema.STATISTICS WHERE "+myTable(f.parts)+
		" GROUP BY INDEX_NAME HAVING MAX(NON_UNIQUE) = 0 AND SUM(COLUMN_NAME NOT IN ("+strings.Join(names, ", ")+") OR SUB_PART IS NOT NULL) = 0)")
}

// myInteger matches the types of integers, but for those that are read with zeros in front.
var myInteger = regexp.MustCompile(`^(tiny|small|medium|big)?int(\(\d+\))?( unsigned)?$`)

// inRow is the length in bytes up to which a string that is not of the key has its own type in the change table.
const inRow = 128

// myType returns the type in the change table. Integers have the largest size there, so that a column can become
// wider. Long strings are stored outside of the row, because a row holds 64 KiB and has each column twice.
func myType(typ, base, charset, collation string, length int64) string {
	typ = myInteger.ReplaceAllString(typ, "bigint$3")
	if length > inRow {
		switch base {
		case "varchar", "char":
			typ = "mediumtext"
		case "varbinary", "binary":
			typ = "mediumblob"
		}
	}
	if charset != "" {
		typ += " CHARACTER SET " + charset + " COLLATE " + collation
	}
	return typ
}

func (myEngine) readStore(ctx context.Context, db ceiling.Queryer, t *Table, f *facts, _ *myFacts) error {
	f.store.fold = true
	return f.findStore(t, 64, func(name string) ([]stored, error) {
		columns, err := readStored(ctx, db, "SELECT COLUMN_NAME, CONCAT(COLUMN_TYPE, IF(CHARACTER_SET_NAME IS NULL, '', CONCAT(' CHARACTER SET ', CHARACTER_SET_NAME, ' COLLATE ', COLLATION_NAME))) FROM information_schema.COLUMNS WHERE "+
			myTable([]string{f.schema, name})+" ORDER BY ORDINAL_POSITION")
		for i, c := range columns {
			if strings.HasPrefix(c.typ, "bigint(") { // some versions show how many digits it has
				columns[i].typ = myInteger.ReplaceAllString(c.typ, "bigint$3")
			}
		}
		return columns, err
	})
}

func (e myEngine) readTriggers(ctx context.Context, db ceiling.Queryer, _ *Table, f *facts, p *myFacts) error {
	where := "EVENT_OBJECT_SCHEMA = " + myLiteral(f.parts[0]) + " AND EVENT_OBJECT_TABLE = " + myLiteral(f.parts[1])
	for _, parent := range p.parents {
		where += " OR EVENT_OBJECT_SCHEMA = " + myLiteral(parent.schema) + " AND EVENT_OBJECT_TABLE = " + myLiteral(parent.table)
	}
	return e.listTriggers(ctx, db, p, where)
}

// listTriggers adds the triggers that satisfy a condition.
func (myEngine) listTriggers(ctx context.Context, db ceiling.Queryer, p *myFacts, where string) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name string
		var g myTrigger
		err := rows.Scan(&name, &g.schema, &g.table, &g.when, &g.body, &g.mode)
		p.triggers[name] = g
		return err
	}, "SELECT TRIGGER_NAME, EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION), ACTION_STATEMENT, SQL_MODE FROM information_schema.TRIGGERS WHERE "+where)
}

// complete finds the triggers on other tables, among those of all tables: on tables that were parents once, and on
// one that had the table's name.
func (e myEngine) complete(ctx context.Context, db ceiling.Queryer, f *facts) error {
	former := &myFacts{triggers: map[string]myTrigger{}}
	prefix := f.store.name + "_"
	if err := e.listTriggers(ctx, db, former, "LEFT(TRIGGER_NAME, "+strconv.Itoa(utf8.RuneCountInString(prefix))+") = "+myLiteral(prefix)+" AND LOCATE("+myLiteral(e.inserts(f))+", ACTION_STATEMENT) > 0"); err != nil {
		return err
	}
	p := f.more.(*myFacts)
	for name, g := range former.triggers {
		if _, ok := p.triggers[name]; !ok {
			p.triggers[name] = g
		}
	}
	return nil
}

// readMarks reads the ids of the table and its partitions, which TRUNCATE changes. A role without the
// privilege PROCESS does not see them, and cannot read by the dirty probe either.
func (myEngine) readMarks(ctx context.Context, db ceiling.Queryer, _ *Table, f *facts, _ *myFacts) error {
	m, err := mysql.Dialect{}.Marks(ctx, db, f.parts)
	for _, part := range m.Parts {
		if part.Name == "table ids" {
			f.marks = part.Value
		}
	}
	f.unseen = "a TRUNCATE runs no trigger: it ends the reading with an error, and so does a statement that rebuilds the table, but not if the table is recreated under its old id"
	return err
}

// readParents reads the foreign keys whose actions change rows of the table without running triggers, and
// refuses those whose own parents can do the same.
func (e myEngine) readParents(ctx context.Context, db ceiling.Queryer, _ *Table, f *facts, p *myFacts) (err error) {
	p.parents, err = e.foreignKeys(ctx, db, f.parts[0], f.parts[1])
	for _, parent := range p.parents {
		if err != nil {
			return err
		}
		if parent.onDelete == "CASCADE" && parent.schema == f.parts[0] && parent.table == f.parts[1] {
			return refuse(f, "the foreign key %s deletes rows of the table with others of it, over any number of levels, and runs no trigger for that", parent.name)
		}
		var visible bool
		if err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM information_schema.TABLES WHERE "+myTable([]string{parent.schema, parent.table})+")").Scan(&visible); err != nil {
			return err
		}
		if !visible {
			return refuse(f, "the foreign key %s changes its rows without running triggers, and the user does not see the table %s.%s: grant SELECT and TRIGGER on that, as Grants says", parent.name, parent.schema, parent.table)
		}
		above, err := e.foreignKeys(ctx, db, parent.schema, parent.table)
		if err != nil {
			return err
		}
		for _, g := range above {
			changes := slices.ContainsFunc(g.own, func(c string) bool { return slices.Contains(parent.theirs, c) })
			if g.onDelete == "CASCADE" || changes {
				return refuse(f, "the foreign key %s changes its rows when %s.%s changes, which the foreign key %s of that table changes in turn, and neither runs a trigger", parent.name, parent.schema, parent.table, g.name)
			}
		}
	}
	return err
}

// foreignKeys returns the foreign keys of a table that change its rows.
func (myEngine) foreignKeys(ctx context.Context, db ceiling.Queryer, schema, table string) (keys []myParent, err error) {
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var k myParent
		var own, theirs string
		err := rows.Scan(&k.name, &k.schema, &k.table, &own, &theirs, &k.onDelete, &k.onUpdate)
		last := len(keys) - 1
		if last < 0 || keys[last].name != k.name {
			keys, last = append(keys, k), last+1
		}
		keys[last].own, keys[last].theirs = append(keys[last].own, own), append(keys[last].theirs, theirs)
		return err
	}, `SELECT r.CONSTRAINT_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME, k.COLUMN_NAME, k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE
		FROM information_schema.REFERENTIAL_CONSTRAINTS r JOIN information_schema.KEY_COLUMN_USAGE k
			ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME AND k.TABLE_NAME = r.TABLE_NAME AND k.REFERENCED_TABLE_NAME IS NOT NULL
		WHERE r.CONSTRAINT_SCHEMA = `+myLiteral(schema)+` AND r.TABLE_NAME = `+myLiteral(table)+` AND k.TABLE_SCHEMA = `+myLiteral(schema)+`
			AND (r.DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR r.UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))
		ORDER BY r.CONSTRAINT_NAME, k.ORDINAL_POSITION`)
	return keys, err
}

func (e myEngine) wrong(f *facts) (wrong []finding) {
	p := f.more.(*myFacts)
	names, wanted := e.triggers(f, p)
	for i, name := range names {
		switch have, ok := p.triggers[name]; {
		case !ok:
			wrong = append(wrong, finding{"the trigger " + name + " is missing", true})
		case have != wanted[i]:
			wrong = append(wrong, finding{"the trigger " + name + " is not that of the table's present columns and foreign keys", i >= 3 || !e.similar(f, have, wanted[i])})
		}
	}
	for _, name := range e.own(f, p, nil) {
		if !slices.Contains(names, name) {
			wrong = append(wrong, finding{"the trigger " + name + " is of a foreign key that does not exist any more", false})
		}
	}
	return wrong
}

// similar reports whether a trigger is that of other columns.
func (e myEngine) similar(f *facts, have, want myTrigger) bool {
	ours := e.ours(f, have)
	have.body = want.body
	return ours && have == want
}

// ours reports whether a version of the script has made a trigger.
func (e myEngine) ours(f *facts, g myTrigger) bool {
	return strings.HasPrefix(g.body, e.begins()) && strings.Contains(g.body, e.inserts(f))
}

// inserts is in the bodies of all triggers.
func (myEngine) inserts(f *facts) string { return " INSERT INTO " + f.stored() + " (op, at, width, " }

// own returns the names of all triggers that are or were of the script.
func (e myEngine) own(f *facts, p *myFacts, names []string) []string {
	all := slices.Clone(names)
	for name, g := range p.triggers {
		if strings.HasPrefix(name, f.store.name+"_") && e.ours(f, g) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// stored is the change table's name for SQL.
func (f *facts) stored() string { return dialect.QuoteAll(myQuoter, []string{f.schema, f.store.name}) }
