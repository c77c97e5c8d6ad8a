package changelog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/changelog"
)

// migration is a change of a table, as an application's author writes it. Its statements run in a new schema.
type migration struct {
	name, before, key, statements string
	writes                        []string // before the migration, and after it unless after has others
	after                         []string
	forms                         bool // it is tried with each form of the change table
	gap                           bool // changes of the key's column cannot be recorded until the script runs
}

var plainWrites = []string{`update t set v = '7'`, `insert into t values (5, '5')`, `update t set v = '8' where v = '5'`, `delete from t where v = '8'`, `update t set v = '9' where false`}

const emptyTable = `create table t (id int primary key, v int, w int)`

const plainTable = emptyTable + `; insert into t values (1, 1), (2, 2)`

var migrations = []migration{
	{name: "enum", key: "id", before: `create type mood as enum ('sad', 'glad'); create table t (id int primary key, m mood, ms mood[]); insert into t values (1, 'sad', '{sad}'), (2, 'glad', '{}')`,
		writes:     []string{`update t set m = 'glad'`, `insert into t values (3, 'sad', '{glad}')`, `delete from t where id = 3`},
		statements: `alter type mood rename to mood_old; create type mood as enum ('sad', 'happy'); alter table t alter m type mood using 'happy', alter ms type mood[] using '{happy}'; drop type mood_old`,
		after:      []string{`update t set m = 'sad'`, `insert into t values (3, 'happy', '{happy}')`, `delete from t where id = 1`}},
	{name: "enum value", key: "id", before: `create type mood as enum ('sad', 'glad'); create table t (id int primary key, m mood); insert into t values (1, 'sad')`,
		writes: []string{`update t set m = 'glad'`}, statements: `alter type mood add value 'happy'`, after: []string{`update t set m = 'happy'`}},
	{name: "enum key", forms: true, key: "m", before: `create type mood as enum ('sad', 'glad', 'so-so'); create table t (m mood primary key, n int); insert into t values ('sad', 1), ('glad', 1)`,
		writes:     []string{`update t set n = n + 1`, `update t set m = 'so-so' where m = 'glad'`, `delete from t where m = 'so-so'`, `insert into t values ('glad', 8)`},
		statements: `alter type mood rename to mood_old; create type mood as enum ('sad', 'glad', 'so-so', 'new'); alter table t alter m type mood using m::text::mood; drop type mood_old; alter type mood rename value 'new' to 'newer'`},
	{name: "domain", key: "id", before: `create domain price as numeric(10,2) check (value > 0); create table t (id int primary key, p price, ps price[]); insert into t values (1, 1, '{1}'), (2, 2, null)`,
		writes:     []string{`update t set p = 3`, `insert into t values (3, 4, '{2}')`, `delete from t where id = 3`},
		statements: `alter table t alter p type int, alter ps type int[]; drop domain price`},
	{name: "composite", key: "id", before: `create type pair as (a timestamptz, b float8); create table t (id int primary key, p pair); insert into t values (1, row('2026-01-31 12:00+01', 0.1)), (2, null)`,
		writes:     []string{`update t set p = row('2026-01-31 13:00+01', 0.3)`, `delete from t where id = 2`},
		statements: `alter table t drop p; alter table t add p jsonb; drop type pair`, after: []string{`insert into t values (3, '[]')`, `update t set p = '{}'`}},
	{name: "extension", forms: true, key: "c", before: `create extension citext schema public; create extension hstore schema public; create table t (c public.citext primary key, h public.hstore); insert into t values ('a', 'x=>1'), ('b', null)`,
		writes:     []string{`update t set h = null`, `update t set c = 'A' where c = 'a'`, `insert into t values ('c', null)`, `delete from t where c = 'c'`},
		statements: `alter table t alter c type text, alter h type text; drop extension citext; drop extension hstore`},
	{name: "types", forms: true, key: "id", before: `create table t (id int primary key, v text, n int, j json); insert into t values (1, '1', 1, '1'), (2, '2', 2, '2')`,
		writes:     append([]string{`update t set n = 8`, `update t set id = id + 10`, `update t set id = id + 10 where false`}, plainWrites...),
		statements: `alter table t alter v type int using v::int, alter n type text, alter j type jsonb`},
	{name: "key", forms: true, key: "id", before: plainTable, writes: plainWrites, statements: `alter table t alter id type text`, gap: true},
	{name: "wider key", key: "id", before: plainTable, writes: plainWrites, statements: `alter table t alter id type bigint`},
	{name: "renamed key", forms: true, key: "id", before: plainTable, writes: plainWrites, statements: `alter table t rename id to number`, gap: true},
	{name: "renamed column", key: "id", before: plainTable, writes: plainWrites, statements: `alter table t rename w to x`},
	{name: "dropped column", key: "id", before: plainTable, writes: plainWrites, statements: `alter table t drop w`},
	{name: "partitions", forms: true, key: "id", before: `create type mood as enum ('sad', 'glad'); create table t (id int primary key, v text, m mood) partition by range (id); create table t1 partition of t for values from (0) to (9)`,
		writes:     append([]string{`insert into t values (6, '6', 'sad')`, `update t1 set m = 'sad', v = '6'`}, plainWrites...),
		statements: `alter type mood rename to mood_old; create type mood as enum ('sad'); alter table t alter m type mood using m::text::mood, alter v type int using v::int; drop type mood_old`,
		after:      append([]string{`insert into t values (7, '6', 'sad')`, `update t1 set m = 'sad', v = '6'`, `truncate t1`, `insert into t values (8, '8', 'sad')`}, plainWrites...)},
	{name: "partition's column", key: "id", before: emptyTable + ` partition by list (id); create table t1 partition of t default`,
		writes: append([]string{`insert into t values (1, 1), (2, 2)`, `truncate t1`, `insert into t1 values (1, 1), (2, 2)`}, plainWrites...), statements: `alter table t drop w; truncate t1`},
	{name: "partition's key", key: "id", before: emptyTable + ` partition by list (id); create table t1 partition of t default`,
		writes: append([]string{`insert into t values (1, 1), (2, 2)`, `truncate t1`, `insert into t1 values (1, 1), (2, 2)`}, plainWrites...), statements: `alter table t rename id to number; truncate t1`, gap: true},
	{name: "renamed table", forms: true, before: plainTable, writes: plainWrites, statements: `alter table t rename to u; create view t as select * from u`},
	{name: "other schema", before: plainTable, writes: plainWrites, statements: `drop schema if exists moved cascade; create schema moved; alter table t set schema moved; create view t as select * from moved.t`},
	{name: "other owner", forms: true, key: "id", before: plainTable, writes: plainWrites,
		statements: `grant usage on schema SCHEMA to OWNER; alter table t_changes owner to OWNER; alter function t_changes_record owner to OWNER; alter table t enable row level security`},
}

