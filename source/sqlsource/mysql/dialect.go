// Package mysql is what package sqlsource must know about MySQL and MariaDB.
package mysql

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// name is the databases' name, for messages.
const name = "MySQL or MariaDB"

// Dialect is the SQL of MySQL and MariaDB. The interfaces of packages dialect and
// ceiling explain its methods.
type Dialect struct{}

var _ dialect.Dialect = Dialect{}

func (Dialect) Name() string                  { return name }
func (Dialect) Quote(name string) string      { return dialect.QuoteWith("`", name) }
func (Dialect) Placeholder(int) string        { return "?" }
func (Dialect) Limit(n int) string            { return fmt.Sprintf("LIMIT %d", n) }
func (Dialect) SchemaVersion([]string) string { return "" }
func (Dialect) RefusedValue(error) bool       { return false }
func (Dialect) LockRows() string              { return "FOR UPDATE" }
func (Dialect) IdleTimeout(int64) string      { return "" } // MariaDB has one for the whole session only, MySQL none

func (Dialect) Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return DirtyProbe{}, nil
}

func (Dialect) CreateTable(table, columns string) string {
	return "CREATE TABLE IF NOT EXISTS " + table + " (" + columns + ") ENGINE=InnoDB"
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

// Size implements [dialect.Reader]. All values of other types together take at most 64 KiB.
func (Dialect) Size(c dialect.Column, ref string) string {
	if strings.HasSuffix(c.Type, "TEXT") || strings.HasSuffix(c.Type, "BLOB") || c.Type == "JSON" || c.Type == "GEOMETRY" {
		return "LENGTH(" + ref + ")"
	}
	return ""
}

func (d Dialect) Key(ctx context.Context, db ceiling.Queryer, c dialect.Column, ref string, zone bool) (dialect.KeyColumn, error) {
	kind, expr := d.Column(c, ref)
	k := dialect.KeyColumn{Ref: ref, Expr: expr, Kind: kind}
	switch {
	case strings.HasSuffix(c.Type, "INT"), c.Type == "YEAR":
		k.Bind = bindInteger
	case c.Type == "DECIMAL":
		k.Bind = bindDecimal
	case c.Type == "TIMESTAMP":
		k.Bind = bindDate(c.Type)
		if !zone {
			return k, wantUTC(ctx, db, c.Name)
		}
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

// Steady implements [dialect.Reader].
func (Dialect) Steady(context.Context, ceiling.Queryer, []string) (string, error) { return "", nil }

// Invisible implements [dialect.Reader].
func (Dialect) Invisible(ctx context.Context, db ceiling.Queryer, table []string) ([]string, error) {
	return ceiling.Texts(ctx, db, "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE "+isTable(table)+" AND EXTRA LIKE '%INVISIBLE%' ORDER BY ORDINAL_POSITION")
}

// ColumnsChanged implements [dialect.Reader]. A column is gone (1054), the table's definition
// changed (1412), or the statement must be prepared again (1615).
func (Dialect) ColumnsChanged(err error) bool {
	return slices.Contains([]uint16{1054, 1412, 1615}, dberr.MySQLNumber(err))
}

// History implements [dialect.Reader]. It uses the AUTO_INCREMENT counter, which DELETE and a
// rebuild do not set back, but TRUNCATE, a recreated table and a restored backup do. A cursor keeps
// the greatest key there was, and not the counter: numbers that no row got are forgotten at a
// restart. MariaDB has nothing that identifies a server and stays the same when it moves: its
// server_uid is made of the network address.
func (d Dialect) History(ctx context.Context, db ceiling.Queryer, table []string, drawn string) (h dialect.History, err error) {
	const uuid = "/*!80000 @@server_uuid */ /*M! x'' */"
	var server, greatest string
	var next uint64
	counted := false
	if drawn != "" {
		next, counted, err = readCounter(ctx, db, table, ", "+uuid+", COALESCE((SELECT MAX("+quote(drawn)+") FROM "+dialect.QuoteAll(d, table)+"), 0)", &server, &greatest)
	}
	if !counted && err == nil {
		err = db.QueryRowContext(ctx, "SELECT "+uuid).Scan(&server)
	}
	if err != nil {
		return h, err
	}
	h.Drawn, h.Flushed = math.MaxUint64, math.MaxUint64
	h.Parts = []dialect.HistoryPart{{Name: "server", Value: server, Changed: "the data source name leads to another server, or a replica took its place"}}
	if counted && greatest[0] != '-' {
		h.Drawn = next - 1
		h.Mark, err = strconv.ParseUint(greatest, 10, 64)
	}
	return h, err
}

// Marks implements [dialect.Reader]. TRUNCATE and each rebuild give a table another id, which a role
// without the privilege PROCESS does not see. ALTER TABLE changes the time of creation.
func (Dialect) Marks(ctx context.Context, db ceiling.Queryer, table []string) (m dialect.Marks, err error) {
	if table == nil {
		return m, nil
	}
	var created string
	err = db.QueryRowContext(ctx, "SELECT COALESCE((SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE "+isTable(table)+" AND EXTRA LIKE '%auto_increment%'), ''),"+
		" COALESCE((SELECT CREATE_TIME FROM information_schema.TABLES WHERE "+isTable(table)+"), x'')").Scan(&m.Drawn, &created) // a table draws one column at most
	if err != nil {
		return m, err
	}
	// NAME is that of a file, schema/table#partition, in which rare characters are encoded.
	part := func(of string) string { return "CONVERT(CAST(SUBSTRING_INDEX(" + of + ") AS BINARY) USING filename)" }
	schema := "DATABASE()"
	if len(table) > 1 {
		schema = literal(table[0])
	}
	ids, err := ceiling.Texts(ctx, db, "SELECT TABLE_ID FROM information_schema./*!80000 INNODB_TABLES */ /*M! INNODB_SYS_TABLES */"+
		" WHERE "+part("NAME, '/', 1")+" = "+schema+" AND "+part("SUBSTRING_INDEX(NAME, '#', 1), '/', -1")+" = "+literal(table[len(table)-1])+" ORDER BY TABLE_ID")
	if n := dberr.MySQLNumber(err); n == 1227 || n == 1109 || n == 1115 { // no privilege, no such list or no such encoding
		ids, err = nil, nil
	}
	m.Parts = []dialect.HistoryPart{
		{Name: "table ids", Value: strings.Join(ids, " "), Changed: "the table was emptied by TRUNCATE or rebuilt, or partitions were added or dropped"},
		{Name: "time of creation", Value: created, Changed: "the table was recreated or altered"},
	}
	return m, err
}

// Unnoticed implements [dialect.Reader].
func (Dialect) Unnoticed() string {
	return "if the table is truncated or restored, and the keys pass the cursor again before the next poll, only delivered rows that are still there can show it (with a warning only: without the privilege PROCESS, if a restored table has the id and the time of creation of the old one, if few of them were replaced, or if no column tells rows apart)"
}

// small is up to how many rows it means nothing that MySQL reads and sorts all of them: it does
// so, with an index too, where a batch is a good part of them.
const small = 100 * 1024

func (Dialect) Explain(ctx context.Context, db ceiling.Queryer, statement string, args []any, _ bool) ([]string, ceiling.Finding, error) {
	steps, err := dialect.ReadPlan(ctx, db, "EXPLAIN "+statement, args)
	var lines, bad []string
	large := false
	for _, s := range steps {
		var parts []string
		for _, column := range []string{"id", "select_type", "table", "partitions", "type", "possible_keys", "key", "key_len", "ref", "rows", "filtered", "Extra"} {
			if s[column] != "" {
				parts = append(parts, column+"="+s[column])
			}
		}
		lines = append(lines, strings.Join(parts, " "))
		n, _ := strconv.ParseFloat(s["rows"], 64)
		if s["type"] == "ALL" || strings.Contains(s["Extra"], "Using filesort") || strings.Contains(s["Extra"], "Using temporary") {
			bad = append(bad, fmt.Sprintf("%s: type %s, %s", s["table"], s["type"], s["Extra"]))
			large = large || n > small
		}
	}
	switch {
	case err != nil || bad == nil:
		return lines, ceiling.Finding{}, err
	case !large:
		return lines, ceiling.Finding{Level: ceiling.Note, Text: fmt.Sprintf("the rows are so few that no index is used (%s); check again when there are more than %d", strings.Join(bad, "; "), small)}, nil
	}
	return lines, dialect.Slow("no index is used to read the rows in the order of the key (%s)", strings.Join(bad, "; ")), nil
}

func (Dialect) TextType(limit int, _ bool) string {
	typ := "MEDIUMTEXT"
	if limit > 0 {
		typ = fmt.Sprintf("VARCHAR(%d)", limit)
	}
	return typ + " CHARACTER SET ascii COLLATE ascii_bin"
}

// bindInteger binds a number: MySQL compares a string with a BIGINT as doubles.
func bindInteger(v dialect.Value) (string, any, error) {
	if v.Tag == dialect.Bytes || v.Tag == dialect.Time {
		return "", nil, errors.New("the column holds integers")
	}
	n, err := v.Integer()
	return "%s", n, err
}

var decimal = regexp.MustCompile(`^-?\d{1,65}(\.(\d{1,38}))?$`)

func bindDecimal(v dialect.Value) (string, any, error) {
	m := decimal.FindStringSubmatch(v.Text)
	if m == nil || v.Tag == dialect.Bytes {
		return "", nil, errors.New("the column holds decimal numbers")
	}
	return fmt.Sprintf("CAST(%%s AS DECIMAL(65,%d))", len(m[2])), v.Text, nil
}

var (
	date  = regexp.MustCompile(`^\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,6})?)?$`)
	clock = regexp.MustCompile(`^-?\d{2,3}:[0-5]\d:[0-5]\d(\.\d{1,6})?$`)
)

// bindDate binds text, which MySQL converts to a date when it compares it with a column of dates.
// Text that is not a date would not be an error, but find no rows, or all of them.
func bindDate(typ string) func(dialect.Value) (string, any, error) {
	layout, form, short := "2006-01-02 15:04:05.999999", date, ", or the date alone"
	if typ == "TIME" {
		layout, form, short = "15:04:05.999999", clock, ""
	}
	return func(v dialect.Value) (string, any, error) {
		if v.Tag == dialect.Time {
			t, err := time.Parse(time.RFC3339Nano, v.Text)
			if typ == "TIMESTAMP" {
				t = t.UTC()
			}
			return "%s", t.Format(layout), err
		}
		if !form.MatchString(v.Text) {
			return "", nil, errors.New("want " + layout + short)
		}
		if v.Tag == dialect.Given && typ != "TIME" { // the database itself may hold 0000-00-00 and 2026-02-30
			text := strings.Replace(v.Text, "T", " ", 1)
			if _, err := time.Parse(layout[:min(len(text), 19)], text); err != nil {
				return "", nil, errors.New("the date or time of day does not exist")
			}
		}
		return "%s", v.Text, nil
	}
}
