package xminsource

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// finding is what the table shows of a key.
type finding uint8

const (
	absent  finding = iota
	present         // a row has the key
	equal           // a row has a key that the database takes for equal, but writes in another way, such as 1.0 and 1.00
)

const (
	firstPage = 1000   // keys of the first page of a key pass
	maxPage   = 10_000 // keys of a page
	pageBytes = 1 << 20
)

// page is a piece of the table's keys, in their order.
type page struct {
	keys  []byte // packed, one after the other
	count int
}

// keysAfter reads the next keys of the table. The server puts them into one text, because a row of its own for each key takes
// most of the time.
func (g *guard) keysAfter(ctx context.Context, db queryer, after []string, limit int) (p page, err error) {
	args := dialect.Args{Writer: postgres.Dialect{}}
	names, columns, refs := make([]string, len(g.key)), make([]string, len(g.key)), make([]string, len(g.key))
	for i, k := range g.key {
		names[i] = fmt.Sprintf("%s, ':', m.k%d", fmt.Sprintf(g.octets, fmt.Sprintf("m.k%d", i+1)), i+1)
		columns[i] = fmt.Sprintf("%s AS k%d", k.text(), i+1)
		refs[i] = k.ref
	}
	where := postgres.Dialect{}.Settings(true).Where
	if after != nil {
		where += " AND " + g.follow(after, &args)
	}
	order := strings.Join(refs, ", ")
	var text sql.RawBytes
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		err := rows.Scan(&p.count, &text)
		p.keys = slices.Clone(text)
		return err
	}, fmt.Sprintf(`SELECT count(*), COALESCE(string_agg(concat(%s), ''), '') FROM (SELECT %s FROM %s AS t WHERE %s ORDER BY %s LIMIT %d) AS m`,
		strings.Join(names, ", "), strings.Join(columns, ", "), g.name, where, order, limit), args.List...)
	return p, err
}

// text returns an expression for a value of the key as text, in the form of [pack].
func (k keyColumn) text() string {
	switch k.typ {
	case "bytea":
		return "encode(" + k.ref + ", 'hex')"
	case "double precision":
		return "encode(float8send(" + k.ref + "), 'hex')"
	case "real":
		return "encode(float8send(" + k.ref + "::text::float8), 'hex')"
	case "timestamp with time zone":
		return "replace(to_json(" + k.ref + ")#>>'{}', '+00:00', 'Z')"
	case "timestamp without time zone":
		return "to_json(" + k.ref + ")#>>'{}'"
	case "boolean", "text", "character varying":
		return k.ref + "::text"
	}
	return "concat(" + k.ref + ")" // a cast writes some types in another way, such as inet
}

// after returns the argument for what comes after a value that text returned.
func (k keyColumn) after(text string) string {
	if k.typ == "double precision" || k.typ == "real" {
		bits, _ := strconv.ParseUint(text, 16, 64) // otherwise the server refuses the value
		return strconv.FormatFloat(math.Float64frombits(bits), 'g', -1, 64)
	}
	return text
}

// find looks for keys in the table.
func (g *guard) find(ctx context.Context, db queryer, keys []sqlsource.Key) ([]finding, error) {
	lists, binary := make([][]string, len(g.key)), make([]bool, len(g.key))
	for _, key := range keys {
		values, err := key.Values()
		if err != nil || len(values) != len(g.key) {
			return nil, g.source.permanent("%w: a key has another form", errDamaged)
		}
		for i, v := range values {
			var text string
			text, binary[i] = valueText(v)
			lists[i] = append(lists[i], text)
		}
	}
	args := dialect.Args{Writer: postgres.Dialect{}}
	arrays, names, values, same, where := make([]string, len(g.key)), make([]string, len(g.key)), make([]string, len(g.key)), make([]string, len(g.key)), make([]string, len(g.key))
	for i, k := range g.key {
		n := i + 1
		arrays[i] = args.Add("%s::text[]", array(lists[i]))
		names[i] = fmt.Sprintf("v%d", n)
		values[i] = fmt.Sprintf("a.v%d::%s AS k%d", n, k.typ, n)
		if binary[i] {
			values[i] = fmt.Sprintf("decode(a.v%d, 'hex')::%s AS k%d", n, k.typ, n)
		}
		same[i] = fmt.Sprintf("concat(%s) = concat(u.k%d)", k.ref, n)
		where[i] = fmt.Sprintf("%s = u.k%d", k.ref, n)
	}
	found := make([]finding, len(keys))
	n := 0
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var row int
		var same sql.NullBool
		if err := rows.Scan(&row, &same); err != nil {
			return err
		}
		if n++; row < 1 || row > len(found) {
			return errPacked
		}
		if same.Valid {
			if found[row-1] = equal; same.Bool {
				found[row-1] = present
			}
		}
		return nil
	}, fmt.Sprintf(`SELECT a.n::int, m.same FROM unnest(%s) WITH ORDINALITY AS a(%s, n) CROSS JOIN LATERAL (SELECT %s) AS u
		LEFT JOIN LATERAL (SELECT %s AS same FROM %s AS t WHERE %s ORDER BY 1 DESC LIMIT 1) AS m ON true`,
		strings.Join(arrays, ", "), strings.Join(names, ", "), strings.Join(values, ", "), strings.Join(same, " AND "), g.name, strings.Join(where, " AND ")), args.List...)
	if err == nil && n != len(keys) {
		err = errPacked
	}
	return found, err
}

// equals returns the condition for a key.
func (g *guard) equals(key sqlsource.Key) (where string, args []any, err error) {
	values, err := key.Values()
	if err != nil || len(values) != len(g.key) {
		return "", nil, g.source.permanent("%w: a key has another form", errDamaged)
	}
	conds := make([]string, len(values))
	for i, k := range g.key {
		text, binary := valueText(values[i])
		conds[i] = k.ref + " = ?::text::" + k.typ
		if binary {
			conds[i] = k.ref + " = decode(?::text, 'hex')::" + k.typ
		}
		args = append(args, text)
	}
	return strings.Join(conds, " AND "), args, nil
}
