package survey

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// style is one way to make the values of a row. A schema's checks refuse some of them, so that
// several are tried; the one that was accepted makes all rows of the table.
type style struct {
	number int // the attempt
}

// styles is how many ways are tried for a table.
const styles = 40

// leaves reports whether the style leaves out a column that may be left out.
func (s style) leaves(c column, key bool) bool {
	switch {
	case c.Computed:
		return true
	case c.Required || key:
		return false
	}
	return s.number%2 == 1
}

// literal returns a value for a column of row i, for SQL.
func (s style) literal(engine string, c column, i int) string {
	random := rand.New(rand.NewPCG(uint64(s.number), uint64(len(c.Name)))) //nolint:gosec // not a secret
	if s.number < 4 {
		random = nil
	}
	number := i
	if random != nil && random.IntN(3) == 0 {
		number = i % 2
	}
	if c.Labels != "" {
		labels := strings.Split(c.Labels, ",")
		return quoted(labels[i%len(labels)])
	}
	text := plain(engine, c, number, random)
	if c.Array {
		if text == "NULL" {
			return "'{}'"
		}
		return `'{"` + strings.ReplaceAll(strings.ReplaceAll(strings.Trim(text, "'"), `\`, `\\`), `"`, `\"`) + `"}'`
	}
	return text
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

var literals = map[string]string{
	"boolean": "%bool", "bool": "%bool", "date": "'2024-02-%02d'", "timestamp without time zone": "'2024-02-%02d 03:04:05.678901'",
	"timestamp with time zone": "'2024-02-%02d 03:04:05.678901+00'", "time without time zone": "'03:04:%02d'", "time with time zone": "'03:04:%02d+01'",
	"interval": "'%d days 02:00:00'", "uuid": "'00000000-0000-4000-8000-%012d'", "json": `'{"k": %d}'`, "jsonb": `'{"k": %d}'`,
	"inet": "'10.0.0.%d'", "cidr": "'10.0.%d.0/24'", "macaddr": "'08:00:2b:01:02:%02d'", "point": "'(1,%d)'", "box": "'(2,%d),(0,0)'", "path": "'((0,0),(1,%d))'",
	"polygon": "'((0,0),(1,1),(1,%d))'", "circle": "'<(0,0),%d>'", "line": "'{1,2,%d}'", "lseg": "'[(0,0),(1,%d)]'", "tsvector": "'a%d b'", "tsquery": "'a%d'",
	"xml": "'<a>%d</a>'", "money": "'%d.50'", "int4range": "'[1,1%d)'", "int8range": "'[1,1%d)'", "numrange": "'[1,1%d)'", "tstzrange": "'[2024-01-%02d,)'",
	"tsrange": "'[2024-01-%02d,)'", "daterange": "'[2024-01-%02d,)'", "hstore": "'a=>%d'", "ltree": "'a.b%d'", "cube": "'(1,%d)'", "datetime": "'2024-02-%02d 03:04:05'",
	"timestamp": "'2024-02-%02d 03:04:05'", "time": "'03:04:%02d'", "year": "%d", "inet6": "'::%d'", "inet4": "'10.0.0.%d'", "pg_lsn": "'0/%d'",
	"geometry": "ST_GeomFromText('POINT(1 %d)')",
}

// plain returns a value that is not an array.
func plain(engine string, c column, i int, random *rand.Rand) string {
	if engine == "sqlite" {
		return affinity(c, i, random)
	}
	if format, ok := literals[c.Base]; ok {
		if format == "%bool" {
			return strconv.FormatBool(i%2 == 1)
		}
		n := i
		if c.Base == "year" {
			n += 2000
		} else if strings.Contains(format, "-%02d") {
			n = i%28 + 1
		} else if strings.Contains(format, "%02d") || strings.Contains(format, ".%d") {
			n = i % 60
		}
		return fmt.Sprintf(format, n)
	}
	switch c.Base {
	case "smallint", "integer", "bigint", "numeric", "real", "double precision", "oid", "tinyint", "mediumint", "int", "decimal", "float", "double", "year":
		return strconv.Itoa(i)
	case "bytea":
		if random != nil {
			return `'\x` + strings.Repeat(fmt.Sprintf("%02x", i%256), []int{20, 16, 4, 32}[random.IntN(4)]) + "'"
		}
		return fmt.Sprintf(`'\x00ff%02x'`, i)
	case "binary", "varbinary", "blob", "tinyblob", "mediumblob", "longblob":
		return "X'" + strings.Repeat(fmt.Sprintf("%02x", i), max(1, min(c.Length, 64))) + "'"
	case "bit", "bit varying":
		if engine == "mariadb" {
			return "b'" + strconv.FormatInt(int64(i%2), 2) + "'"
		}
		return quoted(strings.Repeat(strconv.Itoa(i%2), max(c.Length, 1)))
	}
	return quoted(words(c, i, random))
}

// words returns a text.
func words(c column, i int, random *rand.Rand) string {
	text := fmt.Sprintf("v%d é", i)
	if random != nil {
		forms := []string{"%d", "user%d@example.org", "https://example.org/%d", "abc%d", "ABC%d", `{"k": %d}`, "[%d]", "0%d:00", "#0000%02d", "00000000-0000-4000-8000-%012d", "GB", "%064d", "%032d", "%040d", "S256", "{%d}"}
		text = forms[random.IntN(len(forms))]
		if strings.Contains(text, "%") {
			text = fmt.Sprintf(text, i)
		}
	}
	if runes := []rune(text); c.Length > 0 && len(runes) > c.Length {
		tail := strconv.Itoa(i)
		text = string(runes[:c.Length])
		if len(tail) <= c.Length { // so that rows differ
			text = string(runes[:c.Length-len(tail)]) + tail
		}
	}
	return text
}

// affinity returns a value for a column of SQLite.
func affinity(c column, i int, random *rand.Rand) string {
	is := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(c.Base, p) {
				return true
			}
		}
		return false
	}
	switch {
	case is("int"), is("bool"):
		return strconv.Itoa(i)
	case is("char", "text", "clob"):
		return quoted(words(c, i, random))
	case is("blob"):
		return fmt.Sprintf("X'00ff%02x'", i)
	case is("real", "float", "double", "num", "dec"):
		return fmt.Sprintf("%d.5", i)
	case is("date", "time"):
		return fmt.Sprintf("'2024-02-%02d 03:04:05'", i%28+1)
	}
	return quoted(words(c, i, random))
}

// insert returns the statement for a row, with the columns that the style does not leave out.
func (d database) insert(t table, s style, i int) string {
	var names, values []string
	for _, c := range t.columns {
		if s.leaves(c, t.inKey(c.Name)) {
			continue
		}
		names, values = append(names, d.quote(c.Name)), append(values, s.literal(d.engine, c, i))
	}
	if names == nil && d.engine == "mariadb" {
		return "INSERT INTO " + t.sql + " () VALUES ()"
	} else if names == nil {
		return "INSERT INTO " + t.sql + " DEFAULT VALUES"
	}
	return "INSERT INTO " + t.sql + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"
}

// insertPlain returns the statement of an application that names no columns.
func (d database) insertPlain(t table, s style, i int) string {
	var values []string
	for _, c := range t.columns {
		switch {
		case c.Hidden:
		case c.Computed, d.engine != "sqlite" && s.leaves(c, t.inKey(c.Name)):
			values = append(values, "DEFAULT")
		default:
			values = append(values, s.literal(d.engine, c, i))
		}
	}
	return "INSERT INTO " + t.sql + " VALUES (" + strings.Join(values, ", ") + ")"
}
