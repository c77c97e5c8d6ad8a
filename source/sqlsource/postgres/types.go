package postgres

import (
	"context"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// types are those by the names of format_type, and by the drivers' names.
var types = map[string]row.Type{
	"boolean": {Class: row.Boolean}, "bool": {Class: row.Boolean},
	"smallint": {Class: row.Integer, Bits: 16}, "int2": {Class: row.Integer, Bits: 16},
	"integer": {Class: row.Integer, Bits: 32}, "int4": {Class: row.Integer, Bits: 32},
	"bigint": {Class: row.Integer, Bits: 64}, "int8": {Class: row.Integer, Bits: 64},
	"oid": {Class: row.Unsigned, Bits: 32}, "xid": {Class: row.Unsigned, Bits: 32}, "cid": {Class: row.Unsigned, Bits: 32}, "xid8": {Class: row.Unsigned, Bits: 64},
	"numeric": {Class: row.Decimal},
	"real":    {Class: row.Float, Bits: 32}, "float4": {Class: row.Float, Bits: 32},
	"double precision": {Class: row.Float, Bits: 64}, "float8": {Class: row.Float, Bits: 64},
	"text": {Class: row.String}, "character varying": {Class: row.String}, "varchar": {Class: row.String}, "character": {Class: row.String}, "bpchar": {Class: row.String},
	"name": {Class: row.String}, `"char"`: {Class: row.String}, "char": {Class: row.String}, "xml": {Class: row.String},
	"bytea":                  {Class: row.Binary},
	"date":                   {Class: row.CalendarDate},
	"time without time zone": {Class: row.TimeOfDay}, "time": {Class: row.TimeOfDay},
	"time with time zone": {Class: row.TimeOfDayTZ}, "timetz": {Class: row.TimeOfDayTZ}, "1266": {Class: row.TimeOfDayTZ},
	"timestamp without time zone": {Class: row.DateTime}, "timestamp": {Class: row.DateTime},
	"timestamp with time zone": {Class: row.Instant}, "timestamptz": {Class: row.Instant},
	"interval": {Class: row.Interval},
	"json":     {Class: row.Document}, "jsonb": {Class: row.Document},
	"uuid": {Class: row.UUID},
}

// Types implements [dialect.Reader]. It returns all of the table's columns, the system's too. If
// no column is called f, Postgres takes t.f for a function such as row_to_json(t). The type of a
// domain is that of its base, and a value of an enum is text.
func (d Dialect) Types(ctx context.Context, db ceiling.Queryer, table, named []string) (map[string]row.Type, error) {
	parse := func(name string) row.Type {
		name, base, _ := strings.Cut(name, "\n")
		t := parseType(base)
		t.Name = name
		return t
	}
	all, err := dialect.ReadTypes(ctx, db, parse,
		`WITH RECURSIVE base(attnum, type, mod) AS (
			SELECT attnum, atttypid, atttypmod FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass($1::text) AND NOT attisdropped
			UNION SELECT b.attnum, t.typbasetype, t.typtypmod FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype = 'd'
		)
		SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) || E'\n' || CASE t.typtype WHEN 'e' THEN 'text' ELSE format_type(b.type, b.mod) END, a.attnotnull
		FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
		WHERE a.attrelid = to_regclass($1::text) AND NOT a.attisdropped AND `+plainly,
		dialect.QuoteAll(d, table))
	for _, name := range named {
		if _, ok := all[name]; !ok && len(all) > 0 && err == nil {
			err = dialect.Permanent("the table has no column %q", name)
		}
	}
	return all, err
}

// Type implements [dialect.Reader].
func (Dialect) Type(c dialect.Column) row.Type {
	if t := parseType(strings.ToLower(c.Type)); t.Class == row.Array {
		t.NotNull = c.NotNull
		return t
	}
	return dialect.DriverType(c, types)
}

// parseType knows arrays by the end of format_type's name, or by the begin of the drivers'.
func parseType(name string) row.Type {
	t := dialect.ParseType(name, types)
	if strings.HasSuffix(name, "[]") || strings.HasPrefix(name, "_") {
		t.Class = row.Array
	}
	if strings.HasPrefix(name, "interval ") { // with fields, such as interval day to second
		t.Class = row.Interval
	}
	return t
}
