package pglog_test

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/pglog"
)

func version(t *testing.T, db *sqlx.DB) (n int) {
	t.Helper()
	require.NoError(t, db.Get(&n, `select current_setting('server_version_num')::int / 10000`))
	return n
}

// follow runs statements after the copy of the existing rows, and returns the changes.
func follow(t *testing.T, db *sqlx.DB, statements ...string) []string {
	t.Helper()
	s := open(t, db)
	_, at := read(t, s, "", 100)
	for _, statement := range statements {
		db.MustExec(statement)
	}
	got, _ := read(t, s, at, 100)
	return texts(t, got)
}

func TestTables(t *testing.T) {
	t.Parallel()
	server := start(t)
	database := func(t *testing.T) *sqlx.DB {
		t.Parallel()
		return server.NewDatabase(t).Open(t, dbtest.PGX)
	}
	large := `(select string_agg(md5(i::text), '') from generate_series(1, 400) i)`
	t.Run("unchanged large value", func(t *testing.T) {
		db := database(t)
		db.MustExec(`create table t (id int primary key, n int, v text); alter table t alter v set storage external; create publication p for table t`)
		db.MustExec(`insert into t values (1, 1, ` + large + `)`)
		assert.Equal(t, []string{"update public.t {1} {1, 2, UNCHANGED} -", "update public.t {2} {2, 2, UNCHANGED} {1}"},
			follow(t, db, `update t set n = 2`, `update t set id = 2`))
		var v string
		require.NoError(t, db.Get(&v, `select v from t`))
		db.MustExec(`alter table t replica identity full`)
		assert.Equal(t, []string{fmt.Sprintf("update public.t {2} {2, 3, %s} {2, 2, %s}", v, v), fmt.Sprintf("delete public.t {2} - {2, 3, %s}", v)},
			follow(t, db, `update t set n = 3`, `delete from t`))
	})
	t.Run("identities", func(t *testing.T) {
		db := database(t)
		db.MustExec(`create table t (a int, b int not null, c int primary key); create unique index i on t (b); alter table t replica identity using index i; create publication p for table t`)
		assert.Equal(t, []string{"insert public.t {2} {1, 2, 3} -", "update public.t {2} {5, 2, 3} -", "update public.t {4} {5, 4, 3} {2}", "delete public.t {4} - {4}"},
			follow(t, db, `insert into t values (1, 2, 3)`, `update t set a = 5`, `update t set b = 4`, `delete from t`))
		db.MustExec(`create table keyless (a int); alter table keyless replica identity full; alter publication p add table keyless; insert into keyless values (1), (1)`)
		s := open(t, db)
		got, at := read(t, s, "", 1)
		assert.Equal(t, []string{"upsert public.keyless - {1} -", "upsert public.keyless - {1} -"}, texts(t, got))
		db.MustExec(`update keyless set a = 2; delete from keyless`)
		got, _ = read(t, s, at, 10)
		assert.Equal(t, []string{"update public.keyless - {2} {1}", "update public.keyless - {2} {1}", "delete public.keyless - - {2}", "delete public.keyless - - {2}"}, texts(t, got))
		db.MustExec(`create table bad (a int); alter publication p add table bad`)
		s2 := open(t, db)
		_, err := s2.Fetch(t.Context(), "", 10)
		require.ErrorIs(t, err, pglog.ErrIdentity)
		lab.RequirePermanent(t, err, "public.bad", "REPLICA IDENTITY FULL")
		db.MustExec(`alter table bad add primary key (a) deferrable`)
		_, err = s2.Fetch(t.Context(), "", 10)
		require.ErrorIs(t, err, pglog.ErrIdentity, "a deferrable key identifies no rows")
		db.MustExec(`alter table bad replica identity nothing`)
		_, err = s2.Fetch(t.Context(), "", 10)
		require.ErrorIs(t, err, pglog.ErrIdentity)
	})
	t.Run("truncate", func(t *testing.T) {
		db := database(t)
		db.MustExec(`create table a (id int primary key); create table b (id int primary key references a); create table c (id int primary key); create publication p for table a, b, c`)
		got := follow(t, db, `insert into a values (1)`, `truncate a, c cascade`)
		assert.ElementsMatch(t, []string{"insert public.a {1} {1} -", "truncate public.a - - -", "truncate public.b - - -", "truncate public.c - - -"}, got)
	})
	t.Run("partitions", func(t *testing.T) {
		db := database(t)
		db.MustExec(`create table t (id int primary key, v text) partition by range (id); create table t1 partition of t for values from (0) to (10); create table t2 partition of t for values from (10) to (20);
			insert into t values (1, 'a'); create publication p for table t`)
		s := open(t, db)
		got, at := read(t, s, "", 1)
		assert.Equal(t, []string{"upsert public.t1 {1} {1, a} -"}, texts(t, got))
		db.MustExec(`insert into t values (11, 'b'); update t set id = 12 where id = 1`)
		got, _ = read(t, s, at, 10)
		assert.Equal(t, []string{"insert public.t2 {11} {11, b} -", "delete public.t1 {1} - {1}", "insert public.t2 {12} {12, a} -"}, texts(t, got))
		db.MustExec(`drop publication p; create publication p for table t with (publish_via_partition_root)`)
		s = open(t, db)
		got, at = read(t, s, "", 1)
		assert.Equal(t, []string{"upsert public.t {11} {11, b} -", "upsert public.t {12} {12, a} -"}, texts(t, got))
		db.MustExec(`update t set id = 2 where id = 12`)
		db.MustExec(`create table t3 partition of t for values from (20) to (30); insert into t values (21, 'c'); truncate t`)
		got, _ = read(t, s, at, 10)
		assert.Equal(t, []string{"delete public.t {12} - {12}", "insert public.t {2} {2, a} -", "insert public.t {21} {21, c} -", "truncate public.t - - -"}, texts(t, got))
	})
	t.Run("inheritance", func(t *testing.T) {
		db := database(t)
		db.MustExec(`create table t (id int primary key); create table child (primary key (id)) inherits (t); insert into t values (1); insert into child values (2); create publication p for table t, child`)
		s := open(t, db)
		got, _ := read(t, s, "", 1)
		assert.ElementsMatch(t, []string{"upsert public.t {1} {1} -", "upsert public.child {2} {2} -"}, texts(t, got))
	})
	t.Run("changed columns", func(t *testing.T) {
		db := database(t)
		db.MustExec(`create table t (id int primary key, a int, b text); create publication p for table t`)
		assert.Equal(t, []string{"insert public.t {1} {1, 2, x} -", "insert public.t {2} {2, 2, x, true} -", "update public.t {1} {1, x, true} -", "update public.t {1} {1, z, true} -",
			"insert public.t {2.5} {2.5, 1, false} -", "insert public.renamed {3} {3, 1, false} -"},
			follow(t, db, `insert into t values (1, 2, 'x')`, `alter table t add c bool default true`, `insert into t values (2, 2, 'x')`, `alter table t drop a`, `update t set b = 'x' where id = 1`,
				`alter table t rename b to bb`, `update t set bb = 'z' where id = 1`, `begin; alter table t alter id type numeric; alter table t alter bb type int using 1; insert into t values (2.5, 1, false); commit`,
				`alter table t rename to renamed`, `insert into renamed values (3, 1, false)`))
	})
	t.Run("generated columns and names", func(t *testing.T) {
		db := database(t)
		db.MustExec(`create schema "My.Schema"; create table "My.Schema"."a ""table""" ("the id" int primary key, n int, twice int generated always as (n * 2) stored); insert into "My.Schema"."a ""table""" values (1, 2); create publication "P p" for all tables`)
		s := open(t, db)
		s.Publication = "P p"
		got, at := read(t, s, "", 1)
		assert.Equal(t, []string{`upsert "My.Schema"."a ""table""" {1} {1, 2} -`}, texts(t, got))
		db.MustExec(`update "My.Schema"."a ""table""" set n = 3`)
		got, _ = read(t, s, at, 1)
		assert.Equal(t, []string{`update "My.Schema"."a ""table""" {1} {1, 3} -`}, texts(t, got))
		assert.Equal(t, "the id", got[0].Row.Columns().Name(0))
	})
	t.Run("column lists and row filters", func(t *testing.T) {
		db := database(t)
		if version(t, db) < 15 {
			return // they do not exist
		}
		db.MustExec(`create table t (id int primary key, a int, b text); insert into t values (1, 1, 'x'), (2, 2, 'y'); create publication p for table t (id, a) where (id > 1)`)
		s := open(t, db)
		got, at := read(t, s, "", 1)
		assert.Equal(t, []string{"upsert public.t {2} {2, 2} -"}, texts(t, got))
		db.MustExec(`update t set a = 5`)
		got, _ = read(t, s, at, 10)
		assert.Equal(t, []string{"update public.t {2} {2, 5} -"}, texts(t, got))
	})
}

