package pglog_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// everyType has a column of each kind of type, and literals for it.
var everyType = []struct {
	typ    string
	values []string
}{
	{"boolean", []string{"true", "false"}},
	{"smallint", []string{"-32768", "7"}},
	{"integer", []string{"-2147483648", "2147483647"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
	{"oid", []string{"4294967295", "0"}},
	{"numeric", []string{"-12345678901234567890.1234567890", "'NaN'"}},
	{"numeric(12,2)", []string{"1.50", "0"}},
	{"real", []string{"0.1", "'-Infinity'", "1e20", "1e-7"}},
	{"double precision", []string{"0.1", "'NaN'", "1e20", "1e21", "1e-7", "-0.0", "1.7976931348623157e308"}},
	{"text", []string{"'κόσμε \\ \" '", "''", "E'a\\nb\\tc'"}},
	{"varchar(20)", []string{"'x '", "''"}},
	{"char(5)", []string{"'x'", "''"}},
	{`"char"`, []string{"'x'", "''"}},
	{"name", []string{"'n'", "''"}},
	{"xml", []string{"'<a>1</a>'", "''"}},
	{"bytea", []string{`'\x00ff'`, `''`, `'\xdeadbeef'`}},
	{"date", []string{"'2026-01-31'", "'infinity'", "'0044-03-15 BC'", "'4713-01-01 BC'"}},
	{"time", []string{"'12:34:56.7'", "'24:00'", "'00:00'"}},
	{"timetz", []string{"'12:34:56.7+02'", "'24:00-05:30'"}},
	{"timestamp", []string{"'2026-01-31 12:34:56.123456'", "'infinity'", "'0044-03-15 01:02:03 BC'", "'2026-01-31'"}},
	{"timestamptz", []string{"'2026-01-31 12:34:56.123456+05:30'", "'-infinity'", "'0044-03-15 01:02:03+00 BC'", "'2026-07-31 00:00:00.5+00'", "'1800-01-01 00:00+00'"}},
	{"interval", []string{"'1 year 2 mons -3 days 04:05:06.7'", "'-00:00:01'"}},
	{"json", []string{`'{"a" : 1.50, "b": [ 1, "ü" ]}'`, "'null'"}},
	{"jsonb", []string{`'{"b": 1.50, "a": [1, null]}'`, "'\"x\"'"}},
	{"uuid", []string{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"}},
	{"inet", []string{"'10.0.0.1/8'"}},
	{"macaddr", []string{"'08:00:2b:01:02:03'"}},
	{"money", []string{"'12.34'"}},
	{"bit(5)", []string{"B'10101'"}},
	{"varbit", []string{"B'101'", "B''"}},
	{"point", []string{"'(1.5,2)'"}},
	{"int4range", []string{"'[1,5)'", "'empty'"}},
	{"tsvector", []string{"'a fat cat'"}},
	{"int[]", []string{"'{1,NULL,3}'", "'{{1,2},{3,4}}'"}},
	{"text[]", []string{`'{a,"b c",NULL,"\"q\""}'`}},
	{"timestamptz[]", []string{"'{2026-01-31 12:00+00}'"}},
	{"bytea[]", []string{`'{"\\x00ff"}'`}},
	{"pg_lsn", []string{"'16/B374D848'"}},
	{"xid", []string{"'77'"}},
	{"regclass", []string{"'pg_class'"}},
	{"mood", []string{"'sad'"}},
	{"positive", []string{"5"}},
	{"nested", []string{"6"}},
	{"pair", []string{"'(1,\"a b\")'"}},
	{"stamp", []string{"'2026-01-31 12:34:56+01'"}},
	{"mood[]", []string{"'{sad,ok}'"}},
}

// The values of changes are those of the copy, and those of sqlsource, for each type, driver and
// setting of the session.
func TestTypesAreThoseOfSQLSource(t *testing.T) {
	t.Parallel()
	server := start(t)
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		d := server.NewDatabase(t)
		db := d.Open(t, driver)
		db.MustExec(`create type mood as enum ('sad', 'ok'); create domain positive as int check (value > 0); create domain nested as positive;
			create type pair as (a int, b text); create domain stamp as timestamptz`)
		for _, set := range []string{"DateStyle = 'SQL, DMY'", "IntervalStyle = 'iso_8601'", "bytea_output = 'escape'", "extra_float_digits = -10", "TimeZone = 'Asia/Kolkata'"} {
			db.MustExec(`alter database ` + d.Name() + ` set ` + set)
		}
		db.MustExec(`create publication p for all tables`)
		db = d.Open(t, driver) // with the settings of the database
		s := open(t, db)
		s.SkipCopy = true
		_, at := read(t, s, "", 10)
		create, rows := `create table t (id int primary key`, make([]string, 8) // the last row is of NULLs
		for i, c := range everyType {
			create += fmt.Sprintf(", c%d %s", i, c.typ)
			for k := range rows {
				v := "null"
				if k < len(c.values) {
					v = c.values[k]
				}
				rows[k] += ", (" + v + ")::" + c.typ
			}
		}
		db.MustExec(create + `)`)
		for k, list := range rows {
			db.MustExec(fmt.Sprintf("insert into t values (%d%s)", k, list))
		}
		db.MustExec(`alter table t replica identity full`)
		db.MustExec(`update t set id = id + 100`)
		changes, _ := read(t, s, at, 1000)
		b, err := lab.Fetch(t, &sqlsource.Table{DB: db, Name: "public.t", Key: []string{"id"}, Ceiling: ceiling.None{}, Logger: slog.New(slog.DiscardHandler)}, "", 1000)
		require.NoError(t, err)
		n := len(rows)
		require.Len(t, b.Records, n)
		require.Len(t, changes, 2*n)
		for k, want := range b.Records {
			inserted, updated := changes[k], changes[n+k]
			json, err := want.AppendJSON(nil)
			require.NoError(t, err)
			got, err := updated.Row.AppendJSON(nil)
			require.NoError(t, err)
			assert.Equal(t, string(json), string(got), driver)
			assert.True(t, want.Equal(updated.Row), driver)
			for i, c := range everyType {
				assert.Equal(t, want.Text(i+1), inserted.Row.Text(i+1), "%s %s inserted", driver, c.typ)
				assert.Equal(t, want.Text(i+1), updated.Old.Text(i+1), "%s %s old", driver, c.typ)
				assert.Equal(t, want.Columns().Type(i+1), updated.Row.Columns().Type(i+1), "%s %s", driver, c.typ)
			}
		}
	}
}
