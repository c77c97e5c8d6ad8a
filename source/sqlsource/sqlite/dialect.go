// Package sqlite is what package sqlsource must know about SQLite.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// name is the database's name, for messages.
const name = "SQLite"

// Dialect is the SQL of SQLite. The interfaces of packages dialect and
// ceiling explain its methods.
type Dialect struct{}

var _ dialect.Dialect = Dialect{}

func (Dialect) Name() string              { return name }
func (Dialect) Quote(name string) string  { return dialect.QuoteWith(`"`, name) }
func (Dialect) Placeholder(int) string    { return "?" }
func (Dialect) Limit(n int) string        { return fmt.Sprintf("LIMIT %d", n) }
func (Dialect) RefusedValue(error) bool   { return false }
func (Dialect) TextType(int, bool) string { return "TEXT" }
func (Dialect) IdleTimeout(int64) string  { return "" }
func (Dialect) LockRows() string          { return "" } // a transaction that reads first may be refused the write lock

func (Dialect) Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return SingleWriter{proven: true}, nil
}

func (Dialect) Compare(columns []dialect.KeyColumn, key []dialect.Value, upTo bool, args *dialect.Args) (string, error) {
	return dialect.CompareRows(columns, key, upTo, args)
}

func (Dialect) CreateTable(table, columns string) string {
	return "CREATE TABLE IF NOT EXISTS " + table + " (" + columns + ")"
}

// Session implements [dialect.Reader]. The drivers ask for UTF-8, whatever the file is in.
func (Dialect) Session(context.Context, *sql.Conn, bool, []string) (dialect.Session, error) {
	return dialect.Plain, nil
}

// Settings implements [dialect.Reader]. No setting changes the text of a value.
func (Dialect) Settings(bool) dialect.Settings { return dialect.Settings{} }

// Column implements [dialect.Reader]. It selects +c: an expression has no declared type, by which
// the drivers would change values.
func (Dialect) Column(_ dialect.Column, ref string) (row.Kind, string) { return row.Auto, "+" + ref }

// noText matches the declared types of numbers and times. The drivers convert their values by
// the type, which an expression does not have.
var noText = regexp.MustCompile(`(?i)INT|REAL|FLOAT|DOUBLE|NUM|DEC|DATE|TIME|BOOL`)

// Size implements [dialect.Reader]. It does not read the value.
func (Dialect) Size(c dialect.Column, ref string) string {
	if noText.MatchString(c.Type) {
		return ""
	}
	return "octet_length(" + ref + ")"
}

func (Dialect) Key(_ context.Context, _ ceiling.Queryer, c dialect.Column, ref string, _ bool) (dialect.KeyColumn, error) {
	bind := func(v dialect.Value) (string, any, error) {
		arg, err := argument(v, strings.ToUpper(c.Type))
		return "%s", arg, err
	}
	return dialect.KeyColumn{Ref: ref, Expr: "+" + ref, Kind: row.Auto, Bind: bind}, nil
}

// argument returns what a key's value is bound as, for a column of a declared type.
func argument(v dialect.Value, typ string) (any, error) {
	number, noInteger := v.Integer()
	float, noNumber := strconv.ParseFloat(v.Text, 64)
	switch v.Tag {
	case dialect.Int:
		if _, unsigned := number.(uint64); unsigned {
			return nil, errors.New("SQLite has no integer as large")
		}
		return number, noInteger
	case dialect.Float:
		if math.IsNaN(float) { // it is NULL, and no row is greater
			return nil, errors.New("SQLite has no NaN")
		}
		return float, noNumber
	case dialect.Bytes:
		return v.Bytes()
	case dialect.Time:
		return nil, errors.New("SQLite has no type for times; give the text or number that the column holds")
	case dialect.Given: // which SQLite converts to a number when it is compared with a column of numbers, and only then
		switch {
		case strings.Contains(typ, "INT") && noInteger != nil: // text is greater than all numbers: there would never be a row
			return nil, errors.New("the column holds integers")
		case typ == "" && noNumber == nil:
			return nil, errors.New("the column has no type that tells whether this is a number or text; give At an integer, or declare the column")
		case typ == "BLOB":
			return []byte(v.Text), nil
		}
	}
	return v.Text, nil
}

