package sqlsink

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

var (
	toPostgres = postgresEngine{}.traits()
	toMySQL    = mysqlEngine{}.traits()
	toSQLite   = sqliteEngine{}.traits()
)

// What a value of a class is written as, and which values do not fit. A why of "" is a success.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		traits traits
		into   row.Type
		value  any
		want   string
		why    string
	}{
		{toPostgres, row.Type{Class: row.Boolean}, true, "true", ""},
		{toPostgres, row.Type{Class: row.Boolean}, int64(0), "false", ""},
		{toPostgres, row.Type{Class: row.Boolean}, int64(2), "", "not true or false"},
		{toMySQL, row.Type{Class: row.Integer, Bits: 8}, true, "1", ""},
		{toMySQL, row.Type{Class: row.Integer, Bits: 8}, int64(-128), "-128", ""},
		{toMySQL, row.Type{Class: row.Integer, Bits: 8}, int64(128), "", "out of range"},
		{toMySQL, row.Type{Class: row.Unsigned, Bits: 64}, uint64(1<<64 - 1), "18446744073709551615", ""},
		{toMySQL, row.Type{Class: row.Unsigned, Bits: 8}, int64(-1), "", "unsigned"},
		{toMySQL, row.Type{Class: row.Integer, Bits: 64}, "1) OR (1", "", "not an integer"},
		{toMySQL, row.Type{Class: row.Decimal, Precision: 4, Scale: 2}, "1.230", "1.230", ""},
		{toMySQL, row.Type{Class: row.Decimal, Precision: 4, Scale: 2}, "1.234", "", "after the point"},
		{toMySQL, row.Type{Class: row.Decimal}, "1e5", "", "not a decimal"},
		{toMySQL, row.Type{Class: row.Decimal}, "1;x", "", "not a decimal"},
		{toMySQL, row.Type{Class: row.Float, Bits: 64}, "0x1p-2", "", "not a number"},
		{toMySQL, row.Type{Class: row.Float, Bits: 64}, "NaN", "", "not a finite"},
		{toPostgres, row.Type{Class: row.Float, Bits: 64}, "NaN", "NaN", ""},
		{toPostgres, row.Type{Class: row.Float, Bits: 32}, "0.1", "0.1", ""},
		{toPostgres, row.Type{Class: row.Float, Bits: 32}, "0.12345678901", "", "more digits"},
		{toMySQL, row.Type{Class: row.Float, Bits: 32}, "0.1", "0.10000000149011612", ""},
		{toPostgres, row.Type{Class: row.String}, "a\x00", "", "NUL"},
		{toMySQL, row.Type{Class: row.String}, "a\x00", "a\x00", ""},
		{toMySQL, row.Type{Class: row.String}, "\xff", "", "UTF-8"},
		{toMySQL, row.Type{Name: "varchar(3)", Class: row.String, Length: 3}, "ab  ", "", "too long"},
		{toMySQL, row.Type{Name: "char(3)", Class: row.String, Length: 3}, "ab  ", "ab  ", ""},
		{toMySQL, row.Type{Name: "varchar(3)", Class: row.String, Length: 3}, "é😀a", "é😀a", ""},
		{toMySQL, row.Type{Class: row.String}, []byte("a"), "", "binary"},
		{toMySQL, row.Type{Class: row.Binary, Length: 2}, []byte{0, 1}, "AAE=", ""},
		{toMySQL, row.Type{Class: row.Binary, Length: 2}, []byte{0, 1, 2}, "", "too long"},
		{toMySQL, row.Type{Class: row.Binary}, "text", "", "it is text"},
		{toMySQL, row.Type{Class: row.DateTime}, "2026-01-31T23:59:59.1234Z", "2026-01-31T23:59:59.1234", ""},
		{toMySQL, row.Type{Class: row.DateTime}, "2026-01-31T23:59:59+02:00", "2026-01-31T21:59:59", ""},
		{toMySQL, row.Type{Class: row.DateTime}, "0044-03-15T12:00:00 BC", "", "year"},
		{toMySQL, row.Type{Class: row.DateTime}, "infinity", "", "infinite"},
		{toPostgres, row.Type{Class: row.DateTime}, "2026-01-31T23:59:59Z", "", "time zone"},
		{toPostgres, row.Type{Class: row.Instant}, "2026-01-31T23:59:59", "", "no time zone"},
		{toPostgres, row.Type{Class: row.Instant}, "294276-12-31T23:59:59Z", "294276-12-31T23:59:59Z", ""},
		{toPostgres, row.Type{Class: row.CalendarDate}, "31.1.2026", "", "not in the form"},
		{toPostgres, row.Type{Class: row.Integer, Bits: 8, NotNull: true}, nil, "", "NOT NULL"},
		{toPostgres, row.Type{Class: row.Integer, Bits: 8}, row.Unchanged{}, "", "not known"},
	} {
		r, err := row.Of(row.NewColumns([]string{"c"}, nil), c.value)
		require.NoError(t, err)
		f := field{column: &column{typ: c.into, fraction: -1}, traits: c.traits}
		v, why := f.value(r)
		if c.why != "" {
			assert.Contains(t, why, c.why, "%v into %v", c.value, c.into)
			continue
		}
		assert.Empty(t, why, "%v into %v", c.value, c.into)
		assert.Equal(t, c.want, v.text, "%v into %v", c.value, c.into)
	}
}

