package typed

import (
	"slices"
	"strings"
)

// postgres has all types of Postgres.
func postgres() []Column { return slices.Concat(common(), rare()) }

// common has the types of most tables.
func common() []Column {
	digits := strings.Repeat("1234567890", 50)
	times := []string{"'2026-01-31 23:59:59.123456'", "'2026-01-31 23:59:59.1'", "'2026-01-31 00:00:00'", "'infinity'", "'-infinity'",
		"'4713-01-01 00:00:00 BC'", "'0044-03-15 12:00:00.000001 BC'", "'0001-01-01 00:00:00'", "'0001-12-31 23:59:59.999999 BC'",
		"'294276-12-31 23:59:59.999999'", "'10000-01-01 00:00:00'", "'1883-11-18 12:03:58'", "'2026-03-29 02:30:00'"}
	var zoned []string
	for _, t := range times {
		zoned = append(zoned, t+"::timestamp AT TIME ZONE 'UTC'")
	}
	zoned = append(zoned, "'2026-01-31 23:59:59.5+05:30'")
	return []Column{
		{"smallint", []string{"-32768", "32767", "0"}},
		{"integer", []string{"-2147483648", "2147483647"}},
		{"bigint", []string{"-9223372036854775808", "9223372036854775807", "9007199254740993"}},
		{"oid", []string{"0", "4294967295"}},
		{"xid", []string{"'3'", "'4294967295'"}},
		{"xid8", []string{"'3'", "'18446744073709551615'"}},
		{"numeric", []string{digits + "." + digits, "-0." + digits, "0", "1.10", "100", "'NaN'", "'Infinity'", "'-Infinity'", "1e-16383", "1e131071"}},
		{"numeric(20,5)", []string{"1", "-99999999999.99999", "'NaN'"}},
		{"real", []string{"0.1", "3.4028235e38", "1e-45", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "16777217", "1e20", "1e21", "1.17549435e-38"}},
		{"double precision", []string{"0.1", "1.7976931348623157e308", "5e-324", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "9007199254740993", "1e21", "0.30000000000000004"}},
		{"boolean", []string{"true", "false"}},
		{"text", []string{"''", "' '", everyASCII(), "E'say \"hi\", it''s\\r\\ntwo\\nlines\\ttab \\\\'", "U&'emoji \\+01F600 sep \\2028\\2029 rev \\FFFD bom \\FEFF'", "'null'", "'NULL'", "'\\.'", "repeat('long é ', 100000)", "'007'", "'true'", "'{\"a\": 1}'"}},
		{"varchar(10)", []string{"''", "'padded  '", "'é😀'"}},
		{"char(10)", []string{"''", "'ab'", "'é😀'"}},
		{`"char"`, []string{"'x'", "''"}},
		{"name", []string{"'a name'"}},
		{"bytea", []string{"''", "'\\x00'", "(SELECT string_agg(set_byte('\\x00', 0, g), '' ORDER BY g) FROM generate_series(0, 255) g)", "decode(repeat('0a5c22ff', 50000), 'hex')"}},
		{"uuid", []string{"'00000000-0000-0000-0000-000000000000'", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"}},
		{"json", []string{"'{ \"b\" : 1,\n\t\"a\":[1 , 2],\"b\":2 }'", "'123456789012345678901234567890.10'", "'1e400000'", "'\"a \\u2028 \\\" \\\\ \\u0000 b\"'", "'null'", "' [ ] '", "'{}'", "'\"\"'"}},
		{"jsonb", []string{"'{ \"b\" : 1,\n\t\"a\":[1 , 2],\"b\":2 }'", "'123456789012345678901234567890.10'", "'\"a \\u2028 \\\" \\n \\\\ b\"'", "'null'", "'{\"\": {\"é\\n\": [true, false, null, -0, 1e100]}}'"}},
		{"date", []string{"'2026-01-31'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'0001-01-01'", "'0001-12-31 BC'", "'5874897-12-31'", "'10000-01-01'"}},
		{"timestamp", times},
		{"timestamp(3)", times[:6]},
		{"timestamptz", zoned},
		{"time", []string{"'00:00:00'", "'24:00:00'", "'23:59:59.999999'", "'12:34:56.5'"}},
		{"timetz", []string{"'00:00:00+00'", "'24:00:00+02'", "'23:59:59.999999-15:59:59'", "'12:34:56.5+05:30'", "'12:00:00+15:59'", "'24:00:00-08:01:01'"}},
		{"interval", []string{"'1 year 2 months -3 days 04:05:06.789'", "'-178000000 years'", "'0'", "'00:00:00.000001'"}},
	}
}

// rare has arrays, networks, ranges, types of users and geometry.
func rare() []Column {
	return []Column{
		{"integer[]", []string{"'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'"}},
		{"text[]", []string{`'{"a\"b\\c",NULL,"NULL","x,y","","{é}"}'`}},
		{"bytea[]", []string{`ARRAY['\x00ff'::bytea]`}},
		{"timestamptz[]", []string{`'{infinity,"2026-01-31 12:00:00+00"}'`}},
		{"jsonb[]", []string{`ARRAY['{"a": 1}'::jsonb]`}},
		{"inet", []string{"'192.168.0.1'", "'192.168.0.1/24'", "'::ffff:1.2.3.4'", "'2001:db8::1/64'"}},
		{"cidr", []string{"'10.0.0.0/8'", "'2001:db8::/32'"}},
		{"macaddr", []string{"'08:00:2b:01:02:03'"}},
		{"macaddr8", []string{"'08:00:2b:01:02:03:04:05'"}},
		{"int4range", []string{"'empty'", "'(,5]'", "'[1,10)'"}},
		{"numrange", []string{"'[1.10,2.20)'", "'(,)'"}},
		{"tsrange", []string{`'["2026-01-01 00:00:00",infinity)'`}},
		{"tstzrange", []string{`'["2026-01-01 00:00:00+00",)'`}},
		{"daterange", []string{`'[2026-01-01,2026-02-01)'`}},
		{"int4multirange", []string{`'{[1,3),[5,9)}'`}},
		{"mood", []string{"'so \"so\"'", "'happy'", "''"}},
		{"mood[]", []string{`ARRAY['happy','']::mood[]`}},
		{"price", []string{"1.50"}},
		{"moment", []string{"'2026-01-31 12:00:00+00'"}},
		{"pair", []string{`ROW(1, 'a "b"')`, `ROW(NULL, NULL)`}},
		{"bit(5)", []string{"B'10110'", "B'00000'"}},
		{"varbit", []string{"B''", "B'0'", "('x' || repeat('f', 20))::varbit"}},
		{"money", []string{"'-92233720368547758.08'", "12.34"}},
		{"xml", []string{"'<a b=\"c\">&amp;\n</a>'"}},
		{"tsvector", []string{"'a:1 ''fat cat'':2'"}},
		{"tsquery", []string{"'a & !b'"}},
		{"point", []string{"'(1.5,-2)'", "'(NaN,Infinity)'"}},
		{"box", []string{"'(3,4),(1,2)'"}},
		{"path", []string{"'[(0,0),(1,1)]'"}},
		{"polygon", []string{"'((0,0),(1,1),(1,0))'"}},
		{"circle", []string{"'<(0,0),1>'"}},
		{"pg_lsn", []string{"'16/B374D848'"}},
		{"regclass", []string{"'pg_class'"}},
		{"jsonpath", []string{"'$.a[*]'"}},
	}
}
