package postgres

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// Settings of a role that change the text of the catalogue change neither the verdict nor the types of
// columns.
func TestSettingsOfTheCatalogue(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`create schema "Odd one"`)
	db.MustExec(`create domain price as numeric(10,2)`)
	db.MustExec(`create type mood as enum ('a', 'b')`)
	for _, s := range []string{
		`create table serial_key (id bigserial primary key, u uuid, p price, m mood, a text[], j jsonb, n name)`,
		`create table small_key (id smallserial primary key)`,
		`create table identity_key (id bigint generated always as identity primary key)`,
		`create sequence "Odd one"."S"`,
		`create table numeric_key (id numeric(19,0) default nextval('"Odd one"."S"') primary key)`,
		`create table tx_key (_tx xid8 not null default pg_current_xact_id(), id bigserial, primary key (_tx, id))`,
		`create table at_key (_at timestamptz not null default clock_timestamp(), id bigserial, primary key (_at, id))`,
		`create table random_key (id uuid primary key default gen_random_uuid())`,
		`create table part_key (id bigserial primary key) partition by range (id)`,
		`create table "Odd one"."p 1" partition of part_key default`,
		`create view view_key as select id from serial_key`,
	} {
		db.MustExec(s)
	}
	db.MustExec(`insert into serial_key (u, p, m, a, j, n) values (gen_random_uuid(), 1, 'a', '{x}', '{}', 'n')`)
	tables := map[string]string{"serial_key": "id", "small_key": "id", "identity_key": "id", "numeric_key": "id", "tx_key": "_tx id", "at_key": "_at id", "random_key": "id", "part_key": "id", "view_key": "id"}
	seen := func(t *testing.T, db *sqlx.DB) map[string]string {
		all := map[string]string{}
		for name, key := range tables {
			table := lab.Silent(db, "public."+name, strings.Fields(key)...)
			if name == "at_key" {
				table.Ceiling = postgres.Stamp{}
			}
			c, err := table.Check(t.Context(), "")
			require.NoError(t, err, name)
			text, _, _ := strings.Cut(c.String(), "\nas of")
			all[name], _, _ = strings.Cut(text, "\nheld")
			require.Equal(t, name != "random_key", c.Safe(), c.String())
		}
		b, err := lab.Fetch(t, lab.Silent(db, "public.serial_key", "id"), "", 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
		for i := range b.Records[0].Len() {
			all["types"] += fmt.Sprint(b.Records[0].Columns().Type(i), " ")
		}
		return all
	}
	want := seen(t, db)
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		for _, option := range []string{"quote_all_identifiers=on", "search_path=pg_catalog", "search_path=", `search_path="Odd one",public`, "lc_messages=C", "lc_monetary=C", "lc_numeric=C", "lc_time=C",
			"standard_conforming_strings=off", "DateStyle=German", "bytea_output=escape", "xmloption=document", "enable_seqscan=off", "plan_cache_mode=force_generic_plan"} {
			t.Run(string(driver)+" "+option, func(t *testing.T) {
				db, err := sqlx.Open(driver.SQLName(), d.DSN(driver)+"&options="+strings.ReplaceAll(url.QueryEscape("-c "+strings.ReplaceAll(option, " ", `\ `)), "+", "%20"))
				require.NoError(t, err)
				defer db.Close()
				got := seen(t, db)
				if strings.HasPrefix(option, "search_path") { // then names are written with their schema, or without
					return
				}
				require.Equal(t, want, got)
			})
		}
	}
}
