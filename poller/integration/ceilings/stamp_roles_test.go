package ceilings

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// openTransaction runs statements on a new connection, and returns how to run more.
func openTransaction(t *testing.T, db *sqlx.DB, statements ...string) (run func(...string)) {
	conn, err := db.Connx(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	run = func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			_, err := conn.ExecContext(context.Background(), s)
			require.NoError(t, err)
		}
	}
	run(statements...)
	return run
}

// waits requires that the reader reads no row, and that somebody is named.
func waits(t *testing.T, table *sqlsource.Table, after source.Cursor, named string) {
	t.Helper()
	lab.WaitFor(t, func() bool {
		b, err := table.Fetch(t.Context(), after, 10)
		require.NoError(t, err)
		require.Empty(t, b.Records)
		return b.Held != nil && len(b.Held.By) > 0 && strings.Contains(b.Held.By[0], named)
	})
}

// A role that may only read the table sees the transactions of others: one that has only begun, one that
// has written, and one that is prepared. Those of another database do not matter.
func TestStampOfAPlainRoleOnPostgres(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		database, other := server.NewDatabase(t), server.NewDatabase(t).Open(t, driver)
		db, role := database.Open(t, driver), database.Name()+"_reader"
		db.MustExec(`create table t (at timestamptz not null, id int not null, n int, primary key (at, id))`)
		db.MustExec(`create role ` + role + ` login password 'pw'`)
		t.Cleanup(func() { db.MustExec(`drop owned by ` + role + `; drop role ` + role) })
		db.MustExec(`grant select on t to ` + role)
		table := stamped(database.WithUser(role, "pw").Open(t, driver), "t", ceiling.Stamp{Margin: 50 * time.Millisecond}, "at", "id")
		elsewhere := openTransaction(t, other, `begin`, `create table x (i int)`)

		begun := openTransaction(t, db, `begin`)
		db.MustExec(`insert into t values (clock_timestamp(), 2, 2)`)
		waits(t, table, "", "pid ")
		begun(`insert into t values (now(), 1, 1)`, `commit`)
		got, at := lab.ReadAll(t, table, "", 10, number)
		require.Equal(t, []string{"1", "2"}, got)

		begun(`begin`, `insert into t values (clock_timestamp(), 3, 3)`, `prepare transaction '`+role+`'`)
		db.MustExec(`insert into t values (clock_timestamp(), 4, 4)`)
		waits(t, table, at, fmt.Sprintf("prepared transaction %q", role))
		db.MustExec(`commit prepared '` + role + `'`)
		got, _ = lab.ReadAll(t, table, at, 10, number)
		require.Equal(t, []string{"3", "4"}, got)
		elsewhere(`rollback`)
	}
}

// On MariaDB the role needs PROCESS. Without it, the margin must cover the time to the commit, and a warning says so.
func TestStampOfAPlainRoleOnMariaDB(t *testing.T) {
	t.Parallel()
	server := dbtest.MariaDB(t)
	for _, driver := range []dbtest.Driver{dbtest.MySQL, dbtest.MySQLText} {
		database := server.NewDatabase(t)
		db, user := database.Open(t, driver), database.Name()+"_reader"
		db.MustExec("create table t (at datetime(6) not null, id int not null, n int, primary key (at, id))")
		db.MustExec("create user " + user + "@'%' identified by 'pw'")
		t.Cleanup(func() { db.MustExec("drop user " + user + "@'%'") })
		db.MustExec("grant select on t to " + user + "@'%'")
		open := func() *sqlsource.Table {
			return stamped(database.WithUser(user, "pw").Open(t, driver), "t", ceiling.Stamp{Margin: 50 * time.Millisecond, Zone: "UTC"}, "at", "id")
		}
		c, err := open().Check(t.Context(), "")
		require.NoError(t, err)
		require.Contains(t, c.Report.Guarantee, "more than 50ms before it was committed, by")
		require.Contains(t, lab.OneLine(c.String()), "warning the role lacks the privilege PROCESS, and does not see which transactions are open")
		require.Contains(t, c.String(), "GRANT PROCESS ON *.* TO `"+user+"`@`%`;")

		db.MustExec("grant process on *.* to " + user + "@'%'")
		table := open()
		c, err = table.Check(t.Context(), "")
		require.NoError(t, err)
		require.Contains(t, c.Report.Guarantee, "more than 50ms before its transaction first read or wrote a row, or the statement that wrote it began, whichever was earlier, by")
		begun := openTransaction(t, db, "begin", "select * from t")
		db.MustExec("insert into t values (utc_timestamp(6), 2, 2)")
		waits(t, table, "", "thread ")
		begun("insert into t values (utc_timestamp(6), 1, 1)", "commit")
		got, at := lab.ReadAll(t, table, "", 10, number)
		require.Equal(t, []string{"2", "1"}, got)

		xa := user + "x"
		begun("xa start '"+xa+"'", "insert into t values (utc_timestamp(6), 3, 3)", "xa end '"+xa+"'", "xa prepare '"+xa+"'")
		db.MustExec("insert into t values (utc_timestamp(6), 4, 4)")
		waits(t, table, at, "")
		begun("xa commit '" + xa + "'")
		got, _ = lab.ReadAll(t, table, at, 10, number)
		require.Equal(t, []string{"3", "4"}, got)
	}
}

