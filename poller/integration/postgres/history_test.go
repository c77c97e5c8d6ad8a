package postgres

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// refused requires that a cursor is refused, and says what happened, both by a
// source that was running and by one that begins, and by Check.
func (r *reading) refused(parts ...string) {
	r.t.Helper()
	fresh := follow(r.t, r.table.DB, r.table.Key...)
	fresh.at = r.at
	for _, r := range []*reading{r, fresh} {
		err := r.fails()
		require.ErrorIs(r.t, err, sqlsource.ErrHistory)
		requirePermanent(r.t, err, parts...)
		require.ErrorContains(r.t, err, "dbtofile -rewind")
	}
	c, err := r.table.Check(r.t.Context(), r.at)
	require.NoError(r.t, err)
	require.False(r.t, c.Safe())
	require.Contains(r.t, c.String(), "orders: STOPPED.")
	require.Contains(r.t, c.String(), "\nunsafe   the cursor is of another history: ")
}

// adopts continues at the same key in the present history.
func (r *reading) adopts() {
	r.t.Helper()
	adopted, err := r.table.Adopt(r.at)
	require.NoError(r.t, err)
	require.NotEqual(r.t, adopted, r.at)
	require.Equal(r.t, r.table.Describe(r.at), r.table.Describe(adopted))
	r.at = adopted
}

// rewinds goes back to a key, or to the beginning.
func (r *reading) rewinds(key ...any) {
	r.t.Helper()
	var err error
	r.at, err = r.table.At(key...)
	require.NoError(r.t, err)
}

func TestHistoryOfAnotherCluster(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	ordersOf(db, 3)
	r := follow(t, db, "id")
	require.Equal(t, []string{"1", "2", "3"}, r.next())

	other := dbtest.StartPostgres(t)
	moved := other.NewDatabase(t).Open(t, dbtest.PQ)
	ordersOf(moved, 5)
	there := follow(t, moved, "id")
	there.at = r.at
	there.refused("was made on the cluster ", "data source name leads to another server")
	there.adopts()
	require.Equal(t, []string{"4", "5"}, there.next())
	moved.MustExec(`insert into orders (v) values ('v')`)
	require.Equal(t, []string{"6"}, there.next(), "and the cursors are of the new one")
	r.at = there.at
	r.refused("was made on the cluster ")

	// Another database of the same cluster.
	second := other.NewDatabase(t).Open(t, dbtest.PGX)
	ordersOf(second, 8)
	r = follow(t, second, "id")
	r.at = there.at
	r.refused("was made on the database ", "leads to another database")
	r.rewinds(6)
	require.Equal(t, []string{"7", "8"}, r.next())
}

func TestHistoryOfATableMadeAnew(t *testing.T) {
	eachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		ordersOf(db, 3)
		r := follow(t, db, "id")
		require.Equal(t, []string{"1", "2", "3"}, r.next())
		db.MustExec(`drop table orders`)
		ordersOf(db, 5)
		r.refused("was made on the table ", "dropped and recreated")
		adopted := *r
		adopted.adopts()
		require.Equal(t, []string{"4", "5"}, adopted.next())
		r.rewinds()
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, r.next())

		// Renamed aside and replaced, as migrations do.
		db.MustExec(`alter table orders rename to old`)
		ordersOf(db, 6)
		r.refused("another table took its name")
		db.MustExec(`drop table orders`)
		db.MustExec(`alter table old rename to orders`)
		require.Empty(t, r.next(), "put back")
	})
}

// Keys below the cursor are drawn again: continuing after it would lose them.
func TestHistoryOfASequenceSetBack(t *testing.T) {
	eachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		ordersOf(db, 3)
		r := follow(t, db, "id")
		require.Len(t, r.next(), 3)
		db.MustExec(`truncate orders restart identity`)
		r.refused("TRUNCATE RESTART IDENTITY")
		require.NotContains(t, r.fails().Error(), "dbtofile -adopt")
		r.adopts()
		r.refused("TRUNCATE RESTART IDENTITY")
		r.rewinds()
		db.MustExec(`insert into orders (v) values ('v')`)
		require.Equal(t, []string{"1"}, r.next())
	})
}

