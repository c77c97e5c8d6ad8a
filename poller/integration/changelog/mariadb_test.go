package changelog

import (
	"errors"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/changelog"
)

func mariadb(t *testing.T) (dbtest.Database, *sqlx.DB) {
	t.Helper()
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	return d, d.Open(t, dbtest.MySQL)
}

// The results that a session reads about its own INSERT do not change.
func TestMariaDBApplication(t *testing.T) {
	_, db := mariadb(t)
	db.SetMaxOpenConns(1)
	db.MustExec("create table `or``d.ers` (id int auto_increment primary key, `old_v``` varchar(3000), w varchar(3000), x varchar(3000), y varchar(3000), z varchar(3000), g int as (length(w) + 1) virtual, h int as (length(w) + 2) stored, i int invisible default 7)")
	db.MustExec("create table `or``d.ers_changes` (mine int)")
	table := silent(db, "\"or`d.ers\"")
	for range 5 { // numbers of changes and of rows differ
		reinstall(t, table)
	}
	_, after := read(t, table, "")
	db.MustExec("insert into `or``d.ers` (`old_v```, w) values ('q', 'w')")
	for want := 2; want < 4; want++ {
		result := db.MustExec("insert into `or``d.ers` (`old_v```) values ('v'), ('w')")
		id, err := result.LastInsertId()
		require.NoError(t, err)
		var last, rows int64
		require.NoError(t, db.QueryRow("select last_insert_id(), row_count()").Scan(&last, &rows))
		require.Equal(t, id, last)
		count, err := result.RowsAffected()
		require.NoError(t, err)
		require.EqualValues(t, 2, count)
	}
	db.MustExec("set sql_mode = 'STRICT_ALL_TABLES'")
	db.MustExec("create table plain (id int primary key)")
	plain := silent(db, "plain")
	install(t, plain)
	id, err := db.MustExec("insert into plain values (42)").LastInsertId()
	require.NoError(t, err)
	require.Zero(t, id)
	got, _ := read(t, table, after)
	require.Len(t, got, 5)
	require.Contains(t, got[0], `"g":2,"h":3,"i":7`)

	_, after = read(t, plain, "")
	db.MustExec("lock tables plain write")
	_, failed := db.Exec("insert into plain values (43)")
	db.MustExec("unlock tables")
	got, _ = read(t, plain, after)
	if failed != nil { // a fault of the server, which doc.go names
		require.ErrorContains(t, failed, "1442")
		require.Empty(t, got)
		return
	}
	require.Len(t, got, 1)
}

// A foreign key changes rows without running their triggers.
func TestMariaDBCascades(t *testing.T) {
	_, db := mariadb(t)
	db.MustExec(`create table parents (id int primary key, code varchar(10) unique)`)
	db.MustExec(`create table items (parent int, n int, code varchar(10), v int, primary key (parent, n), foreign key (parent) references parents (id) on update cascade on delete cascade,
		foreign key (code) references parents (code) on update cascade on delete set null)`)
	db.MustExec(`create table guards (parent int, foreign key (parent) references parents (id))`)
	for _, keysOnly := range []bool{false, true} {
		db.MustExec(`delete from guards`)
		db.MustExec(`delete from parents`)
		table := silent(db, "items")
		table.KeysOnly = keysOnly
		if keysOnly {
			table.Changes = "items_keys"
		}
		reinstall(t, table)
		copied := replica{}
		at := copied.follow(t, table, "")
		for _, s := range []string{
			`insert into parents values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')`,
			`insert into items values (1, 1, 'a', 1), (1, 2, 'b', 2), (2, 1, 'a', 3), (3, 1, 'c', 4), (4, 1, null, 5)`,
			`update parents set code = 'A' where id = 1`,
			`update parents set id = 9, code = 'z' where id = 1`,
			`update parents set code = 'q' where id = 2`,
			`delete from parents where id = 2`,
			`insert into guards values (9)`,
			`delete ignore from parents where id in (9, 3)`,
			`delete from guards`,
			`delete from parents where id = 9`,
		} {
			db.MustExec(s)
			at = copied.follow(t, table, at)
			copied.requireSame(t, db, "items", "parent", "n")
		}
		require.Len(t, copied, 1)
	}
}

// A row that is too large is one bad record, also if it is looked up, and those before it come first.
func TestMariaDBLargeRow(t *testing.T) {
	_, db := mariadb(t)
	db.MustExec(`create table parents (id int primary key)`)
	db.MustExec(`create table items (id int primary key, parent int, v mediumtext, foreign key (parent) references parents (id) on delete set null)`)
	table := silent(db, "items")
	table.MaxRowBytes = 100_000
	install(t, table)
	db.MustExec(`insert into parents values (1)`)
	db.MustExec(`insert into items values (1, 1, 'a'), (2, 1, repeat('x', 200000)), (3, 1, 'c')`)
	db.MustExec(`delete from parents`)
	var got []string
	var after source.Cursor
	for more := true; more; {
		b, err := lab.Fetch(t, table, after, 10)
		var bad *source.BadRecord
		if errors.As(err, &bad) {
			got, after = append(got, "bad "+bad.Key), bad.To
			continue
		}
		require.NoError(t, err)
		for _, c := range b.Records {
			got = append(got, c.Op.String()+" "+lab.RowJSON(c.Key))
		}
		after, more = b.To, b.More || len(b.Records) > 0
	}
	require.Equal(t, []string{`insert {"id":1}`, "bad seq 3", `insert {"id":3}`, `upsert {"id":1}`, "bad seq 6", `upsert {"id":3}`}, got)
}

