package sqlsink

import (
	"context"
	"database/sql"
	"encoding/base64"
	"math"
	"strconv"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// sqliteEngine writes each row by a prepared statement, with arguments of the types that SQLite
// stores.
type sqliteEngine struct{ dialect.Dialect }

func (sqliteEngine) traits() traits { return traits{anyCase: true, loose: true} }

// affinity says what SQLite does to a value of a column.
type affinity uint8

const (
	none affinity = iota
	textual
	integer
	numeric
	float
)

// affinityOf follows the rules of SQLite for declared types.
func affinityOf(declared string) affinity {
	declared = strings.ToUpper(declared)
	contains := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(declared, w) {
				return true
			}
		}
		return false
	}
	switch {
	case contains("INT"):
		return integer
	case contains("CHAR", "CLOB", "TEXT"):
		return textual
	case declared == "", contains("BLOB"):
		return none
	case contains("REAL", "FLOA", "DOUBLE"):
		return float
	}
	return numeric
}

// sqliteColumns finds the table as SQLite does. The number of an INTEGER PRIMARY KEY is drawn.
const sqliteColumns = `SELECT c.name, c.type, c.hidden IN (2, 3), c."notnull" = 0 OR c.dflt_value IS NOT NULL OR c.pk = 1 AND upper(c.type) = 'INTEGER'
		AND (SELECT count(*) FROM pragma_table_info(?1, ?2) WHERE pk > 0) = 1, upper(c.type) = 'ANY' AND (SELECT max(strict) FROM pragma_table_list(?1) WHERE ?2 IS NULL OR schema = ?2 COLLATE NOCASE)
	FROM pragma_table_xinfo(?1, ?2) AS c WHERE c.hidden <> 1`

// sqliteKeys lists the primary key, which has no index if it is the row's number, and the unique
// indexes.
const sqliteKeys = `SELECT json_group_array(name), true FROM (SELECT name FROM pragma_table_info(?1, ?2) WHERE pk > 0 ORDER BY pk) HAVING count(*) > 0
	UNION ALL SELECT (SELECT json_group_array(name) FROM (SELECT name FROM pragma_index_info(l.name, ?2) ORDER BY seqno)),
		NOT partial AND NOT EXISTS (SELECT 1 FROM pragma_index_info(l.name, ?2) WHERE name IS NULL)
	FROM pragma_index_list(?1, ?2) AS l WHERE "unique" AND origin <> 'pk'`

func (e sqliteEngine) read(ctx context.Context, db *sqlx.Conn, name []string) (*table, error) {
	types, err := e.Types(ctx, db, name, nil)
	if err != nil || len(types) == 0 {
		return nil, err
	}
	schema := any(nil)
	if len(name) == 2 {
		schema = name[0]
	}
	t := &table{}
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		c, declared, any := &column{fraction: -1}, "", false
		err := rows.Scan(&c.name, &declared, &c.generated, &c.optional, &any)
		c.typ = types[c.name]
		if c.affinity = affinityOf(declared); any {
			c.affinity = none
		}
		t.columns = append(t.columns, c)
		return err
	}, sqliteColumns, name[len(name)-1], schema)
	if err == nil {
		err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
			var names string
			var usable bool
			if err := rows.Scan(&names, &usable); err != nil {
				return err
			}
			return t.addKey(names, usable)
		}, sqliteKeys, name[len(name)-1], schema)
	}
	return t, err
}

func (sqliteEngine) session(context.Context, *sqlx.Conn, []run) (func(), error) { return nil, nil }

func (sqliteEngine) culprit(context.Context, *sqlx.Conn, *plan, row.Row) string { return "" }

func (sqliteEngine) expr(f *field, v value, args *dialect.Args) (string, error) {
	arg, err := v.argument(f.from.Class == row.Float)
	if err != nil {
		return "", &valueError{f.name, "it is not base64"}
	}
	return args.Add("%s", arg), nil
}

func (e sqliteEngine) remove(ctx context.Context, tx *sqlx.Tx, p *plan, keys []row.Row) error {
	return removeSome(ctx, tx, e, p, keys)
}