// A standby does not show the transactions of its primary. A subscription, also one that is disabled now, brings rows with
// the times that they got on their publisher.
func TestStampOnAStandby(t *testing.T) {
	t.Parallel()
	primary := dbtest.StartPostgres(t, dbtest.Args("-c", "wal_level=logical"))
	database := primary.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	create := `create table t (at timestamptz not null primary key) partition by range (at); create table p partition of t default; create table alone (at timestamptz not null primary key)`
	db.MustExec(create)
	standby := dbtest.StartStandby(t, primary).Database(database.Name()).Open(t, dbtest.PGX)
	lab.WaitFor(t, func() bool { return standby.Get(new(int), `select count(*) from t`) == nil })
	found := unsafeIn(t, stamped(standby, "t", ceiling.Stamp{Margin: time.Second}, "at"))
	require.Len(t, found, 1)
	require.Contains(t, found[0].Text, "this server is a standby")

	db.MustExec(`create publication p for table t`)
	db.MustExec(`select pg_create_logical_replication_slot('s', 'pgoutput')`)
	other := primary.NewDatabase(t).Open(t, dbtest.PQ)
	other.MustExec(create + `; create view v as select * from t`)
	other.MustExec(`create subscription s connection '` + database.DSN(dbtest.PGX) + `' publication p with (create_slot = false, copy_data = false, enabled = false)`)
	t.Cleanup(func() { other.MustExec(`alter subscription s set (slot_name = none); drop subscription s`) })
	for _, name := range []string{"t", "p"} {
		found = unsafeIn(t, stamped(other, name, ceiling.Stamp{Margin: time.Second}, "at"))
		require.Len(t, found, 1)
		require.Contains(t, found[0].Text, "a subscription")
	}
	for name, warns := range map[string]bool{"alone": false, "v": true} {
		c, err := stamped(other, name, ceiling.Stamp{Margin: time.Second}, "at").Check(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, warns, strings.Contains(c.String(), "warning  subscriptions of logical replication"), c.String())
	}
}

// On a replica, and on a member of a cluster, rows come with times that they got long before, on another server. So they do
// when an applier that is stopped now is started again. A role needs SLAVE MONITOR to see that one, and a warning says so.
func TestStampOnAReplicaOfMariaDB(t *testing.T) {
	t.Parallel()
	database := dbtest.StartMariaDB(t).NewDatabase(t)
	admin := database.Open(t, dbtest.MySQL)
	admin.SetMaxOpenConns(1)
	admin.MustExec("create table t (id int auto_increment primary key, at datetime(6) not null, unique (at))")
	admin.MustExec("create user reader@'%' identified by 'pw'")
	const master = "master_host = '127.0.0.1', master_port = 1, master_user = 'x'"
	for _, grant := range []string{"select on t", "process on *.*", "slave monitor on *.*"} {
		admin.MustExec("grant " + grant + " to reader@'%'")
		db := database.WithUser("reader", "pw").Open(t, dbtest.MySQL)
		stamp := func() *sqlsource.Table {
			return stamped(db, "t", ceiling.Stamp{Margin: time.Second, Zone: "UTC"}, "at")
		}
		refused := func(table *sqlsource.Table, set, back, want string) {
			t.Helper()
			admin.MustExec(set)
			found := unsafeIn(t, table)
			require.Len(t, found, 1)
			require.Contains(t, found[0].Text, want)
			require.NotEmpty(t, found[0].Remedies)
			admin.MustExec(back)
		}
		safe := func(warns bool) {
			t.Helper()
			_, err := stamp().Fetch(t.Context(), "", 10)
			require.NoError(t, err)
			c, err := stamp().Check(t.Context(), "")
			require.NoError(t, err)
			require.Equal(t, warns, strings.Contains(c.String(), "GRANT SLAVE MONITOR ON *.* TO `reader`@`%`;"))
		}
		refused(stamp(), "set global read_only = on", "set global read_only = off", "read_only is ON: this is a replica")
		safe(grant != "slave monitor on *.*")
		admin.MustExec("change master to " + master)
		refused(stamp(), "start slave", "stop slave", "this server is a replica")
		if grant != "slave monitor on *.*" {
			safe(true)
			admin.MustExec("reset slave all")
			continue
		}
		refused(stamp(), "reset slave", "reset slave all", "this server is a replica")
		refused(stamp(), "change master 'b' to "+master, "do 1", "this server is a replica")
		refused(lab.Silent(db, "t", "id"), "do 1", "reset slave 'b' all", "this server is a replica")
		safe(false)
	}
}
