package sqlsource

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/internal/autoinc"
)

type mysql struct{}

func (mysql) quote(name string) string { return quoteWith("`", name) }
func (mysql) explicit() bool           { return false }

var mysqlKinds = map[string]row.Kind{
	"DECIMAL": row.Number, "FLOAT": row.Float32, "DOUBLE": row.Number, "YEAR": row.Number, "BIT": row.Bit, "JSON": row.JSONB,
	"DATE": row.Date, "DATETIME": row.Timestamp, "TIMESTAMP": row.Timestamp, "TIME": row.Time,
	"BINARY": row.Bytes, "VARBINARY": row.Bytes, "TINYBLOB": row.Bytes, "BLOB": row.Bytes, "MEDIUMBLOB": row.Bytes, "LONGBLOB": row.Bytes,
	"GEOMETRY": row.Bytes, "VECTOR": row.Bytes,
}

func (mysql) column(c column, ref string) (row.Kind, string) {
	kind, ok := mysqlKinds[c.typ]
	switch {
	case !ok && strings.HasSuffix(c.typ, "INT"):
		return row.Number, ""
	case !ok:
		return row.Text, ""
	case kind == row.Float32: // six digits in the text protocol, all of them as a double
		return kind, ref + " * 1e0"
	case c.time: // parseTime changes dates that no calendar has
		return kind, "CAST(" + ref + " AS CHAR)"
	}
	return kind, ""
}

func (m mysql) key(ctx context.Context, db ceiling.Queryer, c column, ref string) (keyColumn, error) {
	kind, expr := m.column(c, ref)
	k := keyColumn{name: c.name, ref: ref, expr: expr, kind: kind}
	switch {
	case strings.HasSuffix(c.typ, "INT"), c.typ == "YEAR":
		k.bind = bindInteger
	case c.typ == "DECIMAL":
		k.bind = bindDecimal
	case c.typ == "DATE", c.typ == "DATETIME", c.typ == "TIMESTAMP", c.typ == "TIME":
		k.bind = bindDate(c.typ)
		if c.typ == "TIMESTAMP" {
			return k, wantUTC(ctx, db, c.name)
		}
	case kind == row.Bytes && c.typ != "GEOMETRY" && c.typ != "VECTOR":
		// Bytes that are no text must not pass through the connection's character set.
		k.bind = func(v value) (string, any, error) {
			b, err := v.bytes()
			return "UNHEX(%s)", hex.EncodeToString(b), err
		}
	case strings.HasSuffix(c.typ, "CHAR"), strings.HasSuffix(c.typ, "TEXT"):
		k.bind = asText
	default:
		// ENUM and SET are sorted by number and compared as text; a FLOAT is
		// equal to no number that can be written down.
		return k, permanent("the key column %q is of the type %s, which cannot be a key; use integers, DECIMAL, text, binary strings, dates or times", c.name, c.typ)
	}
	return k, nil
}

func (m mysql) after(columns []keyColumn, key []value, args *args) (string, error) {
	return m.compare(columns, " > ", " > ", key, args)
}

func (m mysql) upTo(columns []keyColumn, key []value, args *args) (string, error) {
	return m.compare(columns, " < ", " <= ", key, args)
}

// compare writes a >= ? AND (a > ? OR (a = ? AND b > ?)), since MySQL compares
// rows without an index.
func (mysql) compare(columns []keyColumn, op, lastOp string, key []value, args *args) (string, error) {
	var fail error
	compare := func(i int, op string) string {
		expr, arg, err := columns[i].bind(key[i])
		if err != nil && fail == nil {
			fail = misfit(columns[i], key[i], err)
		}
		return columns[i].ref + op + args.add(expr, arg)
	}
	var beyond func(i int) string
	beyond = func(i int) string {
		if i == len(columns)-1 {
			return compare(i, lastOp)
		}
		return "(" + compare(i, op) + " OR (" + compare(i, " = ") + " AND " + beyond(i+1) + "))"
	}
	cond := ""
	if len(columns) > 1 {
		cond = compare(0, op[:2]+"= ") + " AND "
	}
	cond += beyond(0)
	return cond, fail
}

// notNull knows nothing: the driver tells, for each column of a result.
func (mysql) notNull(context.Context, ceiling.Queryer, []string) (map[string]bool, error) {
	return nil, nil
}

func (mysql) schema(context.Context, ceiling.Queryer, []string) (int64, error) { return 0, nil }

