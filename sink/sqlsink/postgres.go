package sqlsink

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// postgresEngine writes each batch by one statement with an array of texts for each column. So
// the number of parameters does not depend on the number of rows, and no driver converts a value.
type postgresEngine struct{ dialect.Dialect }

func (postgresEngine) traits() traits { return traits{special: true, noNUL: true} }

// postgresColumns says for each column the type without limits: an explicit cast to varchar(3)
// would cut a value off, an assignment is an error.
const postgresColumns = `WITH RECURSIVE base(attnum, type, mod) AS (
		SELECT attnum, atttypid, atttypmod FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped
		UNION SELECT b.attnum, t.typbasetype, CASE WHEN b.mod >= 0 THEN b.mod ELSE t.typtypmod END FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype = 'd'
	)
	SELECT a.attname::text, format_type(b.type, -1), format_type(b.type, b.mod), a.attgenerated <> '', a.attidentity = 'a',
		a.atthasdef OR a.attidentity <> '' OR NOT a.attnotnull
	FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
	WHERE a.attrelid = to_regclass($1::text) ORDER BY a.attnum`

// postgresKeys lists the unique keys, of which ON CONFLICT can use only some.
const postgresKeys = `SELECT json_agg(a.attname ORDER BY k.n)::text, bool_and(i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL)
	FROM pg_catalog.pg_index i, LATERAL unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, n)
	LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass($1::text) AND a.attnum = k.attnum
	WHERE i.indrelid = to_regclass($1::text) AND i.indisunique GROUP BY i.indexrelid, i.indisprimary ORDER BY NOT i.indisprimary, i.indexrelid`

func (e postgresEngine) read(ctx context.Context, db *sqlx.Conn, name []string) (*table, error) {
	types, err := e.Types(ctx, db, name, nil)
	if err != nil || len(types) == 0 {
		return nil, err
	}
	t := &table{}
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		c, full := &column{}, ""
		err := rows.Scan(&c.name, &c.cast, &full, &c.generated, &c.always, &c.optional)
		c.typ, c.fraction = types[c.name], fractionOf(full)
		switch {
		case full == "name":
			c.typ.Length = 63
		case full == `"char"`:
			c.typ.Length = 1
		}
		t.columns = append(t.columns, c)
		return err
	}, postgresColumns, dialect.QuoteAll(e, name))
	if err == nil {
		err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
			var names string
			var usable bool
			if err := rows.Scan(&names, &usable); err != nil {
				return err
			}
			return t.addKey(names, usable)
		}, postgresKeys, dialect.QuoteAll(e, name))
	}
	return t, err
}

// session does nothing: what a transaction needs is set for it alone.
func (postgresEngine) session(context.Context, *sqlx.Conn, []run) (func(), error) { return nil, nil }

// postgresStatement is how many bytes of values one statement has.
const postgresStatement = 16 << 20

func (e postgresEngine) write(ctx context.Context, tx *sqlx.Tx, p *plan, rows []row.Row) error {
	if p.text == "" {
		p.text = e.statement(p)
	}
	return e.run(ctx, tx, p, rows)
}

func (postgresEngine) expr(f *field, v value, args *dialect.Args) (string, error) {
	if v.form == null {
		return "NULL", nil
	}
	return args.Add(f.postgresExpr("%s::text"), v.text), nil
}

func (e postgresEngine) remove(ctx context.Context, tx *sqlx.Tx, p *plan, keys []row.Row) error {
	if p.text == "" {
		var wheres []string
		from, refs := unnest(p)
		for i, f := range p.fields {
			wheres = append(wheres, "t."+e.Quote(f.name)+" = "+refs[i])
		}
		p.text = "DELETE FROM " + p.name + " AS t USING " + from + " WHERE " + strings.Join(wheres, " AND ")
	}
	return e.run(ctx, tx, p, keys)
}

