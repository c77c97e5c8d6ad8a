package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// table is what pragmas and the catalogue say about a table.
type table struct {
	schema, name string // as the database has them
	kind         string // table, view, virtual, shadow
	withoutRowid bool
	columns      []string // all of them, those that are generated too
	primary      []string // the columns of the primary key
	integer      bool     // the primary key is one column of the type INTEGER
	rowid        bool     // and another name of the rowid
	triggers     []string // names
	indexed      bool     // an index begins with the key's first column
	drawn        bool     // AUTOINCREMENT draws the primary key
	empty        bool     // the table has no row yet, so nothing shows whether it does
}

func probe(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (*table, error) {
	p := &table{}
	for _, read := range []func(context.Context, ceiling.Queryer, ceiling.Table) error{p.readTable, p.readColumns, p.readRest, p.readSequence} {
		if err := read(ctx, db, t); err != nil {
			return nil, fmt.Errorf("reading what SQLite says about the table: %w", err)
		}
	}
	return p, nil
}

// readTable finds the table as SQLite does: without a schema, first among the temporary ones,
// then in the main database, then in the attached ones in their order.
func (p *table) readTable(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	last := len(t.Parts) - 1 // before it stands a schema, or nothing
	err := db.QueryRowContext(ctx, `SELECT l.schema, l.name, l.type, l.wr
		FROM pragma_table_list(?) AS l JOIN pragma_database_list AS d ON d.name = l.schema
		WHERE ? IN ('', l.schema COLLATE NOCASE) ORDER BY d.name <> 'temp', d.seq LIMIT 1`, t.Parts[last], strings.Join(t.Parts[:last], "")).
		Scan(&p.schema, &p.name, &p.kind, &p.withoutRowid)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("the table %s does not exist", t.Label)
	}
	return err
}

func (p *table) readColumns(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name, typ string
		var pk int
		err := rows.Scan(&name, &typ, &pk)
		p.columns = append(p.columns, name)
		if pk > 0 {
			p.primary = append(p.primary, name)
			p.integer = len(p.primary) == 1 && strings.EqualFold(typ, "INTEGER")
		}
		return err
	}, `SELECT name, type, pk FROM pragma_table_xinfo(?, ?)`, p.name, p.schema)
}

// triggers lists the triggers of a table.
const triggers = `SELECT name FROM %s.sqlite_master WHERE tbl_name = %s COLLATE NOCASE AND type = 'trigger' ORDER BY name`