// Two levels of foreign keys are refused: the parent's own triggers do not run.
func TestMariaDBRefuses(t *testing.T) {
	_, db := mariadb(t)
	db.MustExec(`create table top (id int primary key)`)
	db.MustExec(`create table middle (id int primary key, top int, foreign key (top) references top (id) on delete cascade)`)
	db.MustExec(`create table leaf (id int primary key, middle int, foreign key (middle) references middle (id) on delete cascade)`)
	db.MustExec(`create table tree (id int primary key, parent int, foreign key (parent) references tree (id) on delete cascade)`)
	db.MustExec(`create table slow (id int primary key) engine = MyISAM`)
	for name, part := range map[string]string{"leaf": "in turn", "tree": "levels", "slow": "MyISAM", "none": "does not exist"} {
		_, err := silent(db, name).Script(t.Context())
		lab.RequirePermanent(t, err, part)
	}
	install(t, silent(db, "middle"))
}

// TRUNCATE runs no trigger. The table's new id shows it.
func TestMariaDBTruncate(t *testing.T) {
	_, db := mariadb(t)
	table := orders(t, dbtest.MySQL, db)
	db.MustExec(`insert into orders (v) values ('d')`)
	_, after := read(t, table, "")
	db.MustExec(`alter table orders add n int`) // in place
	install(t, table)
	db.MustExec(`insert into orders (v) values ('e')`)
	got, after := read(t, table, after)
	require.Len(t, got, 1)
	db.MustExec(`truncate orders`)
	db.MustExec(`insert into orders (v) values ('f')`)
	_, err := lab.Fetch(t, table, after, 10)
	require.ErrorIs(t, err, changelog.ErrGap)
	lab.RequirePermanent(t, err, "TRUNCATE")
	_, err = lab.Fetch(t, silent(db, "orders"), after, 10)
	require.ErrorIs(t, err, changelog.ErrGap)
	adopted, err := table.Adopt(t.Context(), after)
	require.NoError(t, err)
	got, _ = read(t, table, adopted)
	require.Len(t, got, 1)
}

// Writers need no rights on the change table, and a reader that does not see the triggers is told so.
func TestMariaDBRoles(t *testing.T) {
	d, db := mariadb(t)
	table := orders(t, dbtest.MySQL, db)
	user := func(name string, grants ...string) *sqlx.DB {
		name += d.Name()
		db.MustExec(`create user '` + name + `'@'%' identified by 'secret'`)
		t.Cleanup(func() { db.MustExec(`drop user '` + name + `'@'%'`) })
		for _, g := range grants {
			db.MustExec(strings.ReplaceAll(g, "USER", "'"+name+"'@'%'"))
		}
		return d.WithUser(name, "secret").Open(t, dbtest.MySQL)
	}
	writer := user("w", `grant insert, update, delete, select on orders to USER`)
	writer.MustExec(`insert into orders (v) values ('d')`)
	writer.MustExec(`update orders set v = 'e' where v = 'd'`)
	writer.MustExec(`delete from orders where v = 'e'`)
	blind := user("b", `grant process on *.* to USER`, `grant select on orders to USER`, `grant select on orders_changes to USER`)
	_, err := silent(blind, "orders").Fetch(t.Context(), "", 10)
	lab.RequirePermanent(t, err, "TRIGGER")
	grants, err := table.Grants(t.Context(), "USER", "")
	require.NoError(t, err)
	reader := user("r", grants...)
	got, after := read(t, silent(reader, "orders"), "")
	require.Len(t, got, 3)
	reader.SetMaxOpenConns(1)
	reader.MustExec(`set sql_mode = 'ANSI_QUOTES'`) // which quotes names in SHOW GRANTS
	require.NoError(t, silent(reader, "orders").Check(t.Context()))
	grants, err = table.Grants(t.Context(), "", "USER")
	require.NoError(t, err)
	_, err = table.Prune(t.Context(), user("p", grants...).DB, after)
	require.NoError(t, err)
}

// Values of a type that changed would be recorded truncated.
func TestMariaDBRetype(t *testing.T) {
	_, db := mariadb(t)
	table := orders(t, dbtest.MySQL, db)
	_, after := read(t, table, "")
	db.MustExec(`alter table orders modify v varchar(40)`)
	db.MustExec(`insert into orders (v) values (repeat('x', 40))`)
	_, err := lab.Fetch(t, table, after, 10)
	lab.RequirePermanent(t, err, "type", `"v"`)
	db.MustExec(`drop trigger orders_changes_update`)
	db.MustExec(`create trigger orders_changes_update after update on orders for each row set @nothing = 1`)
	lab.RequirePermanent(t, table.Check(t.Context()), "orders_changes_update is not that")
	s, err := table.Remove(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Run(t.Context(), db))
	require.NoError(t, s.Run(t.Context(), db))
}
