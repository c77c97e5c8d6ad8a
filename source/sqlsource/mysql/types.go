package mysql

import (
	"context"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// types are those by the names of information_schema. Whether a TINYINT(1) is a boolean is not
// known, nor whether a LONGTEXT of MariaDB is JSON.
var types = map[string]row.Type{
	"tinyint": {Class: row.Integer, Bits: 8}, "tinyint unsigned": {Class: row.Unsigned, Bits: 8},
	"smallint": {Class: row.Integer, Bits: 16}, "smallint unsigned": {Class: row.Unsigned, Bits: 16},
	"mediumint": {Class: row.Integer, Bits: 24}, "mediumint unsigned": {Class: row.Unsigned, Bits: 24},
	"int": {Class: row.Integer, Bits: 32}, "int unsigned": {Class: row.Unsigned, Bits: 32},
	"bigint": {Class: row.Integer, Bits: 64}, "bigint unsigned": {Class: row.Unsigned, Bits: 64},
	"year": {Class: row.Unsigned, Bits: 16}, "bit": {Class: row.Unsigned, Bits: 64},
	"decimal": {Class: row.Decimal}, "decimal unsigned": {Class: row.Decimal},
	"float": {Class: row.Float, Bits: 32}, "float unsigned": {Class: row.Float, Bits: 32},
	"double": {Class: row.Float, Bits: 64}, "double unsigned": {Class: row.Float, Bits: 64},
	"char": {Class: row.String}, "varchar": {Class: row.String}, "enum": {Class: row.String}, "set": {Class: row.String},
	"tinytext": {Class: row.String}, "text": {Class: row.String}, "mediumtext": {Class: row.String}, "longtext": {Class: row.String},
	"binary": {Class: row.Binary}, "varbinary": {Class: row.Binary},
	"tinyblob": {Class: row.Binary}, "blob": {Class: row.Binary}, "mediumblob": {Class: row.Binary}, "longblob": {Class: row.Binary},
	"geometry": {Class: row.Binary}, "point": {Class: row.Binary}, "linestring": {Class: row.Binary}, "polygon": {Class: row.Binary}, "vector": {Class: row.Binary},
	"date": {Class: row.CalendarDate}, "time": {Class: row.TimeOfDay}, "datetime": {Class: row.DateTime}, "timestamp": {Class: row.DateTime},
	"json": {Class: row.Document}, "uuid": {Class: row.UUID},
}

// Types implements [dialect.Reader].
func (Dialect) Types(ctx context.Context, db ceiling.Queryer, table, _ []string) (map[string]row.Type, error) {
	return dialect.ReadTypes(ctx, db, parseType,
		`SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE = 'NO' FROM information_schema.COLUMNS WHERE `+isTable(table))
}

func parseType(name string) row.Type {
	base := strings.TrimSuffix(strings.ToLower(name), " zerofill")
	if word, _, _ := strings.Cut(base, "("); word == "enum" || word == "set" {
		base = word
	}
	t := dialect.ParseType(base, types)
	t.Name = name
	return t
}

// Type implements [dialect.Reader]. The driver says BLOB and TEXT of all sizes, and UNSIGNED
// in front of a name.
func (Dialect) Type(c dialect.Column) row.Type {
	if name, ok := strings.CutPrefix(c.Type, "UNSIGNED "); ok {
		c.Type = name + " UNSIGNED"
	}
	return dialect.DriverType(c, types)
}
