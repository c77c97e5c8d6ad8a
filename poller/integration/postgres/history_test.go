package postgres

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// requireRefused requires that the cursor is refused with a text that contains the parts:
// by a running source, by a new one, and by Check.
func (r *reading) requireRefused(parts ...string) {
	r.t.Helper()
	fresh := follow(r.t, r.table.DB, r.table.Key...)
	fresh.at = r.at
	for _, r := range []*reading{r, fresh} {
		err := r.fails()
		require.ErrorIs(r.t, err, sqlsource.ErrHistory)
		lab.RequirePermanent(r.t, err, parts...)
		require.ErrorContains(r.t, err, "dbtofile -rewind")
	}
	c, err := r.table.Check(r.t.Context(), r.at)
	require.NoError(r.t, err)
	require.False(r.t, c.Safe())
	require.Contains(r.t, c.String(), "orders: STOPPED.")
	require.Contains(r.t, c.String(), "\nunsafe   the cursor is of another history: ")
}

// adopt continues after the same key in the current history.
func (r *reading) adopt() {
	r.t.Helper()
	adopted, err := r.table.Adopt(r.at)
	require.NoError(r.t, err)
	require.NotEqual(r.t, adopted, r.at)
	require.Equal(r.t, r.table.Describe(r.at), r.table.Describe(adopted))
	r.at = adopted
}

// rewind continues after a given key, or from the beginning.
func (r *reading) rewind(key ...any) {
	r.t.Helper()
	var err error
	r.at, err = r.table.At(key...)
	require.NoError(r.t, err)
}

func TestHistoryOfAnotherCluster(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	lab.OrdersOf(db, 3)
	r := follow(t, db, "id")
	require.Equal(t, []string{"1", "2", "3"}, r.next())

	other := dbtest.StartPostgres(t)
	moved := other.NewDatabase(t).Open(t, dbtest.PQ)
	lab.OrdersOf(moved, 5)
	there := follow(t, moved, "id")
	there.at = r.at
	there.requireRefused("was made on the cluster ", "another server")
	there.adopt()
	require.Equal(t, []string{"4", "5"}, there.next())
	moved.MustExec(`insert into orders (v) values ('v')`)
	require.Equal(t, []string{"6"}, there.next(), "new cursors belong to the new cluster")
	r.at = there.at
	r.requireRefused("was made on the cluster ")

	// Another database of the same cluster.
	second := other.NewDatabase(t).Open(t, dbtest.PGX)
	lab.OrdersOf(second, 8)
	r = follow(t, second, "id")
	r.at = there.at
	r.requireRefused("was made on the database ", "leads to another database")
	r.rewind(6)
	require.Equal(t, []string{"7", "8"}, r.next())
}

func TestHistoryOfARecreatedTable(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		lab.OrdersOf(db, 3)
		r := follow(t, db, "id")
		require.Equal(t, []string{"1", "2", "3"}, r.next())
		db.MustExec(`drop table orders`)
		lab.OrdersOf(db, 5)
		r.requireRefused("was made on the table ", "dropped and recreated")
		adopted := *r
		adopted.adopt()
		require.Equal(t, []string{"4", "5"}, adopted.next())
		r.rewind()
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, r.next())

		// The table is renamed and replaced, as in migrations.
		db.MustExec(`alter table orders rename to old`)
		lab.OrdersOf(db, 6)
		r.requireRefused("another table took its name")
		db.MustExec(`drop table orders`)
		db.MustExec(`alter table old rename to orders`)
		require.Empty(t, r.next(), "put back")
	})
}

// Keys below the cursor are drawn again, so adopting the cursor does not help.
func TestHistoryOfASequenceSetBack(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		lab.OrdersOf(db, 3)
		r := follow(t, db, "id")
		require.Len(t, r.next(), 3)
		db.MustExec(`truncate orders restart identity`)
		r.requireRefused("TRUNCATE RESTART IDENTITY")
		require.NotContains(t, r.fails().Error(), "dbtofile -adopt")
		r.adopt()
		r.requireRefused("TRUNCATE RESTART IDENTITY")
		r.rewind()
		db.MustExec(`insert into orders (v) values ('v')`)
		require.Equal(t, []string{"1"}, r.next())
	})
}