// Steady implements [dialect.Reader].
func (Dialect) Steady(context.Context, ceiling.Queryer, []string) (string, error) { return "", nil }

// Invisible implements [dialect.Reader]. Only virtual tables have such columns, for their arguments.
func (Dialect) Invisible(context.Context, ceiling.Queryer, []string) ([]string, error) {
	return nil, nil
}

// SchemaVersion implements [dialect.Reader]. The columns of a star can change after it was prepared.
func (Dialect) SchemaVersion(table []string) string {
	if len(table) == 2 {
		return "PRAGMA " + quote(table[0]) + ".schema_version"
	}
	return "PRAGMA schema_version"
}

// ColumnsChanged implements [dialect.Reader]. A column that is gone has no separate code, and
// ncruces' driver calls a changed number of columns its own misuse.
func (Dialect) ColumnsChanged(err error) bool {
	return strings.Contains(err.Error(), "no such column") || strings.Contains(err.Error(), "API misuse")
}

// History implements [dialect.Reader]. Nothing identifies a file's history, see Marks.
func (Dialect) History(context.Context, ceiling.Queryer, []string, string) (h dialect.History, err error) {
	return h, nil
}

// Marks implements [dialect.Reader]. The schema's version and the root page can change when a
// table is dropped and recreated, and do with VACUUM and other changes of the schema.
func (Dialect) Marks(ctx context.Context, db ceiling.Queryer, parts []string) (m dialect.Marks, err error) {
	p := &table{}
	if parts == nil || p.readTable(ctx, db, ceiling.Table{Parts: parts}) != nil {
		return m, ctx.Err() // the table is a function, or the database's error comes again
	}
	var version, page int64
	if err = db.QueryRowContext(ctx, Dialect{}.SchemaVersion([]string{p.schema, p.name})).Scan(&version); err != nil {
		return m, err
	}
	err = db.QueryRowContext(ctx, `SELECT (SELECT file FROM pragma_database_list WHERE name = ?), COALESCE((SELECT rootpage FROM `+quote(p.schema)+`.sqlite_master WHERE name = ?), 0)`,
		p.schema, p.name).Scan(&m.File, &page)
	m.Parts = []dialect.HistoryPart{{Name: "schema", Value: fmt.Sprint(version, " ", page), Changed: "the table was recreated, or the schema was changed in another way"}}
	return m, err
}

// Unnoticed implements [dialect.Reader].
func (Dialect) Unnoticed() string {
	return "if the file is replaced, the table recreated or sqlite_sequence changed, and the ids pass the cursor again before the next poll, only delivered rows that are still there can show it (with a warning only: after a change of sqlite_sequence, if the new file has the inode of the old one, as after cp, if few of them were replaced, or if no column tells rows apart)"
}

var fullRead = regexp.MustCompile(`^SCAN (\S+|\(.*\))$|AUTOMATIC .*INDEX`)

// Explain implements [dialect.Reader]. Without ANALYZE the plan does not depend on the table's size.
func (Dialect) Explain(ctx context.Context, db ceiling.Queryer, statement string, args []any, after bool) ([]string, ceiling.Finding, error) {
	steps, err := dialect.ReadPlan(ctx, db, "EXPLAIN QUERY PLAN "+statement, args)
	var lines, bad []string
	for _, s := range steps {
		line := s["detail"]
		lines = append(lines, line)
		if strings.Contains(line, "USE TEMP B-TREE") || after && fullRead.MatchString(line) {
			bad = append(bad, line)
		}
	}
	if err != nil || bad == nil {
		return lines, ceiling.Finding{}, err
	}
	return lines, dialect.Slow("no index is used to read the rows in the order of the key (%s)", strings.Join(bad, "; ")), nil
}