func TestSomeTables(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table a (id int primary key); create table b (id int primary key); insert into a values (1); insert into b values (1); create publication p for all tables`)
	s := open(t, db, "public.b")
	got, at := read(t, s, "", 10)
	assert.Equal(t, []string{"upsert public.b {1} {1} -"}, texts(t, got))
	db.MustExec(`insert into a values (2); insert into b values (2); truncate a, b`)
	db.MustExec(`alter table b rename to c; insert into c values (4)`)
	again := open(t, db, "public.b")
	again.Slot = s.Slot
	_, err := again.Fetch(t.Context(), at, 10)
	require.ErrorIs(t, err, pglog.ErrTables)
	lab.RequirePermanent(t, err, "public.b", "renamed")
	again = open(t, db, "public.c")
	again.Slot = s.Slot
	got, _ = read(t, again, at, 1)
	assert.Equal(t, []string{"insert public.b {2} {2} -", "truncate public.b - - -", "insert public.c {4} {4} -"}, texts(t, got), "no change is lost")
}

// Another table takes the name of one whose changes are not read yet.
func TestTableIsSwapped(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); insert into t values (1); create publication p for all tables`)
	s := open(t, db, "public.t")
	_, at := read(t, s, "", 10)
	require.NoError(t, s.Close())
	db.MustExec(`insert into t values (2); delete from t where id = 1`)
	db.MustExec(`alter table t rename to t_old; create table t (id bigint primary key); insert into t select * from t_old`)
	again := open(t, db, "public.t")
	again.Slot = s.Slot
	got, _ := read(t, again, at, 10)
	assert.Equal(t, []string{"insert public.t {2} {2} -", "delete public.t {1} - {1}", "insert public.t {2} {2} -"}, texts(t, got))
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key, v int); create publication p for table t; insert into t values (1, 1); `)
	db.MustExec(`begin; insert into t values (2, 2); prepare transaction 'before'`) // is committed after the copy
	open1 := lab.Begin(t, db, `insert into t values (3, 3)`)
	done := make(chan error, 1)
	s := open(t, db)
	s.SkipCopy = false
	go func() { // the server waits for all transactions before the slot exists
		lab.WaitFor(t, func() bool {
			var n int
			return db.Get(&n, `select count(*) from pg_replication_slots where slot_name = $1`, s.Slot) == nil && n == 1
		})
		_, err := db.Exec(`commit prepared 'before'`)
		if err == nil {
			err = open1.Commit()
		}
		done <- err
	}()
	got, at := read(t, s, "", 10)
	require.NoError(t, <-done)
	assert.Equal(t, []string{"upsert public.t {1} {1, 1} -", "upsert public.t {2} {2, 2} -", "upsert public.t {3} {3, 3} -"}, texts(t, got))

	db.MustExec(`begin; insert into t values (4, 4); savepoint a; insert into t values (5, 5); rollback to a; savepoint b; insert into t values (6, 6); release b; commit`)
	db.MustExec(`begin; insert into t values (7, 7); prepare transaction 'x'`)
	db.MustExec(`insert into t values (8, 8) on conflict (id) do update set v = 0`)
	db.MustExec(`insert into t values (8, 8) on conflict (id) do update set v = 9`)
	db.MustExec(`commit prepared 'x'`)
	got, _ = read(t, s, at, 1)
	assert.Equal(t, []string{"insert public.t {4} {4, 4} -", "insert public.t {6} {6, 6} -", "insert public.t {8} {8, 8} -", "update public.t {8} {8, 9} -", "insert public.t {7} {7, 7} -"}, texts(t, got))
	assert.Equal(t, got[0].Transaction, got[1].Transaction)
	assert.NotEqual(t, got[1].Transaction, got[2].Transaction)
	assert.False(t, got[0].At.IsZero())
}