func TestHistoryOfAnEditedQuery(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		lab.OrdersOf(db, 6)
		r := follow(t, db, "id")
		r.table.Where = "t.id <> 2"
		require.Equal(t, []string{"1", "3", "4", "5", "6"}, r.next())
		db.MustExec(`insert into orders (v) values ('v'), ('v')`)
		edited := follow(t, db, "id")
		edited.table.Where, edited.at = "t.id % 2 = 0", r.at
		var log strings.Builder
		edited.table.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c, err := edited.table.Check(t.Context(), r.at)
		require.NoError(t, err)
		require.True(t, c.Safe())
		require.Contains(t, lab.OneLine(c.String()), "another select or condition made the cursor")

		require.Equal(t, []string{"8"}, edited.next())
		require.Empty(t, edited.next())
		require.Equal(t, 1, strings.Count(log.String(), "query changed"), log.String())

		other := follow(t, db, "v", "id")
		other.at = r.at
		lab.RequirePermanent(t, other.fails(), "of another query", "adopt it")
	})
}

// After a stop or a kill, or with an idle server at the start of a page of its log, the
// cursor is still valid. After a restore of its disk or a promotion it is refused.
func TestHistoryThatGoesBack(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	database := server.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.SetMaxIdleConns(0) // no connection survives a restart
	lab.OrdersOf(db, 3)
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
	restore, err := server.Backup()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	require.Empty(t, r.next(), "all rows were read before the backup")
	before := r.at
	for range 100 {
		insert()
	}
	require.Len(t, r.next(), 100)
	require.NoError(t, server.Stop())
	require.NoError(t, restore())
	require.NoError(t, server.Start())
	r.requireRefused("gone back in time", "snapshot")
	adopted := *r
	adopted.adopt()
	adopted.requireRefused("it was set back") // rows up to its key do not exist yet
	r.at = before
	insert()
	require.Len(t, r.next(), 1, "a cursor from before the backup is valid")

	// Recovery to a point in time, here the end of the log, starts a new timeline.
	var data string
	require.NoError(t, db.Get(&data, `show data_directory`))
	db.MustExec(`alter system set restore_command = 'false'`)
	db.MustExec(`copy (select) to '` + data + `/recovery.signal'`)
	require.NoError(t, server.Stop())
	require.NoError(t, server.Start())
	lab.WaitFor(t, func() bool {
		var recovers bool
		return db.Get(&recovers, `select pg_is_in_recovery()`) == nil && !recovers
	})
	r.requireRefused("was made on the timeline 1, this is the timeline 2", "a standby was promoted")
	insert()
	r.adopt()
	require.Len(t, r.next(), 1)
}

// The insert position of the log is after the header of a page that is not written yet.
// Committed rows are on disk nevertheless, and are delivered at once.
func TestHistoryAtTheEndOfALogFile(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off", "-c", "bgwriter_delay=10s"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	lab.OrdersOf(db, 1)
	r := follow(t, db, "id")
	for range 100 {
		db.MustExec(`insert into orders (v) values ('v')`)
		db.MustExec(`select pg_switch_wal()`)
		b, err := r.table.Fetch(t.Context(), "", 1000)
		require.NoError(t, err)
		var behind bool
		require.NoError(t, db.Get(&behind, `select pg_current_wal_insert_lsn() - '0/0' = 40 + (pg_current_wal_flush_lsn() - '0/0')`))
		if !behind {
			continue // the server has written to the log since
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

// Without the right to read the cluster's identity, the rest of the history is stored, and
// asynchronous commits are still waited for.
func TestHistoryWithoutTheCluster(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	database := server.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(lab.Identity + `; insert into orders (v) values ('1'); revoke execute on function pg_control_system from public`)
	r := follow(t, roleOf(t, database, db, `grant select on orders`), "id")
	require.Equal(t, []string{"1"}, r.next())
	require.Regexp(t, `^2;[0-9a-f]{8};/1/\d+/\d+/\d+/\*[^@]+@\d+;i1;`, string(r.at))
	db.MustExec(`drop table orders; ` + lab.Identity + `; grant select on orders to public`)
	require.ErrorIs(t, r.fails(), sqlsource.ErrHistory)
}
