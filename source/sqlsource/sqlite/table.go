package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// sqliteTable is what there is to know of a table of SQLite.
type sqliteTable struct {
	schema, name string // as they are written in the database
	kind         string // table, view, virtual, shadow; "" if there is none
	withoutRowid bool
	source       string   // its CREATE statement
	columns      []string // but for those that are generated
	primary      []string // the columns of the primary key
	integer      bool     // that is one column of the type INTEGER
	rest         []string // the statements of its indexes and triggers
	triggers     []string // the names of those that run on INSERT or UPDATE
	dirty        bool     // the connection reads what is not committed
	indexed      bool     // an index begins with the key's first column
}

func probeSQLite(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (*sqliteTable, error) {
	p := &sqliteTable{}
	for _, step := range []struct {
		what string
		read func(context.Context, ceiling.Queryer, ceiling.Table) error
	}{
		{"which table it is", p.readTable},
		{"its columns", p.readColumns},
		{"its indexes and triggers", p.readRest},
	} {
		if err := step.read(ctx, db, t); err != nil {
			return nil, fmt.Errorf("reading %s: %w", step.what, err)
		}
	}
	return p, nil
}

// readTable finds the table as SQLite does: without a schema, first among the
// temporary ones, then in the main database, then in the others as they were
// attached.
func (p *sqliteTable) readTable(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	name, schema := t.Parts[len(t.Parts)-1], ""
	if len(t.Parts) == 2 {
		schema = t.Parts[0]
	}
	err := db.QueryRowContext(ctx, `SELECT l.schema, l.name, l.type, l.wr, (SELECT read_uncommitted FROM pragma_read_uncommitted)
		FROM pragma_table_list(?) AS l JOIN pragma_database_list AS d ON d.name = l.schema
		WHERE ? IN ('', l.schema COLLATE NOCASE) ORDER BY d.name <> 'temp', d.seq LIMIT 1`, name, schema).
		Scan(&p.schema, &p.name, &p.kind, &p.withoutRowid, &p.dirty)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("there is no table %s", t.Label)
	}
	if err != nil {
		return err
	}
	return db.QueryRowContext(ctx, `SELECT COALESCE((SELECT sql FROM `+sqliteName(p.schema)+`.sqlite_master WHERE name = ? AND type IN ('table', 'view')), '')`, p.name).
		Scan(&p.source)
}

func (p *sqliteTable) readColumns(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name, typ string
		var pk, hidden int
		err := rows.Scan(&name, &typ, &pk, &hidden)
		if hidden == 0 {
			p.columns = append(p.columns, name)
		}
		if pk > 0 {
			p.primary = append(p.primary, name)
			p.integer = len(p.primary) == 1 && strings.EqualFold(typ, "INTEGER")
		}
		return err
	}, `SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, ?)`, p.name, p.schema)
}

func (p *sqliteTable) readRest(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var typ, name, source string
		if err := rows.Scan(&typ, &name, &source); err != nil {
			return err
		}
		p.rest = append(p.rest, source)
		if typ == "trigger" && sqliteWrites.MatchString(bare(source)) {
			p.triggers = append(p.triggers, name)
		}
		return nil
	}, `SELECT type, name, sql FROM `+sqliteName(p.schema)+`.sqlite_master WHERE tbl_name = ? COLLATE NOCASE AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY type, name`, p.name)
	if err != nil {
		return err
	}
	return db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pragma_index_list(?, ?) AS l, pragma_index_info(l.name, ?) AS i
		WHERE i.seqno = 0 AND i.name = ? COLLATE NOCASE AND NOT l.partial)`, p.name, p.schema, p.schema, t.Key[0].Name).Scan(&p.indexed)
}

// look is the statement for the table's definition, and for where its sequence is.
func (p *sqliteTable) look() string {
	return fmt.Sprintf(`SELECT COALESCE((SELECT sql FROM %s.sqlite_master WHERE name = %s AND type = 'table'), ''), (SELECT seq FROM %[1]s.sqlite_sequence WHERE name = %[2]s)`,
		sqliteName(p.schema), sqliteText(p.name))
}

var (
	sqliteQuoted  = regexp.MustCompile("(?s)\"[^\"]*\"|`[^`]*`|'[^']*'|\\[[^\\]]*\\]|--[^\\n]*|/\\*.*?(\\*/|$)")
	sqliteWrites  = regexp.MustCompile(`(?i)\b(INSERT|UPDATE)\b`)
	autoincrement = regexp.MustCompile(`(?i)\bAUTOINCREMENT\b`)
	descending    = regexp.MustCompile(`(?i)\bPRIMARY\s+KEY\s+DESC\b`)
	rowidKey      = regexp.MustCompile(`(?i)\bPRIMARY\s+KEY\b(\s+ASC\b)?(\s+ON\s+CONFLICT\s+\w+)?`)
)

