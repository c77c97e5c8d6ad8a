package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
		r.Add(worst, append(recreate, ceiling.OtherMeans(t)...), "sqlite_sequence has no row for the table: either %q is an INTEGER PRIMARY KEY without AUTOINCREMENT, "+
			"and a new row can get the id of a deleted one, or that row was deleted, and comes back with the next INSERT", key)
	case p.drawn:
		r.Add(worst, append(ceiling.Advice("for inserted rows, set Key to "+p.primary[0]+" alone"), ceiling.OtherMeans(t)...), "the key begins with %q, and AUTOINCREMENT draws %q", key, p.primary[0])
	default:
		r.Add(worst, ceiling.OtherMeans(t), "the key begins with %q, which AUTOINCREMENT does not draw, so nothing shows in which order its values are given", key)
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

func quote(name string) string { return Dialect{}.Quote(name) }