func (p *table) readRest(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (err error) {
	p.triggers, err = ceiling.Texts(ctx, db, fmt.Sprintf(triggers, quote(p.schema), dialect.QuoteWith(`'`, p.name)))
	if err != nil {
		return err
	}
	// INTEGER PRIMARY KEY is the rowid, and has no separate index, unless it is DESC.
	var own bool
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pragma_index_list(?, ?) AS l, pragma_index_info(l.name, ?) AS i
			WHERE i.seqno = 0 AND i.name = ? COLLATE NOCASE AND NOT l.partial),
		EXISTS (SELECT 1 FROM pragma_index_list(?, ?) WHERE origin = 'pk')`,
		p.name, p.schema, p.schema, t.Key[0].Name, p.name, p.schema).Scan(&p.indexed, &own)
	p.rowid = p.integer && !p.withoutRowid && !own
	return err
}

// readSequence tells AUTOINCREMENT by the table's row in sqlite_sequence, which only AUTOINCREMENT
// makes, with the first row of the table. sqlite_sequence exists once any table has AUTOINCREMENT.
func (p *table) readSequence(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) error {
	if p.kind != "table" || !p.rowid {
		return nil
	}
	schema := quote(p.schema)
	var exists, rows bool
	err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+schema+`.sqlite_master WHERE name = 'sqlite_sequence')`).Scan(&exists)
	if err != nil || !exists {
		return err
	}
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+schema+`.sqlite_sequence WHERE name = ?), EXISTS (SELECT 1 FROM `+schema+`.`+quote(p.name)+`)`, p.name).
		Scan(&p.drawn, &rows)
	p.empty = !p.drawn && !rows
	return err
}

// report adds the findings, and reports whether AUTOINCREMENT draws the key. proven says that
// it must; otherwise the user vouches for the key.
func (p *table) report(r *ceiling.Report, t ceiling.Table, proven bool) (drawn bool) {
	key := t.Key[0].Name
	worst := ceiling.Note
	if proven {
		worst = ceiling.Unsafe
	}
	own := len(p.primary) == 1 && strings.EqualFold(p.primary[0], key)
	switch {
	case p.schema == "temp":
		r.Add(ceiling.Unsafe, ceiling.Advice("poll a table that other connections can see"), "%s is temporary", t.Label)
	case p.kind == "view":
		r.Add(worst, ceiling.Advice("use a Query with Select and with Table set to the table that has the key"), "%s is a view, which does not show how %q is drawn", t.Label, key)
	case p.kind != "table":
		r.Add(worst, ceiling.Advice("copy the rows into an ordinary table, and read that"), "%s is a %s table, whose module decides how its rows are numbered", t.Label, p.kind)
	case own && (p.drawn || p.empty):
		p.reportDrawn(r, key)
		return true
	case own && p.rowid:
		recreate := ceiling.Advice(fmt.Sprintf("if the table has AUTOINCREMENT, start again after the next INSERT; if not, recreate it with %q as INTEGER PRIMARY KEY AUTOINCREMENT, and copy its rows: see \"Making Other Kinds Of Table Schema Changes\" in SQLite's documentation of ALTER TABLE", key))
		r.Add(worst, append(recreate, p.remedies()...), "sqlite_sequence has no row for the table: either %q is an INTEGER PRIMARY KEY without AUTOINCREMENT, "+
			"and a new row can get the id of a deleted one, or that row was deleted, and comes back with the next INSERT", key)
	case p.drawn:
		r.Add(worst, append(ceiling.Advice("for inserted rows, set Key to "+p.primary[0]+" alone"), p.remedies()...), "the key begins with %q, and AUTOINCREMENT draws %q", key, p.primary[0])
	default:
		r.Add(worst, p.remedies(), "the key begins with %q, which AUTOINCREMENT does not draw, so nothing shows in which order its values are given", key)
	}
	if p.kind == "table" && !p.indexed && !(own && p.rowid) {
		create := fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s.%s ON %s (%s);", quote(p.schema), quote(p.name+"_by_"+strings.ReplaceAll(t.Columns(), `"`, "")), quote(p.name), t.Columns())
		r.Add(ceiling.Warning, ceiling.Advice("create an index", create), "no index begins with the key (%s): each poll may read the whole table", t.Columns())
	}
	return false
}

func (p *table) reportDrawn(r *ceiling.Report, key string) {
	if p.drawn {
		r.Add(ceiling.OK, nil, "%q is INTEGER PRIMARY KEY AUTOINCREMENT, as its row in sqlite_sequence shows", key)
	} else {
		r.Add(ceiling.Note, nil, "the table is empty: whether AUTOINCREMENT draws %q shows with its first row; if it does not, the table is refused, or read by your word if the ceiling was chosen explicitly", key)
	}
	r.Add(ceiling.Note, nil, "SQLite lets clients choose the value of %q: a row with one below the greatest is missed", key)
	for _, name := range p.triggers {
		r.Add(ceiling.Note, nil, "the trigger %s may run when rows are written, and its statements are not checked: rows are missed if it changes %q", name, key)
	}
}

