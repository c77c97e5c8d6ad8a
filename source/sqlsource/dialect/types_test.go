package dialect_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// Without a catalogue the driver's words are used, and nothing is guessed.
func TestTypesThatTheDriverSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect dialect.Dialect
		column  dialect.Column
		want    row.Type
	}{
		{postgres.Dialect{}, dialect.Column{Type: "INT8", NotNull: true}, row.Type{Name: "int8", Class: row.Integer, Bits: 64, NotNull: true}},
		{postgres.Dialect{}, dialect.Column{Type: "NUMERIC", Precision: 12, Scale: 2}, row.Type{Name: "numeric(12,2)", Class: row.Decimal, Precision: 12, Scale: 2}},
		{postgres.Dialect{}, dialect.Column{Type: "NUMERIC", Precision: 1<<63 - 1, Scale: 1<<63 - 1}, row.Type{Name: "numeric", Class: row.Decimal}},
		{postgres.Dialect{}, dialect.Column{Type: "TEXT", Length: 1<<63 - 1}, row.Type{Name: "text", Class: row.String}},
		{postgres.Dialect{}, dialect.Column{Type: "VARCHAR", Length: 10}, row.Type{Name: "varchar(10)", Class: row.String, Length: 10}},
		{postgres.Dialect{}, dialect.Column{Type: "VARCHAR", Length: -5}, row.Type{Name: "varchar", Class: row.String}},
		{postgres.Dialect{}, dialect.Column{Type: "_INT4"}, row.Type{Name: "_int4", Class: row.Array}},
		{postgres.Dialect{}, dialect.Column{Type: "16385"}, row.Type{Name: "16385"}},
		{postgres.Dialect{}, dialect.Column{}, row.Type{}},
		{mysql.Dialect{}, dialect.Column{Type: "UNSIGNED BIGINT"}, row.Type{Name: "bigint unsigned", Class: row.Unsigned, Bits: 64}},
		{mysql.Dialect{}, dialect.Column{Type: "DECIMAL", Precision: 10, Scale: 5}, row.Type{Name: "decimal(10,5)", Class: row.Decimal, Precision: 10, Scale: 5}},
		{mysql.Dialect{}, dialect.Column{Type: "DATETIME", Precision: 6}, row.Type{Name: "datetime", Class: row.DateTime}},
		{mysql.Dialect{}, dialect.Column{Type: "BLOB"}, row.Type{Name: "blob", Class: row.Binary}},
		{sqlite.Dialect{}, dialect.Column{Type: "INTEGER"}, row.Type{Name: "INTEGER"}},
	} {
		assert.Equal(t, c.want, c.dialect.Type(c.column), "%+v", c.column)
	}
}
