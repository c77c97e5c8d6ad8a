package typed

import (
	"slices"
	"strings"
)

// mariaDB has all types of MariaDB.
func mariaDB() []Column {
	return slices.Concat(numbers(), stringTypes(), others())
}

func numbers() []Column {
	return []Column{
		{"tinyint", []string{"-128", "127"}},
		{"tinyint(1)", []string{"0", "1", "127"}},
		{"tinyint unsigned", []string{"255"}},
		{"smallint", []string{"-32768", "32767"}},
		{"smallint unsigned", []string{"65535"}},
		{"mediumint", []string{"-8388608", "8388607"}},
		{"mediumint unsigned", []string{"16777215"}},
		{"int", []string{"-2147483648", "2147483647"}},
		{"int unsigned", []string{"4294967295"}},
		{"int(8) zerofill", []string{"0", "42"}},
		{"bigint", []string{"-9223372036854775808", "9223372036854775807", "9007199254740993"}},
		{"bigint unsigned", []string{"0", "18446744073709551615", "9223372036854775808", "18446744073709551615", "9223372036854775807"}},
		{"decimal(65,30)", []string{strings.Repeat("9", 35) + "." + strings.Repeat("9", 30), "-0.000000000000000000000000000001", "0", "1.5"}},
		{"decimal(65,0)", []string{"-" + strings.Repeat("9", 65)}},
		{"decimal(10,2) zerofill", []string{"0", "12.50"}},
		{"float", []string{"0.1", "3.4028234e38", "1.17549435e-38", "16777216", "1e20", "-0e0", "1e-45"}},
		{"double", []string{"0.1", "1.7976931348623157e308", "2.2250738585072014e-308", "9007199254740992", "0.30000000000000004", "1e21", "-0e0"}},
		{"bit(1)", []string{"b'0'", "b'1'"}},
		{"bit(5)", []string{"b'10110'"}},
		{"bit(64)", []string{"b'" + strings.Repeat("1", 64) + "'", "b'0'", "b'1" + strings.Repeat("0", 63) + "'"}},
		{"boolean", []string{"true", "false"}},
	}
}

func stringTypes() []Column {
	texts := []string{"''", "' '", "_utf8mb4 x'" + hex(everyByte(0, 0x80)) + "'", `'say "hi", it''s\r\ntwo\nlines\ttab \\ end'`,
		"'emoji 😀 sep \u2028\u2029 rev \uFFFD bom \uFEFF'", "'null'", "'NULL'", `'\\.'`, "'007'", `'{"a": 1}'`}
	all := "x'" + hex(everyByte(0, 0x100)) + "'"
	return []Column{
		{"char(10)", []string{"''", "'ab  '", "'é😀'"}},
		{"varchar(200)", texts},
		{"varchar(200) character set latin1", []string{"'café €'"}},
		{"varchar(200) character set utf16", []string{"'café 😀'"}},
		{"varchar(200) collate utf8mb4_bin", texts},
		{"tinytext", texts},
		{"text", texts},
		{"mediumtext", texts},
		{"longtext", append(texts, "REPEAT('long é ', 100000)")},
		{"text collate utf8mb4_bin", texts},
		{`enum('so "so"','happy','')`, []string{`'so "so"'`, "'happy'", "''", "0"}},
		{"set('a','b','c')", []string{"''", "'a,c'", "'a,b,c'"}},
		{"binary(4)", []string{"''", "x'00ff'", "x'5c220a2c'"}},
		{"varbinary(300)", []string{"''", all}},
		{"tinyblob", []string{"''", "x'00'"}},
		{"blob", []string{"''", all}},
		{"mediumblob", []string{all}},
		{"longblob", []string{all, "REPEAT(" + all + ", 1000)"}},
	}
}

// others has documents, times, addresses and geometry.
func others() []Column {
	times := []string{"'2026-01-31 23:59:59.123456'", "'2026-01-31 23:59:59.1'", "'2026-01-31 00:00:00'",
		"'1970-01-01 00:00:01'", "'2026-03-29 02:30:00'", "'2026-10-25 02:30:00'", "'2038-01-19 03:14:07.999999'", "'0000-00-00 00:00:00'"}
	beyond := append(times, "'1000-01-01 00:00:00'", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2026-00-00 00:00:00'", "'2026-02-30 12:00:00'")
	return []Column{
		{"json", []string{"'{ \"b\" : 1,\n\t\"a\":[1 , 2],\"b\":2 }'", "'123456789012345678901234567890.10'", "'null'"}},
		{"date", []string{"'2026-01-31'", "'1000-01-01'", "'9999-12-31'", "'0000-00-00'", "'2026-00-00'", "'0001-01-01'", "'2026-02-30'"}},
		{"datetime", beyond},
		{"datetime(3)", beyond[:6]},
		{"datetime(6)", beyond},
		{"timestamp", times},
		{"timestamp(6)", times},
		{"time", []string{"'-838:59:59'", "'838:59:59'", "'00:00:00'", "'24:00:00'", "'12:34:56'"}},
		{"time(6)", []string{"'-838:59:59.999999'", "'00:00:00'", "'12:34:56.5'", "'-00:00:00.000001'"}},
		{"year", []string{"1901", "2155", "0", "2026"}},
		{"uuid", []string{"'123e4567-e89b-12d3-a456-426655440000'"}},
		{"inet6", []string{"'2001:db8::1'", "'::ffff:1.2.3.4'"}},
		{"inet4", []string{"'192.168.0.1'"}},
		{"point", []string{"ST_PointFromText('POINT(1.5 -2)')"}},
		{"geometry", []string{"ST_GeomFromText('LINESTRING(0 0,1 1)', 4326)"}},
	}
}
