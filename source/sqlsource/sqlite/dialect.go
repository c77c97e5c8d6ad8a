package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

var _ dialect.Dialect = Dialect{}

// Short answers, each explained in package dialect.

func (Dialect) DriverNames() []string     { return []string{"sqlite", "sqlite3"} }
func (Dialect) DriverPackages() []string  { return []string{"sqlite"} }
func (Dialect) Quote(name string) string  { return dialect.QuoteWith(`"`, name) }
func (Dialect) Placeholder(int) string    { return "?" }
func (Dialect) RefusedValue(error) bool   { return false }
func (Dialect) CeilingsSeeIndexes() bool  { return false }
func (Dialect) TextType(int, bool) string { return "TEXT" }

// Compare implements [dialect.Writer].
func (Dialect) Compare(columns []dialect.KeyColumn, key []dialect.Value, upTo bool, args *dialect.Args) (string, error) {
	return dialect.CompareRows(columns, key, upTo, args)
}

// ListsColumns implements [dialect.Reader]. SQLite prepares a statement again,
// unseen, when the schema changed before its first step: a star could then stand
// for other columns than the driver was told.
func (Dialect) ListsColumns() bool { return true }

// Column implements [dialect.Reader]. It selects +c: an expression has no
// declared type, by which the drivers would change values.
func (Dialect) Column(_ dialect.Column, ref string) (row.Kind, string) { return row.Auto, "+" + ref }

// Key implements [dialect.Reader].
func (Dialect) Key(_ context.Context, _ ceiling.Queryer, c dialect.Column, ref string) (dialect.KeyColumn, error) {
	return dialect.KeyColumn{Ref: ref, Expr: "+" + ref, Kind: row.Auto, Bind: func(v dialect.Value) (string, any, error) {
		switch v.Tag {
		case dialect.Int:
			n, err := v.Integer()
			if _, unsigned := n.(uint64); unsigned {
				return "", nil, errors.New("SQLite has no integer as large")
			}
			return "%s", n, err
		case dialect.Float:
			f, err := strconv.ParseFloat(v.Text, 64)
			if math.IsNaN(f) { // it is NULL, and no row is greater
				err = errors.New("SQLite has no NaN")
			}
			return "%s", f, err
		case dialect.Bytes:
			b, err := v.Bytes()
			return "%s", b, err
		case dialect.Time:
			return "", nil, errors.New("SQLite has no type for times; give the text or number that the column holds")
		case dialect.Given: // which SQLite converts to a number when it is compared with a column of numbers, and only then
			_, noInteger := v.Integer()
			_, noNumber := strconv.ParseFloat(v.Text, 64)
			switch typ := strings.ToUpper(c.Type); {
			case strings.Contains(typ, "INT") && noInteger != nil:
				// Text is greater than all numbers: there would never be a row.
				return "", nil, errors.New("the column holds integers")
			case typ == "" && noNumber == nil:
				return "", nil, errors.New("the column has no type that tells whether this is a number or text; give At an integer, or declare the column")
			case typ == "BLOB":
				return "%s", []byte(v.Text), nil
			}
		}
		return "%s", v.Text, nil
	}}, nil
}

// CheckSession implements [dialect.Reader]. The drivers ask for UTF-8, whatever
// the file is in.
func (Dialect) CheckSession(context.Context, ceiling.Queryer) error { return nil }

// NotNull implements [dialect.Reader].
func (Dialect) NotNull(ctx context.Context, db ceiling.Queryer, table, _ []string) (map[string]bool, error) {
	// INTEGER PRIMARY KEY is the row's number, which is never NULL. Other
	// primary keys of SQLite may be.
	q := `SELECT name, "notnull" OR (pk = 1 AND upper(type) = 'INTEGER' AND (SELECT count(*) FROM pragma_table_info(?, ?) WHERE pk > 0) = 1)
		FROM pragma_table_info(?, ?) AS c`
	schema, name := any(nil), table[0]
	if len(table) == 2 {
		schema, name = table[0], table[1]
	}
	return dialect.ReadNotNull(ctx, db, q, name, schema, name, schema)
}

// SchemaVersion implements [dialect.Reader].
func (d Dialect) SchemaVersion(ctx context.Context, db ceiling.Queryer, table []string) (v int64, err error) {
	prefix := ""
	if len(table) == 2 {
		prefix = d.Quote(table[0]) + "."
	}
	err = db.QueryRowContext(ctx, "PRAGMA "+prefix+"schema_version").Scan(&v)
	return v, err
}

// ColumnsChanged implements [dialect.Reader]. It knows the errors of a statement
// that was prepared before the change and run after it. A column that is gone has
// no code of its own, and ncruces' driver calls a changed number of columns its
// own misuse.
func (Dialect) ColumnsChanged(err error) bool {
	return strings.Contains(err.Error(), "no such column") || strings.Contains(err.Error(), "API misuse")
}

// History implements [dialect.Reader]. Nothing identifies a file's history.
func (Dialect) History(context.Context, ceiling.Queryer, []string) (dialect.History, error) {
	return dialect.History{}, nil
}

var fullRead = regexp.MustCompile(`^SCAN (\S+|\(.*\))$|AUTOMATIC .*INDEX`)

// Explain implements [dialect.Reader]. The plan does not depend on the size of the
// table, unless ANALYZE was run.
func (Dialect) Explain(ctx context.Context, db *sql.DB, statement string, args []any, after bool) ([]string, ceiling.Finding, error) {
	rows, err := db.QueryContext(ctx, "EXPLAIN QUERY PLAN "+statement, args...)
	if err != nil {
		return nil, ceiling.Finding{}, err
	}
	_, steps, err := dialect.ReadPlan(rows)
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

// CreateTable implements [dialect.Checkpoints].
func (Dialect) CreateTable(table, columns string) string {
	return "CREATE TABLE IF NOT EXISTS " + table + " (" + columns + ")"
}

// LockRows implements [dialect.Checkpoints]. SQLite has no such clause, and a
// transaction that reads before it writes may be refused the write lock.
func (Dialect) LockRows() string { return "" }

// IdleTimeout implements [dialect.Checkpoints].
func (Dialect) IdleTimeout(int64) string { return "" }
