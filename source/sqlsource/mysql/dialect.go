package mysql

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

var _ dialect.Dialect = Dialect{}

// Short answers, each explained in package dialect.

func (Dialect) DriverNames() []string    { return []string{"mysql", "mariadb"} }
func (Dialect) DriverPackages() []string { return []string{"go-sql-driver/mysql"} }
func (Dialect) Quote(name string) string { return dialect.QuoteWith("`", name) }
func (Dialect) Placeholder(int) string   { return "?" }
func (Dialect) ListsColumns() bool       { return false }
func (Dialect) RefusedValue(error) bool  { return false }
func (Dialect) CeilingsSeeIndexes() bool { return false }
func (Dialect) LockRows() string         { return "FOR UPDATE" }

// Compare implements [dialect.Writer]. MySQL compares rows without an index.
func (Dialect) Compare(columns []dialect.KeyColumn, key []dialect.Value, upTo bool, args *dialect.Args) (string, error) {
	return dialect.CompareColumns(columns, key, upTo, args)
}

var kinds = map[string]row.Kind{
	"DECIMAL": row.Number, "FLOAT": row.Float32, "DOUBLE": row.Number, "YEAR": row.Number, "BIT": row.Bit, "JSON": row.JSONB,
	"DATE": row.Date, "DATETIME": row.Timestamp, "TIMESTAMP": row.Timestamp, "TIME": row.Time,
	"BINARY": row.Bytes, "VARBINARY": row.Bytes, "TINYBLOB": row.Bytes, "BLOB": row.Bytes, "MEDIUMBLOB": row.Bytes, "LONGBLOB": row.Bytes,
	"GEOMETRY": row.Bytes, "VECTOR": row.Bytes,
}

// Column implements [dialect.Reader].
func (Dialect) Column(c dialect.Column, ref string) (row.Kind, string) {
	kind, ok := kinds[c.Type]
	switch {
	case !ok && strings.HasSuffix(c.Type, "INT"):
		return row.Number, ""
	case !ok:
		return row.Text, ""
	case kind == row.Float32: // six digits in the text protocol, all of them as a double
		return kind, ref + " * 1e0"
	case c.Time: // parseTime changes dates that no calendar has
		return kind, "CAST(" + ref + " AS CHAR)"
	}
	return kind, ""
}

// Key implements [dialect.Reader].
func (d Dialect) Key(ctx context.Context, db ceiling.Queryer, c dialect.Column, ref string) (dialect.KeyColumn, error) {
	kind, expr := d.Column(c, ref)
	k := dialect.KeyColumn{Ref: ref, Expr: expr, Kind: kind}
	switch {
	case strings.HasSuffix(c.Type, "INT"), c.Type == "YEAR":
		k.Bind = bindInteger
	case c.Type == "DECIMAL":
		k.Bind = bindDecimal
	case c.Type == "DATE", c.Type == "DATETIME", c.Type == "TIMESTAMP", c.Type == "TIME":
		k.Bind = bindDate(c.Type)
		if c.Type == "TIMESTAMP" {
			return k, wantUTC(ctx, db, c.Name)
		}
	case kind == row.Bytes && c.Type != "GEOMETRY" && c.Type != "VECTOR":
		// Binary strings must not pass through the connection's character set.
		k.Bind = func(v dialect.Value) (string, any, error) {
			b, err := v.Bytes()
			return "UNHEX(%s)", hex.EncodeToString(b), err
		}
	case strings.HasSuffix(c.Type, "CHAR"), strings.HasSuffix(c.Type, "TEXT"):
		k.Bind = dialect.BindText
	default:
		// ENUM and SET are sorted by number and compared as text; a FLOAT is
		// equal to no number that can be written down.
		return k, dialect.Permanent("the key column %q is of the type %s, which cannot be a key; use integers, DECIMAL, text, binary strings, dates or times", c.Name, c.Type)
	}
	return k, nil
}

// CheckSession implements [dialect.Reader]. The server replaces a character that
// the connection's character set lacks by a question mark, and its utf8 has no
// emoji.
func (Dialect) CheckSession(ctx context.Context, db ceiling.Queryer) error {
	var results string
	err := db.QueryRowContext(ctx, `SELECT COALESCE(@@character_set_results, 'none')`).Scan(&results)
	if err != nil || results == "utf8mb4" {
		return err
	}
	return dialect.Permanent("the connection's character set is %s, and text would lose characters: set charset=utf8mb4 in the DSN", results)
}

// NotNull implements [dialect.Reader]. It knows nothing: the driver tells, for
// each column of a result.
func (Dialect) NotNull(context.Context, ceiling.Queryer, []string, []string) (map[string]bool, error) {
	return nil, nil
}

// SchemaVersion implements [dialect.Reader].
func (Dialect) SchemaVersion(context.Context, ceiling.Queryer, []string) (int64, error) {
	return 0, nil
}

// ColumnsChanged implements [dialect.Reader].
func (Dialect) ColumnsChanged(err error) bool {
	switch dberr.MySQLNumber(err) {
	case 1054, // a column is gone
		1412, 1615: // the table's definition changed; the statement must be prepared again
		return true
	}
	return false
}

const ascii = " CHARACTER SET ascii COLLATE ascii_bin"

// CreateTable implements [dialect.Checkpoints].
func (Dialect) CreateTable(table, columns string) string {
	return "CREATE TABLE IF NOT EXISTS " + table + " (" + columns + ") ENGINE=InnoDB"
}

// TextType implements [dialect.Checkpoints].
func (Dialect) TextType(max int, _ bool) string {
	if max == 0 {
		return "MEDIUMTEXT" + ascii
	}
	return fmt.Sprintf("VARCHAR(%d)%s", max, ascii)
}

// IdleTimeout implements [dialect.Checkpoints]. MariaDB has such a limit for the
// whole session only, MySQL has none.
func (Dialect) IdleTimeout(int64) string { return "" }