// The application writes as before after each migration, on the same connection and before the script runs again. A copy
// then equals the table.
func TestMigrationsPostgres(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"rows", "nested", "keys"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			d := lab.DatabaseFor(t, dbtest.PGX)
			db := d.Open(t, dbtest.PGX)
			db.MustExec(`create role "` + d.Name() + `"`)
			t.Cleanup(func() {
				db.MustExec(`reassign owned by "` + d.Name() + `" to current_user; drop owned by "` + d.Name() + `"; drop role "` + d.Name() + `"`)
			})
			db.SetMaxOpenConns(1) // which has the plans of the statements before the migration
			db.MustExec(`set DateStyle = 'SQL, DMY'; set TimeZone = 'Asia/Tokyo'; set extra_float_digits = 0`)
			for i, m := range migrations {
				if form != "rows" && !m.forms {
					continue
				}
				t.Run(m.name, func(t *testing.T) {
					m.statements = strings.NewReplacer("OWNER", `"`+d.Name()+`"`, "SCHEMA", fmt.Sprint("m", i)).Replace(m.statements)
					m.run(t, db, fmt.Sprint("m", i), form)
				})
			}
		})
	}
}

func (m migration) run(t *testing.T, db *sqlx.DB, schema, form string) {
	db.MustExec(`create schema ` + schema)
	db.MustExec(`set search_path = ` + schema)
	db.MustExec(m.before)
	if form == "nested" { // the application's triggers set the mark for the transaction
		db.MustExec(`create function again() returns trigger language plpgsql as 'begin perform set_config(''devotion.nested'', ''on'', true); return null; end'`)
		db.MustExec(`create trigger aaa before insert or update or delete on t for each statement execute function again()`)
	}
	table := silent(db, schema+".t")
	table.Load, table.KeysOnly = true, form == "keys"
	install(t, table)
	for _, w := range m.writes {
		db.MustExec(w)
	}
	copied := replica{}
	at := copied.follow(t, table, "")
	if m.key != "" {
		copied.requireSame(t, db, schema+".t", m.key)
	}
	db.MustExec(m.statements)
	after := m.after
	if after == nil {
		after = m.writes
	}
	for _, w := range after {
		_, err := db.Exec(w)
		require.NoError(t, err, w)
	}
	if m.key == "" {
		lab.RequirePermanent(t, table.Check(t.Context()), "it is not a table")
		return
	}
	fresh := silent(db, schema+".t")
	fresh.KeysOnly = form == "keys"
	install(t, fresh)
	if m.gap {
		_, err := lab.Fetch(t, fresh, at, 100)
		require.ErrorIs(t, err, changelog.ErrGap)
		return
	}
	copied.follow(t, fresh, at)
	copied.requireSame(t, db, schema+".t", m.key)
}
