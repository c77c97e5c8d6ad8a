package changelog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/changelog"
)

var mariadbMigrations = []struct {
	name, statement, key string
	write                string // one more, after the migration
	gap                  bool   // changes of the key's column cannot be recorded until the script runs
	rebuilt              bool   // which looks like TRUNCATE, so the cursor is adopted
}{
	{name: "dropped column", statement: `alter table {t} drop column w`, key: "id"},
	{name: "renamed column", statement: `alter table {t} rename column w to x`, key: "id"},
	{name: "changed column", statement: `alter table {t} change column w x varchar(10)`, key: "id", rebuilt: true},
	{name: "added column", statement: `alter table {t} add column x int`, key: "id"},
	{name: "other type", statement: `alter table {t} modify v varchar(30)`, key: "id", rebuilt: true},
	{name: "geometry", statement: `alter table {t} modify p varchar(30)`, key: "id", write: `insert into {t} (v, p) values (9, 'text')`, rebuilt: true},
	{name: "wider key", statement: `alter table {t} modify id bigint auto_increment`, key: "id", rebuilt: true},
	{name: "renamed key", statement: `alter table {t} rename column id to number`, key: "number", gap: true},
	{name: "renamed table", statement: `rename table {t} to {t}u`},
}

// The application writes as before after each migration, before the script runs again. A copy then equals the table.
func TestMigrationsMariaDB(t *testing.T) {
	t.Parallel()
	for _, keysOnly := range []bool{false, true} {
		db := lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL)
		for i, m := range mariadbMigrations {
			if keysOnly && m.key == "id" && i > 0 {
				continue
			}
			t.Run(fmt.Sprint(m.name, keysOnly), func(t *testing.T) {
				name := fmt.Sprint("t", i)
				exec := func(statement string) {
					t.Helper()
					_, err := db.Exec(strings.ReplaceAll(statement, "{t}", name))
					require.NoError(t, err, statement)
				}
				exec(`create table {t} (id int primary key auto_increment, v int, w int, p point)`)
				open := func() *changelog.Table { return &changelog.Table{DB: db, Name: name, KeysOnly: keysOnly, Load: true} }
				install(t, open())
				copied := replica{}
				var at source.Cursor
				for phase := range 2 {
					if phase == 1 {
						exec(m.statement)
						if m.key == "" {
							name += "u"
						}
					}
					if !m.gap { // moves the rows of the first phase
						exec(`update {t} set id = id + 10`)
					}
					exec(`insert into {t} (v) values (5), (6)`)
					exec(`update {t} set v = v + 1`)
					exec(`update {t} set v = 8 where v = 6`)
					exec(`delete from {t} where v = 7`)
					exec(`replace into {t} (v) values (5)`)
					if !m.gap {
						exec(`update {t} set id = id + 10`)
						exec(`update ignore {t} set id = 14`)
					}
					if phase == 1 && m.write != "" {
						exec(m.write)
					}
					if phase == 1 && m.key == "" {
						require.Error(t, open().Check(t.Context()))
						return
					}
					install(t, open())
					if phase == 1 && m.gap {
						_, err := lab.Fetch(t, open(), at, 100)
						require.ErrorIs(t, err, changelog.ErrGap)
						return
					}
					if phase == 1 && m.rebuilt {
						_, err := lab.Fetch(t, open(), at, 100)
						require.ErrorIs(t, err, changelog.ErrGap)
						at, err = open().Adopt(t.Context(), at)
						require.NoError(t, err)
					}
					at = copied.follow(t, open(), at)
					copied.requireSame(t, db, name, "id")
				}
			})
		}
	}
}

// A foreign key whose column is dropped does not make writes of the parent fail.
func TestDroppedForeignKeyMariaDB(t *testing.T) {
	_, db := mariadb(t)
	db.MustExec(`create table parents (id int primary key, code int unique)`)
	db.MustExec(`create table items (id int primary key, parent int, constraint p foreign key (parent) references parents (code) on delete cascade on update cascade)`)
	table := silent(db, "items")
	install(t, table)
	db.MustExec(`insert into parents values (1, 1), (2, 2), (3, 3)`)
	db.MustExec(`insert into items values (1, 1), (2, 2), (3, 3)`)
	db.MustExec(`delete from parents where id = 1`)
	_, at := read(t, table, "")
	db.MustExec(`alter table items rename column parent to above`)
	db.MustExec(`delete from parents where id = 2`)
	db.MustExec(`alter table items drop foreign key p, drop column above`)
	db.MustExec(`alter table parents drop column code`)
	db.MustExec(`update parents set id = 7`)
	db.MustExec(`delete from parents`)
	install(t, table)
	var triggers int
	require.NoError(t, db.Get(&triggers, `select count(*) from information_schema.triggers where event_object_schema = database() and event_object_table = 'parents'`))
	require.Zero(t, triggers)
	_, err := lab.Fetch(t, table, at, 10)
	require.ErrorIs(t, err, changelog.ErrGap)
}

// A key that gets another case is another key for a copy, also if UPDATE IGNORE leaves some rows as they are.
func TestKeyCaseMariaDB(t *testing.T) {
	_, db := mariadb(t)
	db.MustExec(`create table codes (code varchar(10) primary key, u int unique)`)
	db.MustExec(`insert into codes values ('a', 1), ('b', 2), ('c', 3)`)
	for _, keysOnly := range []bool{false, true} {
		table := silent(db, "codes")
		table.Load, table.KeysOnly, table.Changes = true, keysOnly, fmt.Sprint("codes_", keysOnly)
		install(t, table)
		copied := replica{}
		at := copied.follow(t, table, "")
		for _, s := range []string{`update codes set code = upper(code)`, `update ignore codes set code = lower(code), u = 3`, `update codes set code = 'd' where u = 1`, `update codes set u = u + 10`, `update codes set code = 'a' where u = 11`, `update codes set u = u - 10`} {
			db.MustExec(s)
			at = copied.follow(t, table, at)
			copied.requireSame(t, db, "codes", "code")
		}
	}
}
