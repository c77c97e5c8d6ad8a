package sqlite

import (
	"context"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// types are those of a STRICT table, and of INTEGER PRIMARY KEY. Any other column may hold values
// of all types, whatever its declared type says.
var types = map[string]row.Type{
	"int": {Class: row.Integer, Bits: 64}, "integer": {Class: row.Integer, Bits: 64}, "real": {Class: row.Float, Bits: 64},
	"text": {Class: row.String}, "blob": {Class: row.Binary},
}

// loose marks the name of a type that values need not have.
const loose = "\n"

// Types implements [dialect.Reader]. INTEGER PRIMARY KEY is the row's number, which is never NULL.
// Other primary keys of SQLite may be.
func (Dialect) Types(ctx context.Context, db ceiling.Queryer, table, _ []string) (map[string]row.Type, error) {
	schema, name := any(nil), table[len(table)-1]
	if len(table) == 2 {
		schema = table[0]
	}
	parse := func(name string) row.Type {
		if declared, ok := strings.CutSuffix(name, loose); ok {
			return row.Type{Name: declared}
		}
		return dialect.ParseType(name, types)
	}
	return dialect.ReadTypes(ctx, db, parse, `SELECT name, type || CASE WHEN strict OR number THEN '' ELSE '`+loose+`' END, "notnull" OR number
		FROM (SELECT c.name, c.type, c."notnull", coalesce(l.strict, 0) AS strict, c.pk = 1 AND upper(c.type) = 'INTEGER'
				AND (SELECT count(*) FROM pragma_table_info(?, ?) WHERE pk > 0) = 1 AS number
			FROM pragma_table_xinfo(?, ?) AS c LEFT JOIN (SELECT strict FROM pragma_table_list(?) WHERE ? IS NULL OR schema = ? COLLATE NOCASE LIMIT 1) AS l)`,
		name, schema, name, schema, name, schema, schema)
}

// Type implements [dialect.Reader]: a declared type does not say what the values are.
func (Dialect) Type(c dialect.Column) row.Type { return row.Type{Name: c.Type, NotNull: c.NotNull} }