// SQLite converts by the column's affinity. A value that it would change is refused.
func TestAffinities(t *testing.T) {
	t.Parallel()
	decimal := row.Type{Class: row.Decimal}
	for _, c := range []struct {
		declared string
		from     row.Type
		kind     row.Kind
		value    any
		want     any
		why      string
	}{
		{"INTEGER", row.Type{}, row.Auto, int64(7), int64(7), ""},
		{"INTEGER", row.Type{}, row.Auto, true, int64(1), ""},
		{"TEXT", row.Type{}, row.Auto, true, "true", ""},
		{"INTEGER", row.Type{}, row.Auto, "007", nil, "convert"},
		{"DATE", row.Type{}, row.Auto, "2026-01-31", "2026-01-31", ""},
		{"BLOB", row.Type{}, row.Auto, []byte{0xff}, []byte{0xff}, ""},
		{"REAL", row.Type{Class: row.Float, Bits: 64}, row.Number, "5", 5.0, ""},
		{"REAL", row.Type{}, row.Auto, int64(1<<60 + 1), nil, "more digits"},
		{"DECIMAL(10,2)", decimal, row.Number, "1.50", "1.50", ""},
		{"DECIMAL(30,20)", decimal, row.Number, "0.12345678901234567890", nil, "more digits"},
		{"TEXT", decimal, row.Number, "0.12345678901234567890", "0.12345678901234567890", ""},
		{"INTEGER", row.Type{}, row.Number, "18446744073709551615", nil, "more digits"},
		{"", row.Type{}, row.Auto, math.Copysign(0, -1), math.Copysign(0, -1), ""},
		{"INTEGER", row.Type{}, row.Auto, math.Copysign(0, -1), nil, "sign"},
		{"NUMERIC", row.Type{Class: row.Float, Bits: 64}, row.Auto, math.Copysign(0, -1), nil, "sign"},
	} {
		r, err := row.Of(row.NewColumns([]string{"c"}, []row.Kind{c.kind}), c.value)
		require.NoError(t, err)
		f := field{column: &column{affinity: affinityOf(c.declared)}, from: c.from, kind: c.kind, traits: toSQLite}
		v, why := f.value(r)
		if c.why != "" {
			assert.Contains(t, why, c.why, "%v into %v", c.value, c.declared)
			continue
		}
		assert.Empty(t, why, "%v into %v", c.value, c.declared)
		got, err := v.argument(c.from.Class == row.Float)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, "%v into %v", c.value, c.declared)
	}
}
