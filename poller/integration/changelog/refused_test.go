package changelog

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// A table that was a partition is not part of the table.
func TestDetachedPartition(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	db.MustExec(`create table parts (id int primary key, v int) partition by range (id); create table parts_d partition of parts default`)
	db.MustExec(`insert into parts values (1, 1), (2, 2)`)
	table := silent(db, "parts")
	install(t, table)
	db.MustExec(`begin; alter table parts detach partition parts_d; create table parts_1 partition of parts for values from (0) to (100); insert into parts select * from parts_d; commit`)
	_, at := read(t, table, "")
	db.MustExec(`truncate parts_d`)
	got, at := read(t, table, at)
	require.Empty(t, got)
	install(t, table)
	db.MustExec(`truncate parts_1`)
	b, err := lab.Fetch(t, table, at, 10)
	require.NoError(t, err)
	require.Len(t, b.Records, 2)
	require.Contains(t, b.Guarantee.Text, "DETACH or DROP, are not changes")
	require.Contains(t, b.Guarantee.Text, "deletes a row in WITH")
}

// A key that is checked at the end of the transaction has changes in another order.
func TestDeferredKey(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	db.MustExec(`create table things (id int primary key deferrable initially deferred, v text)`)
	_, err := silent(db, "things").Script(t.Context())
	lab.RequirePermanent(t, err, "no unique index")
}

// Rows that row level security hides would look deleted.
func TestRowSecurity(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	things(db)
	db.MustExec(`alter table things enable row level security, force row level security`)
	_, err := silent(db, "things").Script(t.Context())
	lab.RequirePermanent(t, err, "row level security")
	db.MustExec(`alter table things no force row level security`)
	table := silent(db, "things")
	table.KeysOnly = true
	install(t, table)
	db.MustExec(`create role changelog_hidden; grant select on things, things_changes to changelog_hidden`)
	t.Cleanup(func() { db.MustExec(`reset role; drop owned by changelog_hidden; drop role changelog_hidden`) })
	db.SetMaxOpenConns(1)
	db.MustExec(`set role changelog_hidden`)
	lab.RequirePermanent(t, table.Check(t.Context()), "row level security")

	// Without KeysOnly, the rows of changes that were not read before ADD COLUMN are looked up, too.
	db.MustExec(`reset role`)
	db.MustExec(`alter table things disable row level security`)
	full := silent(db, "things")
	full.Changes = "things_full"
	install(t, full)
	db.MustExec(`grant select on things_full to changelog_hidden`)
	_, at := read(t, full, "")
	db.MustExec(`insert into things values (71), (72)`)
	db.MustExec(`alter table things enable row level security, add column more int`)
	install(t, full)
	db.MustExec(`set role changelog_hidden`)
	_, err = lab.Fetch(t, full, at, 10)
	lab.RequirePermanent(t, err, "row level security")
}

// A script that fails leaves the connection as it was.
func TestFailedScriptMariaDB(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL)
	db.SetMaxOpenConns(1)
	things(db)
	mode := func() (m string) {
		require.NoError(t, db.Get(&m, `select @@sql_mode`))
		return m
	}
	before := mode()
	s, err := silent(db, "things").Script(t.Context())
	require.NoError(t, err)
	db.MustExec(`create table other (id int primary key)`)
	db.MustExec(`create trigger things_changes_delete before insert on other for each row set @x = 1`)
	require.Error(t, s.Run(t.Context(), db))
	require.Equal(t, before, mode())
}

// A partial index does not tell all rows apart.
func TestSQLitePartialIndex(t *testing.T) {
	eachSQLite(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table part (id integer primary key, k text not null, live int); create unique index pu on part (k) where live`)
		table := silent(db, "part")
		table.Key = []string{"k"}
		_, err := table.Script(t.Context())
		lab.RequirePermanent(t, err, "no unique index")
	})
}
