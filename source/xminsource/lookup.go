package xminsource

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
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

// keysAfter reads the next keys of the table. The server puts them into one text, because one row for each key takes
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

// find looks for keys in the table. A key that the type which the column has now cannot have, such as a label that an enum had
// before, is absent.
func (g *guard) find(ctx context.Context, db queryer, keys []sqlsource.Key) ([]finding, error) {
	found, err := g.findAll(ctx, db, keys)
	switch half := len(keys) / 2; {
	case err == nil || !refusedValue(err):
		return found, err
	case half == 0:
		return []finding{absent}, nil
	default:
		first, err := g.find(ctx, db, keys[:half])
		if err != nil {
			return nil, err
		}
		second, err := g.find(ctx, db, keys[half:])
		return append(first, second...), err
	}
}

// refusedValue reports whether an error says that a value is not one of its type.
func refusedValue(err error) bool { return strings.HasPrefix(dberr.SQLState(err), "22") }

// lookedFor has the values of one column of keys, as arguments of a statement.
type lookedFor struct {
	values, packed []string
	binary         bool
}

// lookedFor returns the values of keys by their columns.
func (g *guard) lookedFor(keys []sqlsource.Key) ([]lookedFor, error) {
	columns := make([]lookedFor, len(g.key))
	for _, key := range keys {
		values, err := key.Values()
		if err != nil || len(values) != len(g.key) {
			return nil, g.source.permanent("%w: a key has another form", errDamaged)
		}
		text, err := pack(nil, []byte(key))
		if err != nil {
			return nil, err
		}
		_, _, packed, err := cutPacked(text, len(g.key), nil)
		if err != nil {
			return nil, err
		}
		for i := range columns {
			c := &columns[i]
			var value string
			value, c.binary = valueText(values[i])
			c.values, c.packed = append(c.values, value), append(c.packed, string(packed[i]))
		}
	}
	return columns, nil
}

// findAll looks for keys in one statement. The server finds a row by its comparison, and then compares the text of its key as
// it was delivered: the type and the collation of the column may take two texts for one key.
func (g *guard) findAll(ctx context.Context, db queryer, keys []sqlsource.Key) ([]finding, error) {
	columns, err := g.lookedFor(keys)
	if err != nil {
		return nil, err
	}
	args := dialect.Args{Writer: postgres.Dialect{}}
	var arrays, names, values, same, where []string
	for i, k := range g.key {
		c, value, packed := columns[i], fmt.Sprintf("a.v%d", i+1), fmt.Sprintf("a.v%d", i+1)
		arrays, names = append(arrays, args.Add("%s::text[]", array(c.values))), append(names, value[2:])
		if !slices.Equal(c.values, c.packed) {
			packed = fmt.Sprintf("a.p%d", i+1)
			arrays, names = append(arrays, args.Add("%s::text[]", array(c.packed))), append(names, packed[2:])
		}
		if c.binary {
			value = "decode(" + value + ", 'hex')"
		}
		values = append(values, fmt.Sprintf("%s::%s AS k%d", value, k.typ, i+1))
		same = append(same, k.same(fmt.Sprintf("u.k%d", i+1), packed))
		where = append(where, fmt.Sprintf("%s = u.k%d", k.ref, i+1))
	}
	found := make([]finding, len(keys))
	n := 0
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
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
		LEFT JOIN LATERAL (SELECT %s AS same FROM %s AS t WHERE %s AND %s ORDER BY 1 DESC LIMIT 1) AS m ON true`,
		strings.Join(arrays, ", "), strings.Join(names, ", "), strings.Join(values, ", "), strings.Join(same, " AND "), g.name,
		postgres.Dialect{}.Settings(true).Where, strings.Join(where, " AND ")), args.List...)
	if err == nil && n != len(keys) {
		err = errPacked
	}
	return found, err
}

// same returns the condition that a row has the text of a key that was delivered. A value is that text as one of the type.
func (k keyColumn) same(value, text string) string {
	if k.typ == "time with time zone" { // the client writes its offset in another way
		return "concat(" + k.ref + `) COLLATE "C" = concat(` + value + ")"
	}
	return "(" + k.text() + `) COLLATE "C" = ` + text
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
