package sqlsource

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// foreign are settings of a session that change the text of values or the meaning of strings.
var foreign = []string{"DateStyle=German", "IntervalStyle=iso_8601", "extra_float_digits=0", "bytea_output=escape", "TimeZone=Asia/Tokyo",
	"standard_conforming_strings=off", "backslash_quote=on", "default_transaction_isolation=serializable"}

// Every value has the same text, whatever the settings of the session, the role and the database
// are. The session keeps its settings.
func TestPostgresSessionsOfOthers(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`CREATE TYPE mood AS ENUM ('so "so"', 'happy', '')`)
	db.MustExec(`CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE > 0)`)
	db.MustExec(`CREATE DOMAIN moment AS timestamptz`)
	db.MustExec(`CREATE TYPE pair AS (a integer, b text)`)
	columns := append(postgresColumns(),
		column{ddl: "float8[]", oracle: pgText, json: inString, values: []string{"'{0.30000000000000004,1e300}'"}},
		column{ddl: "real[]", oracle: pgText, json: inString, values: []string{"'{0.1,3.4028235e38}'"}},
		column{ddl: "bytea[]", oracle: pgText, json: inString, values: []string{`array['\x00ff61'::bytea]`}},
		column{ddl: "interval[]", oracle: pgText, json: inString, values: []string{"'{1 year 2 mons 3 days 04:05:06.000007,-1 day}'"}},
		column{ddl: "timestamptz[]", oracle: pgText, json: inString, values: []string{"'{2026-01-31 12:00:00+00,infinity}'"}},
		column{ddl: "tstzrange", oracle: pgText, json: inString, values: []string{"'[2026-01-31 12:00:00+00,)'"}},
		column{ddl: "daterange", oracle: pgText, json: inString, values: []string{"'[2026-01-31,2026-02-03)'"}},
	)
	types := newTypesTable(columns)
	types.create(t, db, "")
	want := types.want(t, db)
	for _, set := range foreign {
		name, value, _ := strings.Cut(set, "=")
		db.MustExec(fmt.Sprintf(`ALTER DATABASE %s SET %s = '%s'`, d.Name(), name, value))
	}
	for _, c := range []struct {
		driver dbtest.Driver
		option string
	}{
		{dbtest.PGX, ""}, {dbtest.PGX, "default_query_exec_mode=exec"}, {dbtest.PGX, "default_query_exec_mode=simple_protocol&standard_conforming_strings=on"},
		{dbtest.PQ, ""}, {dbtest.PQ, "binary_parameters=yes"}, {dbtest.PQ, "options=" + url.QueryEscape("-c extra_float_digits=0 -c DateStyle=German")},
	} {
		t.Run(string(c.driver)+" "+c.option, func(t *testing.T) {
			session, err := sqlx.Open(c.driver.SQLName(), d.DSN(c.driver)+"&"+c.option)
			require.NoError(t, err)
			defer session.Close()
			session.SetMaxOpenConns(1)
			settings := func() (all string) {
				require.NoError(t, session.Get(&all, `SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings`))
				return all
			}
			before := settings()
			types.check(t, session, want)
			require.Equal(t, before, settings())
		})
	}
}

// lib/pq gets statements with their arguments written into them. Names, texts and conditions that
// look like a placeholder, or end a string, arrive as they are.
func TestArgumentsInTheStatement(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		for _, conforming := range []string{"on", "off"} {
			db.SetMaxOpenConns(1)
			db.MustExec(`set standard_conforming_strings = ` + conforming)
			db.MustExec(`drop table if exists "a$1"`)
			db.MustExec(`create table "a$1" ("k$1" text collate "C" primary key, v text default '$1')`)
			keys := []string{`'; drop table "a$1"; --`, `\`, `\'`, `a$1`, "café 😀", "x\n", `x'y"z`}
			for _, k := range keys {
				db.MustExec(`insert into "a$1" ("k$1") values ($1)`, k)
			}
			slash := `'\'`
			if conforming == "off" {
				slash = `'\\'`
			}
			table := lab.Silent(db, `"a$1"`, "k$1")
			table.Where = `t.v = '$1' and t.v = $q$$1$q$ and t.v = e'\x241' /* ' $1 /* */ " */ and t."k$1" <> $$$2$$ and ` + slash + ` <> '$1' -- $1 '`
			table.Ceiling = ceiling.None{}
			got, _ := lab.ReadAll(t, table, "", 1, lab.RowJSON)
			require.Len(t, got, len(keys))
			at, err := table.At("\x00")
			require.NoError(t, err)
			_, err = lab.Fetch(t, &sqlsource.Table{DB: db, Name: table.Name, Key: table.Key, Ceiling: ceiling.None{}}, at, 1)
			require.Error(t, err)
		}
	})
}