func TestHistoryOfAnEditedQuery(t *testing.T) {
	eachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		ordersOf(db, 6)
		r := follow(t, db, "id")
		r.table.Where = "t.id <> 2"
		require.Equal(t, []string{"1", "3", "4", "5", "6"}, r.next())
		db.MustExec(`insert into orders (v) values ('v'), ('v')`)
		edited := follow(t, db, "id")
		edited.table.Where, edited.at = "t.id % 2 = 0", r.at
		requirePermanent(t, edited.fails(), "of another query", "adopt it")
		c, err := edited.table.Check(t.Context(), r.at)
		require.NoError(t, err)
		require.False(t, c.Safe())
		require.Contains(t, c.String(), "orders: STOPPED.")
		require.Contains(t, words(c.String()), "is of another query: its fingerprint is")
		require.Equal(t, -1, c.Pending)

		edited.at, err = edited.table.Adopt(r.at)
		require.NoError(t, err)
		require.Equal(t, []string{"8"}, edited.next())
	})
}

// A server that is stopped, killed, or idle after a page of its log continues; one
// whose disk is put back as it was, or that was promoted, does not.
func TestHistoryThatGoesBack(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	database := server.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.SetMaxIdleConns(0) // none from before a restart
	ordersOf(db, 3)
	r := follow(t, db, "id")
	insert := func() { db.MustExec(`insert into orders (v) values ('v')`) }
	require.Equal(t, []string{"1", "2", "3"}, r.next())
	for i, halt := range []func() error{server.Stop, server.Kill} {
		require.NoError(t, halt())
		require.NoError(t, server.Start())
		require.Empty(t, r.next())
		insert()
		require.Len(t, r.next(), 1, "after %d", i)
	}

	require.NoError(t, server.Stop())
	backup, err := server.Backup()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	require.Empty(t, r.next(), "a backup is taken")
	before := r.at
	for range 100 {
		insert()
	}
	require.Len(t, r.next(), 100)
	require.NoError(t, server.Stop())
	require.NoError(t, backup.Restore())
	require.NoError(t, server.Start())
	r.refused("has gone back in time", "a backup or a snapshot was restored")
	adopted := *r
	adopted.adopts()
	adopted.refused("it was set back") // rows up to its key are still to come
	r.at = before
	insert()
	require.Len(t, r.next(), 1, "a cursor from before the backup")

	// Recovery to a point in time, here the end of the log, begins a timeline.
	var data string
	require.NoError(t, db.Get(&data, `show data_directory`))
	db.MustExec(`alter system set restore_command = 'false'`)
	db.MustExec(`copy (select) to '` + data + `/recovery.signal'`)
	require.NoError(t, server.Stop())
	require.NoError(t, server.Start())
	waitFor(t, func() bool {
		var recovers bool
		return db.Get(&recovers, `select pg_is_in_recovery()`) == nil && !recovers
	})
	r.refused("was made on the timeline 1, this is the timeline 2", "a standby was promoted")
	insert()
	r.adopts()
	require.Len(t, r.next(), 1)
}

// The log's insert position lies after the header of a page that is not written yet.
// Committed rows are on disk anyway, and are delivered at once.
func TestHistoryAtTheEndOfALogFile(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off", "-c", "bgwriter_delay=10s"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	ordersOf(db, 1)
	r := follow(t, db, "id")
	for range 100 {
		db.MustExec(`insert into orders (v) values ('v')`)
		db.MustExec(`select pg_switch_wal()`)
		b, err := r.table.Fetch(t.Context(), "", 1000)
		require.NoError(t, err)
		var behind bool
		require.NoError(t, db.Get(&behind, `select pg_current_wal_insert_lsn() - '0/0' = 40 + (pg_current_wal_flush_lsn() - '0/0')`))
		if !behind {
			continue // the server has written since
		}
		require.Nil(t, b.Held)
		require.NotEmpty(t, b.Records)
		c, err := r.table.Check(t.Context(), b.To)
		require.NoError(t, err)
		require.True(t, c.Safe(), c)
		return
	}
	t.Fatal("the server was never idle")
}

// Without the right to read the cluster's identity, the rest of the history is kept,
// and asynchronous commits are still waited for.
func TestHistoryWithoutTheCluster(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	database := server.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(identity + `; insert into orders (v) values ('1'); revoke execute on function pg_control_system from public`)
	r := follow(t, roleOf(t, database, db, `grant select on orders`), "id")
	require.Equal(t, []string{"1"}, r.next())
	require.Regexp(t, `^2;[0-9a-f]{8};/1/\d+/\d+/\d+@\d+;i1;`, string(r.at))
	db.MustExec(`drop table orders; ` + identity + `; grant select on orders to public`)
	require.ErrorIs(t, r.fails(), sqlsource.ErrHistory)
}
