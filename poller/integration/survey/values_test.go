package survey

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
)

// wrong lists the columns of a row whose values are not those of any row in the table, as the server
// compares them: each delivered text is cast to the column's type.
func (d database) wrong(t table, r row.Row) []string {
	conditions := d.conditions(t, r)
	found := func(where string) bool {
		var n int
		err := d.Get(&n, "SELECT count(*) FROM "+t.sql+" WHERE "+where)
		return err == nil && n > 0
	}
	if found(strings.Join(conditions, " AND ")) {
		return nil
	}
	var list []string
	first := r.Len() - len(conditions)
	for i, c := range conditions {
		if i += first; !found(c) {
			list = append(list, fmt.Sprintf("%s.%s %s: %.60q", t.Label(), r.Columns().Name(i), t.column(r.Columns().Name(i)).Full, r.Text(i)))
		}
	}
	if list == nil {
		list = append(list, t.Label()+": the values are those of several rows")
	}
	return list
}

func (d database) conditions(t table, r row.Row) (list []string) {
	for i := range r.Len() {
		if t.Key == nil && r.Columns().Name(i) == t.Place {
			continue
		}
		list = append(list, d.equals(t.column(r.Columns().Name(i)), r, i))
	}
	return list
}

// holds reports whether the table has the row, and it meets a condition.
func (d database) holds(t table, r row.Row, where string) bool {
	var n int
	err := d.Get(&n, "SELECT count(*) FROM "+t.sql+" WHERE "+where+" AND "+strings.Join(d.conditions(t, r), " AND "))
	return err == nil && n > 0
}

// equals returns the condition that a column has the value of a row.
func (d database) equals(c column, r row.Row, i int) string {
	name := d.quote(r.Columns().Name(i))
	if r.IsNull(i) {
		return name + " IS NULL"
	}
	text := r.Text(i)
	switch d.engine {
	case "sqlite":
		return fmt.Sprintf("(CASE typeof(%[1]s) WHEN 'blob' THEN hex(%[1]s) = '%[2]s' WHEN 'text' THEN CAST(%[1]s AS BLOB) = X'%[3]x' ELSE %[1]s = 0 + %[4]s END)",
			name, decoded(text), text, quoted(text))
	case "mariadb":
		return equalsMariaDB(name, c, text)
	}
	literal := quoted(text)
	switch {
	case r.Columns().Kind(i) == row.Bytes:
		literal = `'\x` + strings.ToLower(decoded(text)) + "'"
	case (c.Base == "json" || c.Base == "jsonb") && !c.Array:
		return fmt.Sprintf("%s::jsonb = %s::jsonb", name, literal)
	}
	return fmt.Sprintf("%s::text = (%s::%s)::text", name, literal, c.Full)
}

func equalsMariaDB(name string, c column, text string) string {
	switch c.Base {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "double", "year":
		return name + " = " + text
	case "float":
		return fmt.Sprintf("ABS(%s - %s) <= 0.00001 * ABS(%[2]s)", name, text)
	case "bit":
		return name + " + 0 = " + text
	case "date", "datetime", "timestamp", "time", "inet4", "inet6", "uuid":
		return name + " = " + quoted(strings.TrimSuffix(strings.Replace(text, "T", " ", 1), "Z"))
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "geometry", "point":
		return "HEX(" + name + ") = '" + decoded(text) + "'"
	}
	return fmt.Sprintf("CAST(CONVERT(%s USING utf8mb4) AS BINARY) = X'%x'", name, text)
}

// decoded returns bytes in base64 in hexadecimal, "" for another text.
func decoded(text string) string {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return strings.ToUpper(hex.EncodeToString(b))
}
