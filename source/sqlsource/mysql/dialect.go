// Package mysql is what package sqlsource must know about MySQL and MariaDB.
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

// name is the databases' name, for messages.
const name = "MySQL or MariaDB"

// Dialect is the SQL of MySQL and MariaDB.
type Dialect struct{}

var _ dialect.Dialect = Dialect{}

// Short answers, each explained in packages dialect and ceiling.

func (Dialect) Name() string                { return name }
func (Dialect) DriverNames() []string       { return []string{"mysql", "mariadb"} }
func (Dialect) DriverPackages() []string    { return []string{"go-sql-driver/mysql"} }
func (Dialect) Quote(name string) string    { return dialect.QuoteWith("`", name) }
func (Dialect) Placeholder(int) string      { return "?" }
func (Dialect) Integer() string             { return "?" }
func (Dialect) Limit(n int) string          { return fmt.Sprintf("LIMIT %d", n) }
func (Dialect) ListsColumns() bool          { return false }
func (Dialect) RefusedValue(error) bool     { return false }
func (Dialect) CeilingsSeeIndexes() bool    { return false }
func (Dialect) Ceilings() []ceiling.Ceiling { return []ceiling.Ceiling{DirtyProbe{}} }
func (Dialect) LockRows() string            { return "FOR UPDATE" }
func (Dialect) IdleTimeout(int64) string    { return "" } // MariaDB has one for the whole session only, MySQL none

// KeyTypes implements [ceiling.SQL].
func (Dialect) KeyTypes(ctx context.Context, db ceiling.Queryer, t ceiling.Table) ([]string, error) {
	types := make([]string, len(t.Key))
	for i, k := range t.Key {
		typ, err := ceiling.Texts(ctx, db, "SELECT data_type FROM information_schema.columns WHERE "+isTable(t.Parts)+" AND column_name = ?", k.Name)
		if err != nil {
			return nil, fmt.Errorf("reading the type of the key: %w", err)
		}
		if len(typ) > 0 {
			types[i] = typ[0]
		}
	}
	return types, nil
}

// Older implements [ceiling.SQL].
func (Dialect) Older(ref, typ string) string {
	switch typ {
	case "datetime", "timestamp":
		return ref + " < NOW(6) - INTERVAL ? MICROSECOND"
	case "date":
		return ref + " < DATE(NOW(6) - INTERVAL ? MICROSECOND)"
	}
	return ""
}

// KeyValue implements [ceiling.SQL]. It makes numbers of digits, because MySQL compares text and
// numbers as doubles.
func (Dialect) KeyValue(typ string) ceiling.KeyValue {
	v := ceiling.KeyValue{Select: "CAST(%s AS CHAR)", Argument: "?", Text: true}
	switch {
	case strings.HasSuffix(typ, "binary"), strings.HasSuffix(typ, "blob"):
		v.Select, v.Argument = "HEX(%s)", "UNHEX(?)"
	case typ == "decimal":
		v.Argument = "CAST(? AS DECIMAL(65,30))"
	case strings.HasSuffix(typ, "int"):
		v.Parse = func(text string) any {
			if n, err := (dialect.Value{Text: text}).Integer(); err == nil {
				return n
			}
			return text
		}
	}
	return v
}

// Choose returns the ceiling that fits a table. Its Open may still refuse the table.
func (Dialect) Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return DirtyProbe{}, nil
}

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
	case c.Type == "TIMESTAMP":
		k.Bind = bindDate(c.Type)
		return k, wantUTC(ctx, db, c.Name)
	case c.Type == "DATE", c.Type == "DATETIME", c.Type == "TIME":
		k.Bind = bindDate(c.Type)
	case kind == row.Bytes && c.Type != "GEOMETRY" && c.Type != "VECTOR":
		// Binary strings must not pass through the connection's character set.
		k.Bind = func(v dialect.Value) (string, any, error) {
			b, err := v.Bytes()
			return "UNHEX(%s)", hex.EncodeToString(b), err
		}
	case strings.HasSuffix(c.Type, "CHAR"), strings.HasSuffix(c.Type, "TEXT"):
		k.Bind = dialect.BindText
	default: // DESIGN.md says why
		return k, dialect.Permanent("the key column %q is of the type %s, which cannot be a key; use integers, DECIMAL, text, binary strings, dates or times", c.Name, c.Type)
	}
	return k, nil
}

// CheckSession implements [dialect.Reader]. The server replaces a character that the connection's
// character set lacks by a question mark, and its utf8 has no emoji.
func (Dialect) CheckSession(ctx context.Context, db ceiling.Queryer) error {
	var results string
	err := db.QueryRowContext(ctx, `SELECT COALESCE(@@character_set_results, 'none')`).Scan(&results)
	if err != nil || results == "utf8mb4" {
		return err
	}
	return dialect.Permanent("the connection's character set is %s, and text would lose characters: set charset=utf8mb4 in the DSN", results)
}

// NotNull implements [dialect.Reader]. It knows nothing: the driver tells, for each column of a
// result.
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

// CreateTable implements [dialect.Checkpoints].
func (Dialect) CreateTable(table, columns string) string {
	return "CREATE TABLE IF NOT EXISTS " + table + " (" + columns + ") ENGINE=InnoDB"
}

// TextType implements [dialect.Checkpoints].
func (Dialect) TextType(max int, _ bool) string {
	typ := "MEDIUMTEXT"
	if max > 0 {
		typ = fmt.Sprintf("VARCHAR(%d)", max)
	}
	return typ + " CHARACTER SET ascii COLLATE ascii_bin"
}
