package sqlsource

import (
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// Expressions that return the expected text of a MariaDB type. {} stands for the column.
const (
	myText   = `CAST({} AS CHAR)`
	myNumber = `CAST({} + 0 AS CHAR)` // for numbers with ZEROFILL, and for BIT
	myDouble = `CAST(CAST({} AS DOUBLE) AS CHAR)`
	myHex    = `HEX(CONVERT({} USING utf8mb4))`
	myBase64 = `REPLACE(TO_BASE64({}), '\n', '')`
	// Removes the trailing zeros of a fraction.
	myTime  = `IF({} IS NULL OR LOCATE('.', {}) = 0, CAST({} AS CHAR), TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST({} AS CHAR))))`
	myClock = `REPLACE(` + myTime + `, ' ', 'T')`
)

// sameHex compares bytes that the database returns in hexadecimal, so that no character set
// affects them.
func sameHex(want, got string) bool { return want == strings.ToUpper(hex(got)) }

func hex(s string) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = append(b, digits[s[i]>>4], digits[s[i]&15])
	}
	return string(b)
}

func mariadbColumns() []column {
	times := []string{"'2026-01-31 23:59:59.123456'", "'2026-01-31 23:59:59.1'", "'2026-01-31 00:00:00'",
		"'1970-01-01 00:00:01'", "'2026-03-29 02:30:00'", "'2026-10-25 02:30:00'", "'2038-01-19 03:14:07.999999'", "'0000-00-00 00:00:00'"}
	beyond := append(times, "'1000-01-01 00:00:00'", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2026-00-00 00:00:00'", "'2026-02-30 12:00:00'")
	texts := []string{"''", "' '", "_utf8mb4 x'" + hex(everyByte(0, 0x80)) + "'", `'say "hi", it''s\r\ntwo\nlines\ttab \\ end'`,
		"'emoji 😀 sep \u2028\u2029 rev \uFFFD bom \uFEFF'", "'null'", "'NULL'", `'\\.'`, "'007'", `'{"a": 1}'`}
	all := "x'" + hex(everyByte(0, 0x100)) + "'"
	return []column{
		{ddl: "tinyint", oracle: myText, json: bare, values: []string{"-128", "127"}},
		{ddl: "tinyint(1)", oracle: myText, json: bare, values: []string{"0", "1", "127"}},
		{ddl: "tinyint unsigned", oracle: myText, json: bare, values: []string{"255"}},
		{ddl: "smallint", oracle: myText, json: bare, values: []string{"-32768", "32767"}},
		{ddl: "smallint unsigned", oracle: myText, json: bare, values: []string{"65535"}},
		{ddl: "mediumint", oracle: myText, json: bare, values: []string{"-8388608", "8388607"}},
		{ddl: "mediumint unsigned", oracle: myText, json: bare, values: []string{"16777215"}},
		{ddl: "int", oracle: myText, json: bare, values: []string{"-2147483648", "2147483647"}},
		{ddl: "int unsigned", oracle: myText, json: bare, values: []string{"4294967295"}},
		{ddl: "int(8) zerofill", oracle: myNumber, json: bare, values: []string{"0", "42"}},
		{ddl: "bigint", oracle: myText, json: bare, values: []string{"-9223372036854775808", "9223372036854775807", "9007199254740993"}},
		{ddl: "bigint unsigned", oracle: myText, json: bare, values: []string{"0", "18446744073709551615", "9223372036854775808", "18446744073709551615", "9223372036854775807"}},
		{ddl: "decimal(65,30)", oracle: myText, json: bare, values: []string{strings.Repeat("9", 35) + "." + strings.Repeat("9", 30), "-0.000000000000000000000000000001", "0", "1.5"}},
		{ddl: "decimal(65,0)", oracle: myText, json: bare, values: []string{"-" + strings.Repeat("9", 65)}},
		{ddl: "decimal(10,2) zerofill", oracle: myNumber, json: bare, values: []string{"0", "12.50"}},
		{ddl: "float", oracle: myDouble, json: float, same: sameFloat(32), values: []string{"0.1", "3.4028234e38", "1.17549435e-38", "16777216", "1e20", "-0e0", "1e-45"}},
		{ddl: "double", oracle: myText, json: float, same: sameFloat(64), values: []string{"0.1", "1.7976931348623157e308", "2.2250738585072014e-308", "9007199254740992", "0.30000000000000004", "1e21", "-0e0"}},
		{ddl: "bit(1)", oracle: myNumber, json: bare, values: []string{"b'0'", "b'1'"}},
		{ddl: "bit(5)", oracle: myNumber, json: bare, values: []string{"b'10110'"}},
		{ddl: "bit(64)", oracle: myNumber, json: bare, values: []string{"b'" + strings.Repeat("1", 64) + "'", "b'0'", "b'1" + strings.Repeat("0", 63) + "'"}},
		{ddl: "boolean", oracle: myText, json: bare, values: []string{"true", "false"}},
		{ddl: "char(10)", oracle: myHex, same: sameHex, json: inString, values: []string{"''", "'ab  '", "'é😀'"}},
		{ddl: "varchar(200)", oracle: myHex, same: sameHex, json: inString, values: texts},
		{ddl: "varchar(200) character set latin1", oracle: myHex, same: sameHex, json: inString, values: []string{"'café €'"}},
		{ddl: "varchar(200) character set utf16", oracle: myHex, same: sameHex, json: inString, values: []string{"'café 😀'"}},
		{ddl: "varchar(200) collate utf8mb4_bin", oracle: myHex, same: sameHex, json: inString, values: texts},
		{ddl: "tinytext", oracle: myHex, same: sameHex, json: inString, values: texts},
		{ddl: "text", oracle: myHex, same: sameHex, json: inString, values: texts},
		{ddl: "mediumtext", oracle: myHex, same: sameHex, json: inString, values: texts},
		{ddl: "longtext", oracle: myHex, same: sameHex, json: inString, values: append(texts, "REPEAT('long é ', 100000)")},
		{ddl: "text collate utf8mb4_bin", oracle: myHex, same: sameHex, json: inString, values: texts},
		{ddl: `enum('so "so"','happy','')`, oracle: myHex, same: sameHex, json: inString, values: []string{`'so "so"'`, "'happy'", "''", "0"}},
		{ddl: "set('a','b','c')", oracle: myHex, same: sameHex, json: inString, values: []string{"''", "'a,c'", "'a,b,c'"}},
		{ddl: "binary(4)", oracle: myBase64, json: inString, values: []string{"''", "x'00ff'", "x'5c220a2c'"}},
		{ddl: "varbinary(300)", oracle: myBase64, json: inString, values: []string{"''", all}},
		{ddl: "tinyblob", oracle: myBase64, json: inString, values: []string{"''", "x'00'"}},
		{ddl: "blob", oracle: myBase64, json: inString, values: []string{"''", all}},
		{ddl: "mediumblob", oracle: myBase64, json: inString, values: []string{all}},
		{ddl: "longblob", oracle: myBase64, json: inString, values: []string{all, "REPEAT(" + all + ", 1000)"}},
		{ddl: "json", oracle: myHex, same: sameHex, json: inString, values: []string{"'{ \"b\" : 1,\n\t\"a\":[1 , 2],\"b\":2 }'", "'123456789012345678901234567890.10'", "'null'"}},
		{ddl: "date", oracle: myText, json: inString, values: []string{"'2026-01-31'", "'1000-01-01'", "'9999-12-31'", "'0000-00-00'", "'2026-00-00'", "'0001-01-01'", "'2026-02-30'"}},
		{ddl: "datetime", oracle: myClock, json: inString, values: beyond},
		{ddl: "datetime(3)", oracle: myClock, json: inString, values: beyond[:6]},
		{ddl: "datetime(6)", oracle: myClock, json: inString, values: beyond},
		{ddl: "timestamp", oracle: myClock, json: inString, values: times},
		{ddl: "timestamp(6)", oracle: myClock, json: inString, values: times},
		{ddl: "time", oracle: myTime, json: inString, values: []string{"'-838:59:59'", "'838:59:59'", "'00:00:00'", "'24:00:00'", "'12:34:56'"}},
		{ddl: "time(6)", oracle: myTime, json: inString, values: []string{"'-838:59:59.999999'", "'00:00:00'", "'12:34:56.5'", "'-00:00:00.000001'"}},
		{ddl: "year", oracle: myNumber, json: bare, values: []string{"1901", "2155", "0", "2026"}},
		{ddl: "uuid", oracle: myText, json: inString, values: []string{"'123e4567-e89b-12d3-a456-426655440000'"}},
		{ddl: "inet6", oracle: myText, json: inString, values: []string{"'2001:db8::1'", "'::ffff:1.2.3.4'"}},
		{ddl: "inet4", oracle: myText, json: inString, values: []string{"'192.168.0.1'"}},
		{ddl: "point", oracle: myBase64, json: inString, values: []string{"ST_PointFromText('POINT(1.5 -2)')"}},
		{ddl: "geometry", oracle: myBase64, json: inString, values: []string{"ST_GeomFromText('LINESTRING(0 0,1 1)', 4326)"}},
	}
}

func everyByte(from, to int) string {
	var b strings.Builder
	for c := from; c < to; c++ {
		b.WriteByte(byte(c))
	}
	return b.String()
}

// TestMariaDBTypes reads extreme values of every type with different connection settings.
func TestMariaDBTypes(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	open := func(t *testing.T, options string) *sqlx.DB {
		db, err := sqlx.Open("mysql", d.DSN(dbtest.MySQLText)+"?"+options)
		require.NoError(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	types := newTypesTable(mariadbColumns())
	// This SQL mode allows zero dates and impossible dates.
	types.create(t, open(t, "charset=utf8mb4&sql_mode=%27ALLOW_INVALID_DATES%27"), "CHARACTER SET utf8mb4")

	want := types.want(t, open(t, "")) // in UTC
	for _, options := range []string{
		"",
		"parseTime=true",
		"parseTime=true&loc=Europe%2FBerlin",
		"parseTime=true&loc=America%2FNew_York&time_zone=%27-05%3A00%27",
		"parseTime=true&loc=Asia%2FKolkata&time_zone=%27%2B05%3A30%27",
		"interpolateParams=true",
		"interpolateParams=true&parseTime=true",
		"charset=utf8mb4,utf8&collation=utf8mb4_bin",
		"charset=utf8&sql_mode=%27PAD_CHAR_TO_FULL_LENGTH,ANSI%27",
		"charset=latin1&time_zone=%27-05%3A00%27",
		"charset=binary",
		"clientFoundRows=true&maxAllowedPacket=0",
	} {
		t.Run("options "+options, func(t *testing.T) {
			types.check(t, open(t, options), want)
		})
	}
}