func (e sqliteEngine) write(ctx context.Context, tx *sqlx.Tx, p *plan, rows []row.Row) error {
	if p.text == "" {
		p.text = "INSERT INTO " + p.name + " (" + p.names(e) + ") VALUES (?" + strings.Repeat(", ?", len(p.fields)-1) + ")" + p.onConflict(e)
	}
	statement, err := tx.PrepareContext(ctx, p.text)
	if err != nil {
		return err
	}
	defer statement.Close()
	values, args := make([]value, len(p.fields)), make([]any, len(p.fields))
	for _, r := range rows {
		if err := p.values(r, values); err != nil {
			return err
		}
		for i, v := range values {
			if args[i], err = v.argument(p.fields[i].from.Class == row.Float); err != nil {
				return &valueError{p.fields[i].name, "it is not base64"}
			}
		}
		if _, err := statement.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// negativeZero reports whether text is -0, which is a floating-point number and no integer.
func negativeZero(text string) bool {
	if !strings.HasPrefix(text, "-") {
		return false
	}
	n, err := strconv.ParseFloat(text, 64)
	return err == nil && n == 0 && math.Signbit(n)
}

// argument returns the Go value that SQLite stores as it is.
func (v value) argument(real bool) (any, error) {
	switch v.form {
	case null:
		return nil, nil
	case binary:
		return base64.StdEncoding.DecodeString(v.text)
	case number:
		if n, err := strconv.ParseInt(v.text, 10, 64); err == nil && !real && !negativeZero(v.text) {
			return n, nil
		}
		return strconv.ParseFloat(v.text, 64)
	}
	return v.text, nil
}

// byAffinity returns a value that SQLite stores without a loss. A column that has numbers stores
// them as such, and text that looks like a number is refused there: it would become one.
func (f *field) byAffinity(v value, r row.Row) (value, string) {
	numbers := f.affinity != none && f.affinity != textual
	document := f.from.Class == row.Document || f.kind == row.JSON || f.kind == row.JSONB
	switch {
	case v.form == binary:
		return v, ""
	case r.IsString(f.index) || document:
		if f.affinity == float && (v.text == "Infinity" || v.text == "-Infinity") {
			return value{v.text, number}, ""
		}
		if _, err := strconv.ParseFloat(strings.TrimSpace(v.text), 64); numbers && err == nil && v.text != "NaN" && !strings.HasSuffix(v.text, "nfinity") {
			return v, "it is text that the column would convert to a number"
		}
		return v, ""
	case f.affinity == textual:
		return v, ""
	case (f.affinity == integer || f.affinity == numeric) && negativeZero(v.text):
		return v, "the column would drop its sign"
	case v.text == "true":
		return value{"1", number}, ""
	case v.text == "false":
		return value{"0", number}, ""
	}
	if _, err := strconv.ParseInt(v.text, 10, 64); err == nil && f.from.Class != row.Decimal {
		if n, _ := strconv.ParseFloat(v.text, 64); f.affinity == float && math.Abs(n) > 1<<53 {
			return v, "it has more digits than the column"
		}
		return value{v.text, number}, ""
	}
	return f.inexact(v, numbers)
}

// inexact returns a number that is not an integer, or a decimal.
func (f *field) inexact(v value, numbers bool) (value, string) {
	n, err := strconv.ParseFloat(v.text, 64)
	switch {
	case err != nil:
		return v, "it is not a number, or out of range"
	case f.from.Class == row.Float || f.from.Class == row.Unknown && f.kind == row.Auto:
		return value{v.text, number}, ""
	case !numbers:
		return v, "" // as text, with all digits
	}
	if significant(strconv.FormatFloat(n, 'f', -1, 64)) != significant(v.text) {
		return v, "it has more digits than the column"
	}
	return v, ""
}

// significant returns the digits of a decimal number without the zeros that mean nothing.
func significant(s string) string {
	s = strings.TrimLeft(strings.TrimPrefix(s, "-"), "0")
	if strings.Contains(s, ".") {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s
}