// bare blanks what is quoted in a statement, and its comments.
func bare(source string) string {
	return sqliteQuoted.ReplaceAllStringFunc(source, func(s string) string { return strings.Repeat(" ", len(s)) })
}

func sqliteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
func sqliteText(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// report adds what was found, and says whether the key is drawn by AUTOINCREMENT.
func (p *sqliteTable) report(r *ceiling.Report, t ceiling.Table, mustSee bool) (drawn bool) {
	key := t.Key[0].Name
	own := len(p.primary) == 1 && strings.EqualFold(p.primary[0], key)
	worst := ceiling.Note
	if mustSee {
		worst = ceiling.Unsafe
	}
	version := p.counter() + "; and then Key version, with SingleWriter by name"
	if p.dirty {
		r.Add(ceiling.Unsafe, "PRAGMA read_uncommitted = 0", "the connection reads what other connections of a shared cache have not committed, and may roll back")
	}
	switch {
	case p.schema == "temp":
		r.Add(ceiling.Unsafe, "poll a table that other connections can see", "%s is temporary", t.Label)
	case p.kind == "view":
		r.Add(worst, "use a Query with Select and with Table set to the table that has the key", "%s is a view: how the table of %q is numbered cannot be seen from it", t.Label, key)
	case p.kind != "table":
		r.Add(worst, "", "%s is a %s table: how its rows are numbered is its module's affair", t.Label, p.kind)
	// AUTOINCREMENT is a word that SQLite takes nowhere else.
	case own && p.integer && autoincrement.MatchString(bare(p.source)):
		r.Add(ceiling.OK, "", "%q is INTEGER PRIMARY KEY AUTOINCREMENT", key)
		r.Add(ceiling.Note, "", "SQLite lets clients give %q a value of their own: one below the greatest is missed (see Audit)", key)
		for _, name := range p.triggers {
			r.Add(ceiling.Note, "", "the trigger %s runs when rows are written; it is taken to leave %q alone", name, key)
		}
		return true
	case own && p.integer && !p.withoutRowid && !descending.MatchString(bare(p.source)): // which is a key like any other
		r.Add(worst, p.rebuild(), "%q is an INTEGER PRIMARY KEY without AUTOINCREMENT: once the last row is deleted, a new row gets its id", key)
	case len(p.primary) == 1 && p.integer && autoincrement.MatchString(bare(p.source)):
		r.Add(worst, "set Key to "+p.primary[0]+" alone; or "+version, "the key begins with %q, and AUTOINCREMENT draws %q", key, p.primary[0])
	default:
		r.Add(worst, version, "the key begins with %q, which AUTOINCREMENT does not draw: in which order its values are given cannot be seen", key)
	}
	if p.kind == "table" && !p.indexed && !(own && p.integer) {
		r.Add(ceiling.Warning, fmt.Sprintf("CREATE INDEX %s ON %s (%s)", sqliteName(p.name+"_by_key"), t.Name, t.Columns()), "no index begins with the key (%s), and each poll may read the whole table", t.Columns())
	}
	return false
}

// rebuild returns the statements that give a table AUTOINCREMENT, which only a new
// one can have.
func (p *sqliteTable) rebuild() string {
	columns := "(" + names(p.columns) + ")"
	outside := bare(p.source)
	key := rowidKey.FindStringIndex(outside)
	begin := strings.IndexByte(outside, '(')
	if key == nil || begin < 0 || !inlineKey(outside, key[0]) || p.schema != "main" {
		return "make it anew with " + p.primary[0] + " INTEGER PRIMARY KEY AUTOINCREMENT"
	}
	fresh := sqliteName(p.schema) + "." + sqliteName(p.name+"_new")
	steps := []string{
		"PRAGMA foreign_keys = OFF",
		"PRAGMA legacy_alter_table = ON", // RENAME would fail where a view reads the table, which is not there
		"BEGIN IMMEDIATE",
		"CREATE TABLE " + fresh + " " + p.source[begin:key[1]] + " AUTOINCREMENT" + p.source[key[1]:],
		"INSERT INTO " + fresh + " " + columns + " SELECT " + names(p.columns) + " FROM " + sqliteName(p.schema) + "." + sqliteName(p.name),
		"DROP TABLE " + sqliteName(p.schema) + "." + sqliteName(p.name),
		"ALTER TABLE " + fresh + " RENAME TO " + sqliteName(p.name),
	}
	return strings.Join(append(append(steps, p.rest...), "COMMIT"), "; ")
}

// inlineKey says that PRIMARY KEY stands behind its column, as AUTOINCREMENT
// wants it, and not in a line of its own.
func inlineKey(outside string, at int) bool {
	before := strings.TrimRight(outside[:at], " \t\r\n")
	return len(before) >= 7 && strings.EqualFold(before[len(before)-7:], "INTEGER")
}

// counter returns the statements that give a table a version, as the
// documentation of SingleWriter shows them.
func (p *sqliteTable) counter() string {
	in, table, count := sqliteName(p.schema)+".", sqliteName(p.name), sqliteName(p.name+"_counter")
	number, row, changed := "rowid", "rowid", "NEW.rowid"
	if p.withoutRowid {
		id := names(p.primary)
		row, changed = "("+id+")", "("+qualified("NEW", p.primary)+")"
		number = "n FROM (SELECT row_number() OVER (ORDER BY " + id + ") AS n, " + id + " FROM " + in + table + ") AS o WHERE (" + qualified("o", p.primary) + ") = (" + qualified(table, p.primary) + ")"
	}
	draw := " BEGIN UPDATE " + count + " SET last = last + 1; UPDATE " + table + " SET version = (SELECT last FROM " + count + ") WHERE " + row + " = " + changed + "; END"
	return strings.Join([]string{
		"BEGIN IMMEDIATE",
		"ALTER TABLE " + in + table + " ADD COLUMN version INTEGER NOT NULL DEFAULT 0",
		"UPDATE " + in + table + " SET version = " + number,
		"CREATE UNIQUE INDEX " + in + sqliteName(p.name+"_version") + " ON " + table + " (version)",
		"CREATE TABLE " + in + count + " (last INTEGER NOT NULL)",
		"INSERT INTO " + in + count + " SELECT coalesce(max(version), 0) FROM " + in + table,
		"CREATE TRIGGER " + in + sqliteName(p.name+"_added") + " AFTER INSERT ON " + table + draw,
		"CREATE TRIGGER " + in + sqliteName(p.name+"_changed") + " AFTER UPDATE ON " + table + " WHEN NEW.version = OLD.version" + draw,
		"COMMIT",
	}, "; ")
}

func qualified(table string, columns []string) string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = table + "." + sqliteName(c)
	}
	return strings.Join(all, ", ")
}

func names(columns []string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = sqliteName(c)
	}
	return strings.Join(quoted, ", ")
}