// run runs the plan's statement on all rows.
func (e postgresEngine) run(ctx context.Context, tx *sqlx.Tx, p *plan, rows []row.Row) error {
	for _, f := range p.fields {
		if f.typ.Class == row.Interval { // the style says what the sign in front of an interval means
			if _, err := tx.ExecContext(ctx, "SET LOCAL IntervalStyle = 'postgres'"); err != nil {
				return err
			}
			break
		}
	}
	for len(rows) > 0 {
		n, args, err := e.arrays(p, rows)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, p.text, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (e postgresEngine) statement(p *plan) string {
	overriding := ""
	from, exprs := unnest(p)
	for _, f := range p.fields {
		if f.always {
			overriding = "OVERRIDING SYSTEM VALUE "
		}
	}
	return "INSERT INTO " + p.name + " (" + p.names(e) + ") " + overriding + "SELECT " + strings.Join(exprs, ", ") +
		" FROM " + from + p.onConflict(e)
}

// unnest returns a table of the arrays, and an expression for each of its columns.
func unnest(p *plan) (from string, exprs []string) {
	var params, aliases []string
	for i, f := range p.fields {
		alias := fmt.Sprintf("c%d", i+1)
		aliases = append(aliases, alias)
		element, expr := "text", f.postgresExpr("d."+alias)
		if f.inArray() {
			element, expr = f.cast, "d."+alias
		}
		params = append(params, fmt.Sprintf("$%d::%s[]", i+1, element))
		exprs = append(exprs, expr)
	}
	return "unnest(" + strings.Join(params, ", ") + ") AS d(" + strings.Join(aliases, ", ") + ")", exprs
}

// inArray reports whether an array of the type is parsed from the texts of its elements, which is
// faster than to cast each. Arrays have no such array, boxes have another separator, and binary data is base64.
func (f *field) inArray() bool {
	switch f.typ.Class {
	case row.Unknown, row.Array, row.Binary:
		return false
	}
	return true
}

// postgresExpr makes a value of a text.
func (f *field) postgresExpr(ref string) string {
	if f.typ.Class == row.Binary {
		return "decode(" + ref + ", 'base64')"
	}
	return "CAST(" + ref + " AS " + f.cast + ")"
}

// arrays returns the arguments for the first n rows, as literals of arrays of text.
func (e postgresEngine) arrays(p *plan, rows []row.Row) (n int, args []any, err error) {
	arrays, values := make([][]byte, len(p.fields)), make([]value, len(p.fields))
	for size := 0; n < len(rows) && size < postgresStatement && !(p.single && n == 1); n++ {
		if err := p.values(rows[n], values); err != nil {
			return 0, nil, err
		}
		size += rows[n].Size()
		for i, v := range values {
			a := arrays[i]
			if n == 0 {
				a = append(make([]byte, 0, min(len(rows)*(len(v.text)+4), postgresStatement)), '{')
			} else {
				a = append(a, ',')
			}
			if v.form == null {
				a = append(a, "NULL"...)
			} else {
				a = append(a, '"')
				a = appendEscaped(a, v.text)
				a = append(a, '"')
			}
			arrays[i] = a
		}
	}
	for _, a := range arrays {
		args = append(args, string(append(a, '}')))
	}
	return n, args, nil
}

func appendEscaped(dst []byte, s string) []byte {
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(append(dst, s[:i]...), '\\', s[i])
		s = s[i+1:]
	}
}

// culprit casts the values one by one.
func (e postgresEngine) culprit(ctx context.Context, conn *sqlx.Conn, p *plan, r row.Row) string {
	for i := range p.fields {
		f := &p.fields[i]
		v, why := f.value(r)
		if why != "" || v.form == null {
			continue
		}
		_, err := conn.ExecContext(ctx, "SELECT "+f.postgresExpr("$1::text"), v.text)
		if retry.Classify(err) == retry.Data {
			return f.name
		}
	}
	return ""
}
