package sqlsource

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// sqliteOracle returns the storage class and the bytes or digits of a value.
const sqliteOracle = `CASE typeof({})
	WHEN 'integer' THEN 'i' || {}
	WHEN 'real' THEN 'r' || printf('%!.17g', {})
	WHEN 'text' THEN 't' || hex(CAST({} AS BLOB))
	WHEN 'blob' THEN 'b' || hex({}) END`

func sameSQLite(want, got string) bool {
	class, value := want[0], want[1:]
	switch class {
	case 'i':
		return value == got
	case 'r':
		w, err1 := strconv.ParseFloat(value, 64)
		g, err2 := strconv.ParseFloat(got, 64)
		return err1 == nil && err2 == nil && w == g // printf prints -0 as 0
	case 't':
		return sameHex(value, got)
	}
	b, err := base64.StdEncoding.DecodeString(got)
	return err == nil && sameHex(value, string(b))
}

// TestSQLiteTypes stores every storage class in columns of every affinity, and of the
// declared types whose values the drivers convert, and reads them with each driver.
func TestSQLiteTypes(t *testing.T) {
	t.Parallel()
	values := []string{
		"0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9007199254740993", "20260101", "1767225600", "1767225600123",
		"0.1", "1.5", "1e300", "5e-324", "-0.0", "9e999", "-9e999", "123456789012345678901234567890", "9007199254740993.0", "2461041.5",
		"''", "' '", "'text é 😀'", "'two\r\nlines \"quoted\", it''s \u2028'", "'2026-01-31'", "'2026-01-31 12:00:00'", "'2026-01-31 12:00:00.123456789'",
		"'2026-01-31T12:00:00+05:30'", "'2026-02-30'", "'12:34'", "'20260101'", "'true'", "'NaN'", "'Infinity'", "'null'", "'007'", "'1.10'", "'1e5'", "'0x10'",
		"'9223372036854775808'", "'{ \"a\" : 1 }'", "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
		"CAST(x'636166e9' AS TEXT)", "CAST(x'610062' AS TEXT)", "CAST(x'" + hex(everyByte(1, 0x80)) + "' AS TEXT)",
		"x''", "x'00'", "x'" + hex(everyByte(0, 0x100)) + "'", "x'32303236'", "zeroblob(100000)",
	}
	var columns []column
	for _, ddl := range []string{"", "INTEGER", "INT", "BIGINT", "UNSIGNED BIG INT", "TINYINT(1)", "REAL", "DOUBLE", "FLOAT", "TEXT", "VARCHAR(3)", "CHAR(3)", "CLOB",
		"BLOB", "NUMERIC", "DECIMAL(10,5)", "DATE", "DATETIME", "TIMESTAMP", "TIMESTAMPTZ", "TIME", "BOOLEAN", "BOOL", "JSON", "JSONB", "UUID", "ANY"} {
		columns = append(columns, column{ddl: ddl, oracle: sqliteOracle, same: sameSQLite, json: byClass, values: values})
	}
	types := newTypesTable(columns)
	for _, driver := range dbtest.SQLite(t).Drivers() {
		for _, options := range []string{"", "STRICT"} {
			t.Run(strings.TrimSpace(string(driver)+" "+options), func(t *testing.T) {
				db := dbtest.SQLite(t).Open(t, driver)
				types := types
				if options == "STRICT" {
					types = strictTable(columns[0])
				}
				types.create(t, db, options)
				types.check(t, db, types.want(t, db))
			})
		}
	}
}

// strictTable has the types of a STRICT table, each with values that it accepts.
func strictTable(anything column) typesTable {
	of := func(ddl string, values ...string) column {
		return column{ddl: ddl, oracle: sqliteOracle, same: sameSQLite, json: byClass, values: values}
	}
	any := of("ANY", anything.values...)
	return newTypesTable([]column{
		of("INT", "-9223372036854775808", "9223372036854775807"),
		of("INTEGER", "-9223372036854775808", "9223372036854775807"),
		of("REAL", "1", "0.1", "9e999"),
		of("TEXT", "''", "'text'", "'2026-01-31'"),
		of("BLOB", "x''", "x'00ff'"),
		any,
	})
}
