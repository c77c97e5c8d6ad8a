package sqlsource

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

type sqlite struct{}

func (sqlite) quote(name string) string { return quoteWith(`"`, name) }

// explicit is true because SQLite prepares a statement again, unseen, when the
// schema changed before its first step: a star could then stand for other
// columns than the driver was told.
func (sqlite) explicit() bool { return true }

// column selects +c: an expression has no declared type, by which the drivers
// would change values.
func (sqlite) column(_ column, ref string) (row.Kind, string) { return row.Auto, "+" + ref }

func (s sqlite) key(_ context.Context, _ ceiling.Queryer, c column, ref string) (keyColumn, error) {
	return keyColumn{name: c.name, ref: ref, expr: "+" + ref, kind: row.Auto, bind: func(v value) (string, any, error) {
		switch v.tag {
		case tagInt:
			n, err := v.integer()
			if _, unsigned := n.(uint64); unsigned {
				return "", nil, errors.New("SQLite has no integer as large")
			}
			return "%s", n, err
		case tagFloat:
			f, err := strconv.ParseFloat(v.text, 64)
			if math.IsNaN(f) { // it is NULL, and no row is greater
				err = errors.New("SQLite has no NaN")
			}
			return "%s", f, err
		case tagBytes:
			b, err := v.bytes()
			return "%s", b, err
		case tagTime:
			return "", nil, errors.New("SQLite has no type for times; give the text or number that the column holds")
		case tagGiven: // which SQLite makes a number beside a column of numbers, and only there
			_, noInteger := v.integer()
			_, noNumber := strconv.ParseFloat(v.text, 64)
			switch typ := strings.ToUpper(c.typ); {
			case strings.Contains(typ, "INT") && noInteger != nil:
				// Text is greater than all numbers: there would never be a row.
				return "", nil, errors.New("the column holds integers")
			case typ == "" && noNumber == nil:
				return "", nil, errors.New("the column has no type that tells whether this is a number or text; give At an integer, or declare the column")
			case typ == "BLOB":
				return "%s", []byte(v.text), nil
			}
		}
		return "%s", v.text, nil
	}}, nil
}

func (sqlite) after(columns []keyColumn, key []value, args *args) (string, error) {
	return compareRows(columns, " > ", key, args)
}

func (sqlite) upTo(columns []keyColumn, key []value, args *args) (string, error) {
	return compareRows(columns, " <= ", key, args)
}

func (sqlite) notNull(ctx context.Context, db ceiling.Queryer, table []string) (map[string]bool, error) {
	// INTEGER PRIMARY KEY is the row's number, which is never NULL. Other
	// primary keys of SQLite may be.
	q := `SELECT name, "notnull" OR (pk = 1 AND upper(type) = 'INTEGER' AND (SELECT count(*) FROM pragma_table_info(?, ?) WHERE pk > 0) = 1)
		FROM pragma_table_info(?, ?) AS c`
	schema, name := any(nil), table[0]
	if len(table) == 2 {
		schema, name = table[0], table[1]
	}
	return readNotNull(ctx, db, q, name, schema, name, schema)
}

func (s sqlite) schema(ctx context.Context, db ceiling.Queryer, table []string) (v int64, err error) {
	prefix := ""
	if len(table) == 2 {
		prefix = s.quote(table[0]) + "."
	}
	err = db.QueryRowContext(ctx, "PRAGMA "+prefix+"schema_version").Scan(&v)
	return v, err
}

func (sqlite) history(context.Context, ceiling.Queryer, []string) (history, error) {
	return history{}, nil
}

// changed knows the errors of a statement that was prepared before, and run after
// a column went, which has no code of its own, or after there were more of them
// or less, which ncruces' driver calls its own misuse.
func (sqlite) changed(err error) bool {
	return strings.Contains(err.Error(), "no such column") || strings.Contains(err.Error(), "API misuse")
}