// The recipe gives a table a version to read it by, which triggers draw from a counter at each
// INSERT and UPDATE. A second run fails at ADD COLUMN. The others change nothing then: rows keep the
// version that they have, and existing objects are not created again.
var recipe = []string{
	`BEGIN IMMEDIATE;`,
	`ALTER TABLE {table} ADD COLUMN {version} INTEGER NOT NULL DEFAULT 0;`,
	`UPDATE {table} SET {version} = {o}.{n} FROM (SELECT row_number() OVER (ORDER BY {row}) AS {n}, {row} FROM {table}) AS {o} WHERE {name}.{version} = 0 AND ({numbered}) = ({own});`,
	`CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {name} ({version});`,
	`CREATE TABLE IF NOT EXISTS {schema}.{counter} (last INTEGER NOT NULL);`,
	`INSERT INTO {schema}.{counter} SELECT coalesce(max({version}), 0) FROM {table} WHERE NOT EXISTS (SELECT 1 FROM {schema}.{counter});`,
	`CREATE TRIGGER IF NOT EXISTS {inserted} AFTER INSERT ON {name} BEGIN {draw} END;`,
	`CREATE TRIGGER IF NOT EXISTS {updated} AFTER UPDATE ON {name} WHEN NEW.{version} = OLD.{version} BEGIN {draw} END;`,
	`COMMIT;`,
}

const draw = `UPDATE {counter} SET last = last + 1; UPDATE {name} SET {version} = (SELECT last FROM {counter}) WHERE ({row}) = ({changed});`

// identity returns the columns that tell rows apart: the primary key, or a name of the rowid that
// no column has. It is nil if columns have all of its names.
func (p *table) identity() []string {
	if p.withoutRowid || p.rowid {
		return p.primary
	}
	for _, name := range []string{"_rowid_", "rowid", "oid"} {
		if !slices.ContainsFunc(p.columns, func(c string) bool { return strings.EqualFold(c, name) }) {
			return []string{name}
		}
	}
	return nil
}

// statements fills in the recipe for a column's name.
func (p *table) statements(version string) []string {
	object := func(suffix string) string { return quote("devotion_" + p.name + version + suffix) }
	schema, name := quote(p.schema), quote(p.name)
	id := p.identity()
	o := quote(dialect.FreeName("o", []string{p.name}))
	pairs := []string{
		"{table}", schema + "." + name, "{name}", name, "{schema}", schema, "{version}", quote(version),
		"{index}", schema + "." + object("_index"), "{counter}", object("_counter"),
		"{inserted}", schema + "." + object("_inserted"), "{updated}", schema + "." + object("_updated"),
		"{o}", o, "{n}", quote(dialect.FreeName("n", p.columns)), "{row}", names("", id),
		"{numbered}", names(o+".", id), "{own}", names(name+".", id), "{changed}", names("NEW.", id),
	}
	replacer := strings.NewReplacer(append(pairs, "{draw}", strings.NewReplacer(pairs...).Replace(draw))...)
	all := make([]string, len(recipe))
	for i, s := range recipe {
		all[i] = replacer.Replace(s)
	}
	return all
}

// remedies returns how the table can be read by another key.
func (p *table) remedies() []ceiling.Remedy {
	for _, c := range p.columns {
		if own := "devotion_" + p.name + c; slices.Contains(p.triggers, own+"_inserted") && slices.Contains(p.triggers, own+"_updated") {
			return ceiling.Advice("set Key to " + c + " and Ceiling to single-writer: the table has the triggers that draw it")
		}
	}
	version := dialect.FreeName("_version", p.columns)
	words := "add a version that triggers draw from a counter; then set Key to " + version + " and Ceiling to single-writer. " +
		"Each row is read, and its latest version again after each change. (INSERT without a list of columns then fails, and SELECT * returns the column, too."
	const adapt = ". So its statements are not printed: they are in source/sqlsource/DESIGN-ceilings.md, to be adapted"
	switch {
	case len(p.triggers) > 0:
		return ceiling.Advice(words + ") The table has triggers (" + strings.Join(p.triggers, ", ") + "), which the recipe's UPDATE would run for every row, and again after each write" + adapt)
	case p.identity() == nil:
		return ceiling.Advice(words + ") The table has columns called _rowid_, rowid and oid, which hide the number by which the recipe tells rows apart" + adapt)
	}
	return ceiling.Advice(words+" Run the statements with sqlite3 -bail, which stops at the first error.)", p.statements(version)...)
}

// names lists columns for SQL, each after a prefix.
func names(prefix string, columns []string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = prefix + quote(c)
	}
	return strings.Join(quoted, ", ")
}

func quote(name string) string { return Dialect{}.Quote(name) }
