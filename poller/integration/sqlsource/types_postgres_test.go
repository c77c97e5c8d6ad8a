package sqlsource

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/row"
)

// Expressions that return the expected text of a Postgres type. {} stands for the column.
const (
	pgText  = `{}::text`
	pgOut   = `NULLIF(format('%s', {}), '')`       // not a cast, which adds /32 to an address
	pgClock = `regexp_replace({}::text, ' ', 'T')` // replaces the first space only, not the one before BC
	pgUTC   = `CASE WHEN isfinite({})
		THEN regexp_replace(regexp_replace(({} AT TIME ZONE 'UTC')::text, ' ', 'T'), '( BC)?$', 'Z\1')
		ELSE {}::text END`
	pgOffset = `regexp_replace({}::text, '([+-]\d\d)$', '\1:00')`
	pgBase64 = `replace(encode({}, 'base64'), E'\n', '')`
	pgPadded = `convert_from(bpcharsend({}), 'UTF8')` // a cast to text removes the padding
)

// everyASCII returns a SQL literal with all ASCII characters that Postgres text can
// contain.
func everyASCII() string {
	var b strings.Builder
	for c := byte(1); c < 0x80; c++ {
		b.WriteByte(c)
	}
	return literal(b.String())
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func postgresColumns() []column {
	digits := strings.Repeat("1234567890", 50)
	times := []string{"'2026-01-31 23:59:59.123456'", "'2026-01-31 23:59:59.1'", "'2026-01-31 00:00:00'", "'infinity'", "'-infinity'",
		"'4713-01-01 00:00:00 BC'", "'0044-03-15 12:00:00.000001 BC'", "'0001-01-01 00:00:00'", "'0001-12-31 23:59:59.999999 BC'",
		"'294276-12-31 23:59:59.999999'", "'10000-01-01 00:00:00'", "'1883-11-18 12:03:58'", "'2026-03-29 02:30:00'"}
	var zoned []string
	for _, t := range times {
		zoned = append(zoned, t+"::timestamp AT TIME ZONE 'UTC'")
	}
	zoned = append(zoned, "'2026-01-31 23:59:59.5+05:30'")
	return []column{
		{ddl: "smallint", oracle: pgText, json: bare, values: []string{"-32768", "32767", "0"}},
		{ddl: "integer", oracle: pgText, json: bare, values: []string{"-2147483648", "2147483647"}},
		{ddl: "bigint", oracle: pgText, json: bare, values: []string{"-9223372036854775808", "9223372036854775807", "9007199254740993"}},
		{ddl: "oid", oracle: pgText, json: bare, values: []string{"0", "4294967295"}},
		{ddl: "xid", oracle: pgText, json: bare, values: []string{"'3'", "'4294967295'"}},
		{ddl: "xid8", oracle: pgText, json: inString, values: []string{"'3'", "'18446744073709551615'"}},
		{ddl: "numeric", oracle: pgText, json: float, values: []string{digits + "." + digits, "-0." + digits, "0", "1.10", "100", "'NaN'", "'Infinity'", "'-Infinity'", "1e-16383", "1e131071"}},
		{ddl: "numeric(20,5)", oracle: pgText, json: float, values: []string{"1", "-99999999999.99999", "'NaN'"}},
		{ddl: "real", oracle: pgText, json: float, same: sameFloat(32), values: []string{"0.1", "3.4028235e38", "1e-45", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "16777217", "1e20", "1e21", "1.17549435e-38"}},
		{ddl: "double precision", oracle: pgText, json: float, same: sameFloat(64), values: []string{"0.1", "1.7976931348623157e308", "5e-324", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "9007199254740993", "1e21", "0.30000000000000004"}},
		{ddl: "boolean", oracle: pgText, json: bare, values: []string{"true", "false"}},
		{ddl: "text", oracle: pgText, json: inString, values: []string{"''", "' '", everyASCII(), "E'say \"hi\", it''s\\r\\ntwo\\nlines\\ttab \\\\'", "U&'emoji \\+01F600 sep \\2028\\2029 rev \\FFFD bom \\FEFF'", "'null'", "'NULL'", "'\\.'", "repeat('long é ', 100000)", "'007'", "'true'", "'{\"a\": 1}'"}},
		{ddl: "varchar(10)", oracle: pgText, json: inString, values: []string{"''", "'padded  '", "'é😀'"}},
		{ddl: "char(10)", oracle: pgPadded, json: inString, values: []string{"''", "'ab'", "'é😀'"}},
		{ddl: `"char"`, oracle: pgText, json: inString, values: []string{"'x'", "''"}},
		{ddl: "name", oracle: pgText, json: inString, values: []string{"'a name'"}},
		{ddl: "bytea", oracle: pgBase64, json: inString, values: []string{"''", "'\\x00'", "(SELECT string_agg(set_byte('\\x00', 0, g), '' ORDER BY g) FROM generate_series(0, 255) g)", "decode(repeat('0a5c22ff', 50000), 'hex')"}},
		{ddl: "uuid", oracle: pgText, json: inString, values: []string{"'00000000-0000-0000-0000-000000000000'", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"}},
		{ddl: "json", oracle: pgText, json: document, same: sameJSON, values: []string{"'{ \"b\" : 1,\n\t\"a\":[1 , 2],\"b\":2 }'", "'123456789012345678901234567890.10'", "'1e400000'", "'\"a \\u2028 \\\" \\\\ \\u0000 b\"'", "'null'", "' [ ] '", "'{}'", "'\"\"'"}},
		{ddl: "jsonb", oracle: pgText, json: document, values: []string{"'{ \"b\" : 1,\n\t\"a\":[1 , 2],\"b\":2 }'", "'123456789012345678901234567890.10'", "'\"a \\u2028 \\\" \\n \\\\ b\"'", "'null'", "'{\"\": {\"é\\n\": [true, false, null, -0, 1e100]}}'"}},
		{ddl: "date", oracle: pgText, json: inString, values: []string{"'2026-01-31'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'0001-01-01'", "'0001-12-31 BC'", "'5874897-12-31'", "'10000-01-01'"}},
		{ddl: "timestamp", oracle: pgClock, json: inString, values: times},
		{ddl: "timestamp(3)", oracle: pgClock, json: inString, values: times[:6]},
		{ddl: "timestamptz", oracle: pgUTC, json: inString, values: zoned},
		{ddl: "time", oracle: pgText, json: inString, values: []string{"'00:00:00'", "'24:00:00'", "'23:59:59.999999'", "'12:34:56.5'"}},
		{ddl: "timetz", oracle: pgOffset, json: inString, values: []string{"'00:00:00+00'", "'24:00:00+02'", "'23:59:59.999999-15:59:59'", "'12:34:56.5+05:30'", "'12:00:00+15:59'", "'24:00:00-08:01:01'"}},
		{ddl: "interval", oracle: pgText, json: inString, values: []string{"'1 year 2 months -3 days 04:05:06.789'", "'-178000000 years'", "'0'", "'00:00:00.000001'"}},
		{ddl: "integer[]", oracle: pgText, json: inString, values: []string{"'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'"}},
		{ddl: "text[]", oracle: pgText, json: inString, values: []string{`'{"a\"b\\c",NULL,"NULL","x,y","","{é}"}'`}},
		{ddl: "bytea[]", oracle: pgText, json: inString, values: []string{`ARRAY['\x00ff'::bytea]`}},
		{ddl: "timestamptz[]", oracle: pgText, json: inString, values: []string{`'{infinity,"2026-01-31 12:00:00+00"}'`}},
		{ddl: "jsonb[]", oracle: pgText, json: inString, values: []string{`ARRAY['{"a": 1}'::jsonb]`}},
		{ddl: "inet", oracle: pgOut, json: inString, values: []string{"'192.168.0.1'", "'192.168.0.1/24'", "'::ffff:1.2.3.4'", "'2001:db8::1/64'"}},
		{ddl: "cidr", oracle: pgText, json: inString, values: []string{"'10.0.0.0/8'", "'2001:db8::/32'"}},
		{ddl: "macaddr", oracle: pgText, json: inString, values: []string{"'08:00:2b:01:02:03'"}},
		{ddl: "macaddr8", oracle: pgText, json: inString, values: []string{"'08:00:2b:01:02:03:04:05'"}},
		{ddl: "int4range", oracle: pgText, json: inString, values: []string{"'empty'", "'(,5]'", "'[1,10)'"}},
		{ddl: "numrange", oracle: pgText, json: inString, values: []string{"'[1.10,2.20)'", "'(,)'"}},
		{ddl: "tsrange", oracle: pgText, json: inString, values: []string{`'["2026-01-01 00:00:00",infinity)'`}},
		{ddl: "tstzrange", oracle: pgText, json: inString, values: []string{`'["2026-01-01 00:00:00+00",)'`}},
		{ddl: "daterange", oracle: pgText, json: inString, values: []string{`'[2026-01-01,2026-02-01)'`}},
		{ddl: "int4multirange", oracle: pgText, json: inString, values: []string{`'{[1,3),[5,9)}'`}},
		{ddl: "mood", oracle: pgText, json: inString, values: []string{"'so \"so\"'", "'happy'", "''"}},
		{ddl: "mood[]", oracle: pgText, json: inString, values: []string{`ARRAY['happy','']::mood[]`}},
		{ddl: "price", oracle: pgText, json: float, values: []string{"1.50"}}, // a domain over numeric
		{ddl: "moment", oracle: pgUTC, json: inString, values: []string{"'2026-01-31 12:00:00+00'"}},
		{ddl: "pair", oracle: pgText, json: inString, values: []string{`ROW(1, 'a "b"')`, `ROW(NULL, NULL)`}},
		{ddl: "bit(5)", oracle: pgText, json: inString, values: []string{"B'10110'", "B'00000'"}},
		{ddl: "varbit", oracle: pgText, json: inString, values: []string{"B''", "B'0'", "('x' || repeat('f', 20))::varbit"}},
		{ddl: "money", oracle: pgText, json: inString, values: []string{"'-92233720368547758.08'", "12.34"}},
		{ddl: "xml", oracle: pgText, json: inString, values: []string{"'<a b=\"c\">&amp;\n</a>'"}},
		{ddl: "tsvector", oracle: pgText, json: inString, values: []string{"'a:1 ''fat cat'':2'"}},
		{ddl: "tsquery", oracle: pgText, json: inString, values: []string{"'a & !b'"}},
		{ddl: "point", oracle: pgText, json: inString, values: []string{"'(1.5,-2)'", "'(NaN,Infinity)'"}},
		{ddl: "box", oracle: pgText, json: inString, values: []string{"'(3,4),(1,2)'"}},
		{ddl: "path", oracle: pgText, json: inString, values: []string{"'[(0,0),(1,1)]'"}},
		{ddl: "polygon", oracle: pgText, json: inString, values: []string{"'((0,0),(1,1),(1,0))'"}},
		{ddl: "circle", oracle: pgText, json: inString, values: []string{"'<(0,0),1>'"}},
		{ddl: "pg_lsn", oracle: pgText, json: inString, values: []string{"'16/B374D848'"}},
		{ddl: "regclass", oracle: pgText, json: inString, values: []string{"'pg_class'"}},
		{ddl: "jsonpath", oracle: pgText, json: inString, values: []string{"'$.a[*]'"}},
	}
}

// TestPostgresTypes reads extreme values of every type with each driver, in sessions with
// several time zones and styles.
func TestPostgresTypes(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`CREATE TYPE mood AS ENUM ('so "so"', 'happy', '')`)
	db.MustExec(`CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE > 0)`)
	db.MustExec(`CREATE DOMAIN moment AS timestamptz`)
	db.MustExec(`CREATE TYPE pair AS (a integer, b text)`)
	types := newTypesTable(postgresColumns())
	types.create(t, db, "")

	want := types.want(t, db) // in UTC

	zones := []string{"UTC", "America/New_York", "Asia/Kolkata", "Africa/Monrovia"} // the offset of the last one once included seconds
	if testing.Short() {
		zones = zones[1:2]
	}
	for _, zone := range zones {
		for _, driver := range d.Drivers() {
			t.Run(fmt.Sprintf("%s %s", driver, strings.ReplaceAll(zone, "/", "-")), func(t *testing.T) {
				db.MustExec(fmt.Sprintf(`ALTER DATABASE %s SET timezone = '%s'`, d.Name(), zone))
				session := d.Open(t, driver)
				var set string
				require.NoError(t, session.Get(&set, `SHOW timezone`))
				require.Equal(t, zone, set)
				readBack(t, session, types, types.check(t, session, want))
			})
		}
	}
	for name, driver := range map[string]dbtest.Driver{
		"default_query_exec_mode=simple_protocol": dbtest.PGX, // as with a connection pooler
		"default_query_exec_mode=exec":            dbtest.PGX,
		"binary_parameters=yes":                   dbtest.PQ,
	} {
		t.Run(name, func(t *testing.T) {
			session, err := sqlx.Open(driver.SQLName(), d.DSN(driver)+"&"+name)
			require.NoError(t, err)
			defer session.Close()
			types.check(t, session, want)
		})
	}
}

// readBack makes Postgres parse the text of every cell and compare it with the value in the
// table.
func readBack(t *testing.T, db *sqlx.DB, types typesTable, records []row.Row) {
	for i, c := range types.columns {
		value := fmt.Sprintf(`CAST($1::text AS %s)`, c.ddl)
		if c.ddl == "bytea" {
			value = `decode($1, 'base64')`
		}
		if c.ddl == "json" { // json has no equality operator, and jsonb cannot represent all of it
			continue
		}
		same := fmt.Sprintf(`SELECT %s::text IS NOT DISTINCT FROM c%d::text FROM types WHERE id = $2`, value, i)
		for n, r := range records {
			var text *string
			if !r.IsNull(i + 1) {
				text = new(string)
				*text = r.Text(i + 1)
			}
			var ok bool
			if err := db.Get(&ok, same, text, n); err != nil || !ok {
				t.Errorf("c%d %s: Postgres does not parse %.200q as the original value: %v", i, c.ddl, r.Text(i+1), err)
			}
		}
	}
}
