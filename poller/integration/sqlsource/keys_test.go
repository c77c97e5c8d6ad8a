package sqlsource

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// keyCase is a type of key with values in ascending order.
type keyCase struct {
	typ    string
	values []string // SQL literals
}

var integers = []string{fmt.Sprint(math.MinInt64), "-9007199254740993", "-1", "0", "1", "9007199254740992", "9007199254740993", fmt.Sprint(math.MaxInt64 - 1), fmt.Sprint(math.MaxInt64)}

var keyCases = map[string][]keyCase{
	"postgres": {
		{"bigint", []string{"'-9223372036854775808'", "-9007199254740993", "0", "9007199254740992", "9007199254740993", "9223372036854775806", "9223372036854775807"}},
		{"smallint", []string{"-32768", "0", "1", "32767"}},
		{"numeric", []string{"'-Infinity'", "-1e40", "0.1", "0.10000000000000000000000000000000000001", "18446744073709551614", "18446744073709551615", "123456789012345678901234567890123456789012345678901234567890.5", "'NaN'"}},
		{"numeric(20,4)", []string{"-1.0001", "1.0000", "1.0001", "9999999999999999.9999"}},
		{"text", []string{"''", "' '", "'%;'", "'A'", "'a'", "e'a\\n\\t'", "'a''b'", "'é'", "'€😀'"}},
		{"varchar(20) collate \"C\"", []string{"'A'", "'B'", "'a'", "'b;c%'"}},
		{"char(5)", []string{"'a'", "'ab'", "'b'"}},
		{"uuid", []string{"'00000000-0000-0000-0000-000000000000'", "'0190163d-8694-739b-aea5-966c26f8ad91'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"}},
		{"timestamptz", []string{"'-infinity'", "'4713-01-01 00:00:00 BC UTC'", "'0005-02-28 12:00:00.5 BC UTC'", "'2026-03-29 01:59:59.999999+01'", "'2026-10-25 02:30:00+02'", "'2026-10-25 02:30:00+01'", "'2026-10-25 02:30:00.000001+01'", "'294276-12-31 23:59:59.999999 UTC'", "'infinity'"}},
		{"timestamp", []string{"'-infinity'", "'4713-01-01 00:00:00 BC'", "'0001-02-29 12:00:00.5 BC'", "'2026-03-29 02:30:00.000001'", "'2026-03-29 02:30:00.000002'", "'12026-01-01 00:00:00'", "'infinity'"}},
		{"date", []string{"'-infinity'", "'4713-01-01 BC'", "'0001-02-29 BC'", "'0001-01-01'", "'2026-02-28'", "'12026-01-01'", "'infinity'"}},
		{"time", []string{"'00:00:00'", "'00:00:00.000001'", "'23:59:59.999999'", "'24:00:00'"}},
		{"timetz", []string{"'00:00:00+00'", "'12:00:00+00'", "'12:00:00.5-01:30'", "'24:00:00+00'"}},
		{"interval", []string{"'-1 day'", "'1 microsecond'", "'1 mon'", "'1 year 2 mons 3 days 04:05:06.000007'"}},
		{"bytea", []string{`'\x'`, `'\x00'`, `'\x0001'`, `'\x61'`, `'\xff'`, `'\xff00'`}},
		{"boolean", []string{"false", "true"}},
		{"real", []string{"'-Infinity'", "'-1.5'", "0.1", "16777216", "3.4028235e38", "'NaN'"}},
		{"double precision", []string{"'-Infinity'", "0.1", "0.30000000000000004", "1e300", "'NaN'"}},
		{"oid", []string{"0", "1", "4294967295"}},
		{"inet", []string{"'10.0.0.1'", "'10.0.0.2'", "'::1'"}},
		{"int[]", []string{"'{}'", "'{1,2}'", "'{1,3}'"}},
		{"mood", []string{"'sad'", "'ok'", "'happy'"}},
		{"posint", []string{"1", "2", "9007199254740993"}},
		{`"char"`, []string{"'A'", "'b'"}},
		{"name", []string{"'A'", "'b'", "'c'"}},
	},
	"mariadb": {
		{"bigint", integers},
		{"bigint unsigned", []string{"0", "1", "9007199254740992", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551614", "18446744073709551615"}},
		{"tinyint", []string{"-128", "0", "127"}},
		{"mediumint unsigned zerofill", []string{"0", "1", "16777215"}},
		{"decimal(65,0)", []string{"-99999999999999999999999999999999999999999999999999999999999999999", "0", "18446744073709551616", "99999999999999999999999999999999999999999999999999999999999999998", "99999999999999999999999999999999999999999999999999999999999999999"}},
		{"decimal(40,20)", []string{"-1.5", "0.00000000000000000001", "0.1", "12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567891"}},
		{"varchar(50) collate utf8mb4_bin", []string{"''", "'A'", "'a'", "'a\\'b;%'", "'b'", "'é'", "'€😀'"}},
		{"varchar(50) collate utf8mb4_general_ci", []string{"''", "'A'", "'b'", "'C'", "'é1'"}},
		{"varchar(50) character set latin1", []string{"'A'", "'b'", "'é'"}},
		{"char(5)", []string{"'a'", "'ab'", "'b'"}},
		{"binary(4)", []string{"x'00000000'", "x'00ff00ff'", "x'61626364'", "x'ffffffff'"}},
		{"varbinary(20)", []string{"''", "x'00'", "x'0001'", "'a'", "x'c3'", "x'ff'", "x'ff00'"}},
		{"uuid", []string{"'00000000-0000-0000-0000-000000000000'", "'11111111-0000-4000-8000-000000000000'", "'ffffffff-ffff-4fff-bfff-ffffffffffff'"}},
		{"date", []string{"'1000-01-01'", "'2026-02-28'", "'9999-12-31'"}},
		{"datetime(6)", []string{"'1000-01-01 00:00:00'", "'2026-03-29 02:30:00'", "'2026-03-29 02:30:00.000001'", "'2026-03-29 02:30:00.000002'", "'9999-12-31 23:59:59.999999'"}},
		{"datetime", []string{"'2026-03-29 02:30:00'", "'2026-03-29 02:30:01'"}},
		{"timestamp(6)", []string{"'1970-01-01 00:00:01'", "'2026-10-25 00:30:00.000001'", "'2026-10-25 01:30:00.000001'", "'2038-01-19 03:14:07.999999'"}},
		{"time(6)", []string{"'-838:59:59'", "'-00:00:01.5'", "'00:00:00'", "'23:59:59.999999'", "'838:59:59'"}},
		{"year", []string{"1901", "2026", "2155"}},
	},
	"sqlite": {
		{"integer", integers},
		{"text", []string{"''", "'2026-01-31T23:59:59.5Z'", "'2026-01-31T23:59:59.5Z' || 'é'", "'A'", "'a'", "'a''b;%'", "'b'", "'é'"}},
		{"text collate nocase", []string{"'A'", "'b'", "'C'"}},
		{"", []string{"-9223372036854775807", "0.5", "1", "1e300", "'10'", "'9'", "'a'", "x''", "x'00'", "x'ff00'"}},
		{"datetime", []string{"'1999-12-31'", "'2026-01-31 10:00:00'", "'2026-01-31T10:00:00.123456789+02:00'", "'2026-01-31T10:00:00Z'"}},
		{"date", []string{"20260101", "20260102", "'2026-01-01'"}},
		{"timestamp", []string{"1700000000", "1700000000000", "'2026-01-31 10:00:00.5'"}},
		{"boolean", []string{"0", "1", "2"}},
		{"real", []string{"-1e300", "0.1", "0.30000000000000004", "1e300"}},
		{"numeric", []string{"-1", "0.5", "9223372036854775807", "'x'"}},
		{"blob", []string{"x''", "x'00'", "x'61'", "x'ff'"}},
	},
}

func casesFor(d dbtest.Driver) []keyCase {
	switch {
	case lab.IsPostgres(d):
		return keyCases["postgres"]
	case lab.IsMariaDB(d):
		return keyCases["mariadb"]
	}
	return keyCases["sqlite"]
}

// Keys of each type, alone and as the first and second of two columns, are read value by
// value: each row once, with every batch size.
func TestSQLSourceKeyTypes(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		if lab.IsPostgres(driver) {
			db.MustExec(`create type mood as enum ('sad', 'ok', 'happy')`)
			db.MustExec(`create domain posint as bigint check (value > 0)`)
		}
		for i, c := range casesFor(driver) {
			t.Run(strings.ReplaceAll(c.typ, "/", ""), func(t *testing.T) {
				single, double := fmt.Sprintf("single_%d", i), fmt.Sprintf("double_%d", i)
				db.MustExec(fmt.Sprintf(`create table %s (pos int not null, k %s not null primary key)`, single, c.typ))
				db.MustExec(fmt.Sprintf(`create table %s (pos int not null, a %s not null, b %s not null, primary key (a, b))`, double, c.typ, c.typ))
				var one, two []int
				for n, v := range c.values {
					db.MustExec(fmt.Sprintf(`insert into %s values (%d, %s)`, single, n, v))
					one = append(one, n)
					for m, w := range c.values {
						two = append(two, n*100+m)
						db.MustExec(fmt.Sprintf(`insert into %s values (%d, %s, %s)`, double, n*100+m, v, w))
					}
				}
				for name, key := range map[string][]string{single: {"k"}, double: {"a", "b"}} {
					want := one
					if len(key) == 2 {
						want = two
					}
					for _, max := range []int{1, 2, 3, len(want), len(want) + 1} {
						got, _ := lab.ReadAll(t, &sqlsource.Table{DB: db, Name: name, Key: key, Columns: []string{"pos"}, Ceiling: ceiling.None{}}, "", max, lab.RowJSON)
						require.Equal(t, positions(want), got, "Table, max %d", max)
						got, _ = lab.ReadAll(t, &sqlsource.Table{DB: db, Name: name, Key: key, Ceiling: ceiling.None{}}, "", max,
							func(r row.Row) string { return `{"pos":` + r.Text(0) + `}` })
						require.Equal(t, positions(want), got, "Table with its key, max %d", max)
						got, _ = lab.ReadAll(t, &sqlsource.Query[position]{DB: db, Select: "select pos, " + strings.Join(key, ", ") + " from " + name, Key: key, Ceiling: ceiling.None{}}, "", max,
							func(p position) string { return fmt.Sprintf(`{"pos":%d}`, p.Pos) })
						require.Equal(t, positions(want), got, "Query, max %d", max)
					}
				}
			})
		}
	})
}

type position struct {
	Pos  int
	K    any
	A, B any
}

func positions(ns []int) []string {
	var all []string
	for _, n := range ns {
		all = append(all, fmt.Sprintf(`{"pos":%d}`, n))
	}
	return all
}

func TestSQLSourceThreeKeys(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (c int not null, b varchar(5) not null, a bigint not null, primary key (a, b, c))`)
		var want []row.Row
		columns := row.NewColumns([]string{"c", "b", "a"}, []row.Kind{row.Number, row.Text, row.Number})
		for a := range 3 {
			for _, b := range []string{"x", "y", "z"} {
				for c := range 3 {
					db.MustExec(fmt.Sprintf(`insert into t values (%d, '%s', %d)`, c, b, a))
					r, err := row.Of(columns, int64(c), b, int64(a))
					require.NoError(t, err)
					want = append(want, r)
				}
			}
		}
		require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Row]{
			Open: func(context.Context) (source.Source[row.Row], error) {
				return &sqlsource.Table{DB: db, Name: "t", Key: []string{"a", "b", "c"}, Ceiling: ceiling.None{}}, nil
			},
			Expected: want, Text: lab.RowJSON,
		}))
	})
}