// history goes by the AUTO_INCREMENT counter, which neither DELETE nor a rebuild
// sets back, and TRUNCATE, a table made anew and a restored backup do. A cursor
// keeps the greatest key there was, and not the counter: numbers that no row got
// are forgotten at a restart. MariaDB has nothing that identifies a server and
// stays the same when it moves: its server_uid is made of the network address.
func (m mysql) history(ctx context.Context, db ceiling.Queryer, table []string) (history, error) {
	var c autoinc.Counter
	known := false
	if table != nil {
		var err error
		if c, known, err = autoinc.Read(ctx, db, quoteAll(m, table)); err != nil {
			return history{}, err
		}
	}
	top := "0"
	if known {
		top = "COALESCE((SELECT MAX(" + c.Column + ") FROM " + quoteAll(m, table) + "), 0)"
	}
	var server, greatest string
	err := db.QueryRowContext(ctx, "SELECT /*!80000 @@server_uuid */ /*M! '' */, "+top).Scan(&server, &greatest)
	if err != nil {
		return history{}, err
	}
	h := history{drawn: math.MaxUint64, flushed: math.MaxUint64, parts: []historyPart{
		{"server", server, "the data source name leads to another server, or a replica took its place"},
	}}
	if known && greatest[0] != '-' {
		h.drawn = c.Next - 1
		h.mark, err = strconv.ParseUint(greatest, 10, 64)
	}
	return h, err
}

func (mysql) changed(err error) bool {
	switch autoinc.Number(err) {
	case 1054, // a column is gone
		1412, 1615: // the table's definition changed; the statement must be prepared again
		return true
	}
	return false
}

// bindInteger binds a number: MySQL compares a string with a BIGINT as doubles.
func bindInteger(v value) (string, any, error) {
	if v.tag == tagBytes || v.tag == tagTime {
		return "", nil, errors.New("the column holds integers")
	}
	n, err := v.integer()
	return "%s", n, err
}

var decimal = regexp.MustCompile(`^-?\d{1,65}(\.(\d{1,38}))?$`)

func bindDecimal(v value) (string, any, error) {
	m := decimal.FindStringSubmatch(v.text)
	if m == nil || v.tag == tagBytes {
		return "", nil, errors.New("the column holds decimal numbers")
	}
	return fmt.Sprintf("CAST(%%s AS DECIMAL(65,%d))", len(m[2])), v.text, nil
}

var (
	date  = regexp.MustCompile(`^\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,6})?)?$`)
	clock = regexp.MustCompile(`^-?\d{2,3}:[0-5]\d:[0-5]\d(\.\d{1,6})?$`)
)

// bindDate binds text, which MySQL takes for a date beside a column of dates. It
// would not say that text is none, but find no rows, or all.
func bindDate(typ string) func(value) (string, any, error) {
	return func(v value) (string, any, error) {
		if v.tag == tagTime {
			t, err := time.Parse(time.RFC3339Nano, v.text)
			switch typ {
			case "TIMESTAMP":
				t = t.UTC()
			case "TIME":
				return "%s", t.Format("15:04:05.999999"), err
			}
			return "%s", t.Format("2006-01-02 15:04:05.999999"), err
		}
		want, form := "2006-01-02 15:04:05.999999, or the date alone", date
		if typ == "TIME" {
			want, form = "15:04:05.999999", clock
		}
		if !form.MatchString(v.text) {
			return "", nil, errors.New("want " + want)
		}
		// The database itself may hold 0000-00-00 and 2026-02-30.
		if v.tag == tagGiven && typ != "TIME" {
			text := strings.Replace(v.text, "T", " ", 1)
			if _, err := time.Parse("2006-01-02 15:04:05"[:min(len(text), 19)], text); err != nil {
				return "", nil, errors.New("there is no such date or time of day")
			}
		}
		return "%s", v.text, nil
	}
}

// wantUTC refuses a TIMESTAMP key in a session whose clock repeats an hour.
func wantUTC(ctx context.Context, db ceiling.Queryer, column string) error {
	var offset, winter int64
	var zone string
	err := db.QueryRowContext(ctx, "SELECT @@session.time_zone, UNIX_TIMESTAMP('2026-01-15 00:00:00'), UNIX_TIMESTAMP('2026-07-15 00:00:00')").Scan(&zone, &winter, &offset)
	if err != nil {
		return fmt.Errorf("sqlsource: reading the session's time zone: %w", err)
	}
	if winter != time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC).Unix() || offset != time.Date(2026, 7, 15, 0, 0, 0, 0, time.UTC).Unix() {
		return permanent("the key column %q is a TIMESTAMP, and the session's time zone is %s, in which two moments can have one text; add time_zone=%%27%%2B00:00%%27 to the data source name", column, strconv.Quote(zone))
	}
	return nil
}
