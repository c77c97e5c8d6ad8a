package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/retry"
)

// secret is planted in rows and passwords; no text may show it.
const secret = "hunter2secret"

// failure is a way to make a real server, or its driver, return an error.
type failure struct {
	name  string
	class retry.Class
	text  string // what Text must contain: the code, and what is known to be useful
	leaks bool   // the error's own text holds the secret; this shows that the test would notice
	fail  func(*testing.T, dbtest.Database, dbtest.Driver) error
}

// check runs one failure with each driver, on a database of its own from create.
func (f failure) check(t *testing.T, create func(testing.TB) dbtest.Database, drivers ...dbtest.Driver) {
	t.Run(f.name, func(t *testing.T) {
		t.Parallel()
		for _, driver := range drivers {
			t.Run(string(driver), func(t *testing.T) {
				db := create(t)
				err := f.fail(t, db, driver)
				require.Error(t, err)
				text := retry.Text(fmt.Errorf("around: %w", err))
				t.Logf("%T %v\n\t=> %v, %s", err, err, retry.Classify(err), text)
				assert.Equal(t, f.class, retry.Classify(err))
				assert.Contains(t, text, f.text)
				assert.NotContains(t, text, secret)
				assert.NotEmpty(t, text)
				if password := db.Password(); password != "" {
					assert.NotContains(t, text, password)
				}
				if f.leaks {
					assert.Contains(t, err.Error(), secret, "the secret was not planted")
				}
			})
		}
	})
}

// statements fails with the last of the statements, run one after the other.
func statements(all ...string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
	return func(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
		x := db.Open(t, driver)
		x.SetMaxOpenConns(1) // settings are the session's
		last := len(all) - 1
		for _, s := range all[:last] {
			_, err := x.Exec(s)
			require.NoError(t, err, s)
		}
		_, err := x.Exec(all[last])
		return err
	}
}

func ping(db dbtest.Database, driver dbtest.Driver) error {
	x, err := sqlx.Open(driver.SQLName(), db.DSN(driver))
	if err != nil {
		return err
	}
	defer x.Close()
	return x.Ping()
}

// as fails with a statement of another user's, who is created with setup.
func as(statement string, setup ...string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
	return func(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
		user := fmt.Sprintf("user_%s_%s", db.Name(), strings.ReplaceAll(string(driver), "-", "_"))
		x := db.Open(t, driver)
		for _, s := range setup {
			_, err := x.Exec(strings.ReplaceAll(s, "USER_", user))
			require.NoError(t, err, s)
		}
		t.Cleanup(func() {
			for _, s := range []string{"drop owned by USER_", "drop user USER_"} {
				_, _ = x.Exec(strings.ReplaceAll(s, "USER_", user)) // MariaDB does not know the first
			}
		})
		_, err := db.As(user, "pw").Open(t, driver).Exec(statement)
		return err
	}
}

// deadlock lets two transactions wait for each other.
func deadlock(setup ...string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
	return func(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
		x := db.Open(t, driver)
		x.MustExec("create table t (id integer primary key, n integer)")
		x.MustExec("insert into t values (1, 0), (2, 0)")
		begin := func() *sqlx.Tx {
			tx := x.MustBegin()
			for _, s := range setup {
				tx.MustExec(s)
			}
			return tx
		}
		a, b := begin(), begin()
		defer a.Rollback()
		defer b.Rollback()
		a.MustExec("update t set n = 1 where id = 1")
		b.MustExec("update t set n = 1 where id = 2")
		var ea, eb error
		var both sync.WaitGroup
		both.Go(func() { _, ea = a.Exec("update t set n = 1 where id = 2"); a.Rollback() })
		both.Go(func() { _, eb = b.Exec("update t set n = 1 where id = 1"); b.Rollback() })
		both.Wait()
		assert.NotEqual(t, ea == nil, eb == nil, "one of two is to lose: %v, %v", ea, eb)
		return errors.Join(ea, eb)
	}
}

// blocked fails with the last statement while another session holds the lock
// that the first took.
func blocked(hold string, wait ...string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
	return func(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
		x := db.Open(t, driver)
		x.MustExec("create table t (id integer primary key, n integer)")
		x.MustExec("insert into t values (1, 0)")
		holder, waiter := x.MustBegin(), x.MustBegin()
		defer holder.Rollback()
		defer waiter.Rollback()
		holder.MustExec(hold)
		last := len(wait) - 1
		for _, s := range wait[:last] {
			waiter.MustExec(s)
		}
		_, err := waiter.Exec(wait[last])
		return err
	}
}

// ended runs a long query and ends it from outside once it runs.
func ended(id, long, running string, end func(t *testing.T, x *sqlx.DB, id int64)) func(*testing.T, dbtest.Database, dbtest.Driver) error {
	return func(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
		x := db.Open(t, driver)
		conn, err := x.Connx(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		var pid int64
		require.NoError(t, conn.GetContext(t.Context(), &pid, id))
		failed := make(chan error, 1)
		go func() { _, err := conn.ExecContext(t.Context(), long); failed <- err }()
		require.Eventually(t, func() bool {
			var n int
			return x.Get(&n, x.Rebind(running), pid) == nil && n == 1
		}, 20*time.Second, 5*time.Millisecond, "the query does not run")
		end(t, x, pid)
		return <-failed
	}
}

// badDSN fails to open a data source name that cannot be parsed.
func badDSN(dsns map[dbtest.Driver]string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
	return func(t *testing.T, _ dbtest.Database, driver dbtest.Driver) error {
		x, err := sqlx.Open(driver.SQLName(), dsns[driver])
		if err == nil {
			defer x.Close()
			err = x.Ping()
		}
		return err
	}
}

// scanned fails to put a text into an int.
func scanned(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
	var n int
	return db.Open(t, driver).Get(&n, "select '"+secret+"' as s")
}

// tmpfs mounts a small file system that fills up soon.
func tmpfs(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system to fill")
	}
	dir, err := os.MkdirTemp("/tmp", "devotion-full-*")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("a small file system to fill cannot be mounted: %v: %s", err, out)
	}
	t.Cleanup(func() {
		out, err := exec.Command("umount", "-l", dir).CombinedOutput()
		assert.NoError(t, err, "%s", out)
	})
	return dir
}

func TestRetryPostgres(t *testing.T) {
	t.Parallel()
	create := func(tb testing.TB) dbtest.Database { return dbtest.Postgres(tb).NewDatabase(tb) }
	sleep := func(end string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
		return ended("select pg_backend_pid()", "select pg_sleep(60)", "select count(*) from pg_stat_activity where pid = ? and wait_event = 'PgSleep'",
			func(t *testing.T, x *sqlx.DB, id int64) { _, err := x.Exec(end, id); require.NoError(t, err) })
	}
	const table = "create table t (id integer primary key, n integer check (n < 100), s varchar(40) not null default '' unique)"
	for _, f := range []failure{
		{"wrong password", retry.Setup, "SQLSTATE 28P01: password authentication failed", false, func(_ *testing.T, db dbtest.Database, d dbtest.Driver) error {
			return ping(db.As("dbtest", secret), d)
		}},
		{"unknown user", retry.Setup, "SQLSTATE 28P01", false, func(_ *testing.T, db dbtest.Database, d dbtest.Driver) error {
			return ping(db.As("nobody", secret), d)
		}},
		{"unknown database", retry.Setup, `SQLSTATE 3D000: database "absent" does not exist`, false, func(t *testing.T, _ dbtest.Database, d dbtest.Driver) error {
			return ping(dbtest.Postgres(t).Database("absent"), d)
		}},
		{"bad DSN", retry.Setup, "cannot be parsed", false, badDSN(map[dbtest.Driver]string{
			dbtest.PGX: "postgres://bob:" + secret + "@localhost:port/db", dbtest.PQ: "postgres://bob:" + secret + "@localhost:port/db",
		})},
		{"missing table", retry.Setup, `SQLSTATE 42P01: relation "absent" does not exist`, false, statements("select * from absent")},
		{"missing schema", retry.Setup, `SQLSTATE 3F000: schema "absent" does not exist`, false, statements("create table absent.t ()")},
		{"missing column", retry.Setup, `SQLSTATE 42703: column "absent" does not exist`, false, statements(table, "select absent from t")},
		{"syntax error", retry.Setup, "SQLSTATE 42601: syntax error near FORM", false, statements("select * FORM t where s = '" + secret + "'")},
		{"syntax error at a value", retry.Setup, "SQLSTATE 42601: syntax error", true, statements("select 1 '" + secret + "'")},
		{"no privilege", retry.Setup, "SQLSTATE 42501: permission denied for table t", false,
			as("select * from t", table, "create user USER_ password 'pw'")},
		{"no login", retry.Setup, "SQLSTATE 28000", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x, user := db.Open(t, d), "nologin_"+db.Name()
			x.MustExec("create role " + user + " nologin password '" + secret + "'")
			defer x.MustExec("drop role " + user)
			return ping(db.As(user, secret), d)
		}},
		{"read-only", retry.Transient, "SQLSTATE 25006: cannot execute INSERT in a read-only transaction", false,
			statements(table, "set default_transaction_read_only = on", "insert into t values (1)")},
		{"serialization failure", retry.Transient, "SQLSTATE 40001: could not serialize access", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			x.MustExec("insert into t values (1, 0)")
			tx := x.MustBegin()
			defer tx.Rollback()
			tx.MustExec("set transaction isolation level repeatable read")
			var n int
			require.NoError(t, tx.Get(&n, "select n from t"))
			x.MustExec("update t set n = 1")
			_, err := tx.Exec("update t set n = 2")
			return err
		}},
		{"deadlock", retry.Transient, "SQLSTATE 40P01: deadlock", false, deadlock("set local deadlock_timeout = '20ms'")},
		{"lock timeout", retry.Transient, "SQLSTATE 55P03: canceling statement due to lock timeout", false,
			blocked("lock table t", "set local lock_timeout = '10ms'", "insert into t values (2)")},
		{"lock timeout at a row", retry.Transient, "SQLSTATE 55P03: lock not available", false,
			blocked("update t set n = 1", "set local lock_timeout = '10ms'", "update t set n = 2")},
		{"statement timeout", retry.Transient, "SQLSTATE 57014: canceling statement due to statement timeout", false,
			statements("set statement_timeout = '10ms'", "select pg_sleep(60)")},
		{"query cancelled", retry.Transient, "SQLSTATE 57014: canceling statement due to user request", false, sleep("select pg_cancel_backend($1)")},
		{"session terminated", retry.Transient, "", false, sleep("select pg_terminate_backend($1)")},
		{"context deadline", retry.Transient, "", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := db.Open(t, d).ExecContext(ctx, "select pg_sleep(60)")
			return err
		}},
		{"unique violation", retry.Data, "SQLSTATE 23505: duplicate key (constraint t_s_key, schema public, table t)", false,
			statements(table, "insert into t values (1, 1, '"+secret+"')", "insert into t values (2, 1, '"+secret+"')")},
		{"check violation", retry.Data, "SQLSTATE 23514: check violated (constraint t_n_check", false, statements(table, "insert into t values (1, 100)")},
		{"null", retry.Data, "table t, column s)", false, statements(table, "insert into t values (1, 1, null)")},
		{"foreign key", retry.Data, "SQLSTATE 23503", false, statements(table, "create table u (s varchar(40) references t (s))", "insert into u values ('"+secret+"')")},
		{"out of range", retry.Data, "SQLSTATE 22003: number out of range", false, statements(table, "insert into t values (3000000000)")},
		{"invalid text", retry.Data, "SQLSTATE 22P02: invalid text for its type", true, statements(table, "insert into t values ('"+secret+"')")},
		{"invalid date", retry.Data, "SQLSTATE 22007", true, statements("select date '" + secret + "'")},
		{"too long", retry.Data, "SQLSTATE 22001: value too long", false, statements(table, "insert into t values (1, 1, repeat('x', 41))")},
		{"NUL byte", retry.Data, "SQLSTATE 22021: invalid byte sequence", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			_, err := x.Exec("insert into t values (1, 1, $1)", secret+"\x00")
			return err
		}},
		{"one row twice in a batch", retry.Data, "SQLSTATE 21000: one row where there are more", false,
			statements(table, "insert into t values (1, 1, 'a'), (1, 2, 'b') on conflict (id) do update set n = excluded.n")},
		{"index entry too large", retry.Data, "SQLSTATE 54000", false,
			statements("create table big (s text unique)", "insert into big select string_agg(md5(i::text), '') from generate_series(1, 1000) i")},
		{"raised", retry.Transient, "SQLSTATE P0001: raised by the database's own code", true,
			statements("do $$ begin raise exception 'no such user: " + secret + "'; end $$")},
		{"raised with a code", retry.Setup, "SQLSTATE 42501", true,
			statements("do $$ begin raise exception '" + secret + "' using errcode = '42501'; end $$")},
		{"raised as a violation", retry.Data, "SQLSTATE 23514", true,
			statements("do $$ begin raise exception '" + secret + "' using errcode = 'check_violation'; end $$")},
		{"scan", retry.Transient, "value not shown", true, scanned},
		{"cached plan", retry.Setup, "SQLSTATE 0A000: cached plan must not change result type", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.SetMaxOpenConns(1)
			x.MustExec(table)
			x.MustExec("prepare p as select * from t")
			x.MustExec("alter table t add column more integer")
			_, err := x.Exec("execute p")
			return err
		}},
		{"disk full", retry.Transient, "SQLSTATE 53100", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			dir, x := tmpfs(t), db.Open(t, d)
			var data string // its owner is the server's user, who must own the tablespace too
			require.NoError(t, x.Get(&data, "select current_setting('data_directory')"))
			out, err := exec.Command("chown", "--reference="+data, dir).CombinedOutput()
			require.NoError(t, err, "%s", out)
			space := "full_" + db.Name()
			x.MustExec("create tablespace " + space + " location '" + dir + "'")
			defer func() { x.MustExec("drop table t"); x.MustExec("drop tablespace " + space) }()
			x.MustExec("create table t (s text) tablespace " + space)
			_, err = x.Exec("insert into t select repeat('x', 1000) from generate_series(1, 10000)")
			return err
		}},
	} {
		f.check(t, create, dbtest.PGX, dbtest.PQ)
	}
}

func TestRetryMariaDB(t *testing.T) {
	t.Parallel()
	create := func(tb testing.TB) dbtest.Database { return dbtest.MariaDB(tb).NewDatabase(tb) }
	const slow = "select sum(a.seq * b.seq) from seq_1_to_1000000 a, seq_1_to_1000000 b"
	sleep := func(end string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
		return ended("select connection_id()", slow, "select count(*) from information_schema.processlist where id = ? and info = '"+slow+"'",
			func(t *testing.T, x *sqlx.DB, id int64) {
				_, err := x.Exec(fmt.Sprint(end, " ", id))
				require.NoError(t, err)
			})
	}
	const table = "create table t (id integer primary key, n integer check (n < 100), s varchar(40) not null default '' unique)"
	for _, f := range []failure{
		{"wrong password", retry.Setup, "MySQL error 1045 (28000): Access denied for user", false, func(_ *testing.T, db dbtest.Database, d dbtest.Driver) error {
			return ping(db.As("dbtest", secret), d)
		}},
		{"unknown database", retry.Setup, "MySQL error 1049 (42000): Unknown database 'absent'", false, func(t *testing.T, _ dbtest.Database, d dbtest.Driver) error {
			return ping(dbtest.MariaDB(t).Database("absent"), d)
		}},
		{"bad DSN", retry.Transient, "invalid DSN", false, badDSN(map[dbtest.Driver]string{
			dbtest.MySQL: "bob:" + secret + "@tcp(localhost:3306/db", dbtest.MySQLText: "bob:" + secret + "@tcp(localhost:3306",
		})},
		{"missing table", retry.Setup, "MySQL error 1146 (42S02): Table", false, statements("select * from absent")},
		{"missing column", retry.Setup, "MySQL error 1054 (42S22): Unknown column 'absent'", false, statements(table, "select absent from t")},
		{"missing function", retry.Setup, "MySQL error 1305 (42000)", false, statements("select absent(1)")},
		{"syntax error", retry.Setup, "MySQL error 1064 (42000): syntax error near FORM", true, statements("select * FORM t where s = '" + secret + "' and")},
		{"syntax error at a value", retry.Setup, "MySQL error 1064 (42000): syntax error", true, statements("select 1 from '" + secret + "'")},
		{"wrong number of columns", retry.Setup, "MySQL error 1136 (21S01): the number of columns differs", false, statements(table, "insert into t values (1)")},
		{"no privilege", retry.Setup, "MySQL error 1142 (42000): SELECT command denied", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			return as("select * from t", table, "create user 'USER_'@'%' identified by 'pw'", "grant insert on "+db.Name()+".t to 'USER_'@'%'")(t, db, d)
		}},
		{"no access to the database", retry.Setup, "MySQL error 1044 (42000): Access denied", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x, user := db.Open(t, d), fmt.Sprintf("'none_%s'@'%%'", db.Name())
			x.MustExec("create user " + user + " identified by 'pw'")
			defer x.MustExec("drop user " + user)
			return ping(db.As("none_"+db.Name(), "pw"), d)
		}},
		{"read-only transaction", retry.Transient, "MySQL error 1792 (25006)", false,
			statements(table, "set session transaction read only", "insert into t values (1, 1, 'a')")},
		{"deadlock", retry.Transient, "MySQL error 1213 (40001): Deadlock found", false, deadlock()},
		{"lock timeout", retry.Transient, "MySQL error 1205 (HY000): Lock wait timeout exceeded", false,
			blocked("update t set n = 1", "set innodb_lock_wait_timeout = 0", "update t set n = 2")},
		{"statement timeout", retry.Transient, "MySQL error 1969 (70100)", false, statements("set statement max_statement_time = 0.02 for " + slow)},
		{"query killed", retry.Transient, "MySQL error 1317 (70100): Query execution was interrupted", false, sleep("kill query")},
		{"session killed", retry.Transient, "", false, sleep("kill")},
		{"user's connections", retry.Transient, "MySQL error 1226 (42000)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x, user := db.Open(t, d), fmt.Sprintf("'few_%s'@'%%'", db.Name())
			x.MustExec("create user " + user + " identified by 'pw' with max_user_connections 1")
			x.MustExec("grant select on " + db.Name() + ".* to " + user)
			t.Cleanup(func() { x.MustExec("drop user " + user) })
			few := db.As("few_"+db.Name(), "pw")
			few.Open(t, d)
			return ping(few, d)
		}},
		{"context deadline", retry.Transient, "", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := db.Open(t, d).ExecContext(ctx, "do sleep(60)")
			return err
		}},
		{"unique violation", retry.Data, "MySQL error 1062 (23000): integrity constraint violated (key 's')", true,
			statements(table, "insert into t values (1, 1, '"+secret+"')", "insert into t values (2, 1, '"+secret+"')")},
		{"check violation", retry.Data, "MySQL error 4025 (23000): CONSTRAINT", false, statements(table, "insert into t values (1, 100, 'a')")},
		{"null", retry.Data, "MySQL error 1048 (23000): Column 's' cannot be null", false, statements(table, "insert into t values (1, 1, null)")},
		{"foreign key", retry.Data, "MySQL error 1452 (23000): Cannot add or update a child row", false,
			statements(table, "create table u (s varchar(40), foreign key (s) references t (s))", "insert into u values ('"+secret+"')")},
		{"no default", retry.Setup, "MySQL error 1364 (HY000): Field 'n' doesn't have a default value", false,
			statements("create table d (id integer, n integer not null)", "insert into d (id) values (1)")},
		{"out of range", retry.Data, "MySQL error 1264 (22003): Out of range value for column 'id'", false, statements(table, "insert into t values (3000000000, 1, 'a')")},
		{"invalid text", retry.Data, "MySQL error 1366 (22007): incorrect value (column", true, statements(table, "insert into t values ('"+secret+"', 1, 'a')")},
		{"invalid date", retry.Data, "MySQL error 1292 (22007): incorrect value (column", true, statements("create table d (d date)", "insert into d values ('"+secret+"')")},
		{"truncated", retry.Data, "MySQL error 1292 (22007): incorrect value", true, statements(table, "insert into t values (1, 1, '1')", "update t set n = 1 where s = 0 + '"+secret+"'")},
		{"too long", retry.Data, "MySQL error 1406 (22001): Data too long for column 's'", false, statements(table, "insert into t values (1, 1, repeat('x', 41))")},
		{"raised", retry.Transient, "MySQL error 1644 (45000): raised by the database's own code", true,
			statements("begin not atomic signal sqlstate '45000' set message_text = '" + secret + "'; end")},
		{"raised with a code", retry.Setup, "MySQL error 1644 (42000)", true,
			statements("begin not atomic signal sqlstate '42000' set message_text = '" + secret + "'; end")},
		{"scan", retry.Transient, "value not shown", true, scanned},
	} {
		f.check(t, create, dbtest.MySQL, dbtest.MySQLText)
	}
}

// What needs a server of its own: that is stopped, full, or read-only.
func TestRetryServers(t *testing.T) {
	t.Parallel()
	type engine struct {
		start              func(testing.TB, ...dbtest.Option) *dbtest.Server
		few                dbtest.Option
		full, sleep, asked string
	}
	for name, e := range map[string]engine{
		"Postgres": {dbtest.StartPostgres, dbtest.Args("-c", "max_connections=5", "-c", "superuser_reserved_connections=0"), "SQLSTATE 53300: sorry, too many clients already",
			"select pg_sleep(60)", "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"},
		"MariaDB": {dbtest.StartMariaDB, dbtest.Args("--max-connections=10"), "MySQL error 1040",
			"do sleep(60)", "select count(*) from information_schema.processlist where info = 'do sleep(60)'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := e.start(t, e.few).NewDatabase(t)
			failure{"too many connections", retry.Transient, e.full, false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
				for range 20 { // MariaDB keeps one more for an administrator
					x, err := sqlx.Open(d.SQLName(), db.DSN(d))
					require.NoError(t, err)
					defer x.Close()
					if err := x.Ping(); err != nil {
						return err
					}
				}
				return nil
			}}.check(t, func(testing.TB) dbtest.Database { return own }, own.Drivers()...)

			for how, halt := range map[string]func(*dbtest.Server) error{"stopped": (*dbtest.Server).Stop, "killed": (*dbtest.Server).Kill} {
				t.Run(how, func(t *testing.T) {
					t.Parallel()
					server := e.start(t)
					db := server.NewDatabase(t)
					failure{"in a query", retry.Transient, "", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
						require.NoError(t, server.Start())
						x := db.Open(t, d)
						failed := make(chan error, 1)
						go func() { _, err := x.Exec(e.sleep); failed <- err }()
						require.Eventually(t, func() bool {
							var n int
							return x.Get(&n, e.asked) == nil && n == 1
						}, 20*time.Second, 5*time.Millisecond)
						require.NoError(t, halt(server))
						err := <-failed
						down := ping(db, d)
						require.Error(t, down)
						text := retry.Text(down)
						assert.Equal(t, retry.Transient, retry.Classify(down), "%T %v", down, down)
						assert.Contains(t, text, "connection refused")
						assert.Contains(t, text, server.Addr())
						assert.NotContains(t, text, db.Password())
						t.Logf("%T %v\n\t=> %s", down, down, text)
						return err
					}}.check(t, func(testing.TB) dbtest.Database { return db }, db.Drivers()...)
				})
			}
		})
	}

	t.Run("MariaDB read-only", func(t *testing.T) {
		t.Parallel()
		server := dbtest.StartMariaDB(t, dbtest.Args("--read-only"))
		failure{"write", retry.Transient, "MySQL error 1290 (HY000): The MariaDB server is running with the --read-only option", false,
			as("insert into t values (1)", "create or replace table t (id integer)", "create user 'USER_'@'%' identified by 'pw'", "grant insert on *.* to 'USER_'@'%'"),
		}.check(t, func(tb testing.TB) dbtest.Database { return server.NewDatabase(tb) }, dbtest.MySQL, dbtest.MySQLText)
	})
	t.Run("MariaDB full", func(t *testing.T) {
		t.Parallel()
		// A full disk under a table's own file makes MariaDB end itself, so its
		// one file of fixed size is filled instead.
		server := dbtest.StartMariaDB(t, dbtest.Args("--innodb-data-file-path=ibdata1:12M", "--skip-innodb-file-per-table"))
		failure{"table", retry.Transient, "MySQL error 1114 (HY000): The table 't' is full", false,
			statements("create table t (s text)", "insert into t select repeat('x', 1000) from seq_1_to_20000"),
		}.check(t, func(tb testing.TB) dbtest.Database { return server.NewDatabase(tb) }, dbtest.MySQL, dbtest.MySQLText)
	})
	t.Run("MariaDB without room to sort", func(t *testing.T) {
		t.Parallel()
		server := dbtest.StartMariaDB(t, dbtest.Args("--tmpdir="+tmpfs(t)))
		failure{"disk full", retry.Transient, "No space left on device", false,
			statements("set sort_buffer_size = 200000", "select concat(repeat('x', 500), seq) s from seq_1_to_100000 order by 1 limit 99999, 1"),
		}.check(t, func(tb testing.TB) dbtest.Database { return server.NewDatabase(tb) }, dbtest.MySQL, dbtest.MySQLText)
	})
}

func TestRetrySQLite(t *testing.T) {
	t.Parallel()
	const table = "create table t (id integer primary key, n integer check (n < 100), s text not null default '' unique)"
	// at opens a file or a setting of it by the form of name that both drivers take.
	at := func(path, parameters string, then ...string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
		return func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x, err := sqlx.Open(d.SQLName(), "file:"+strings.ReplaceAll(path, "DB", db.Name())+parameters)
			require.NoError(t, err)
			defer x.Close()
			for _, s := range then {
				if _, err := x.Exec(s); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, f := range []failure{
		{"missing table", retry.Setup, "SQLite error 1 (ERROR): no such table: absent", false, statements("select * from absent")},
		{"missing column", retry.Setup, "SQLite error 1 (ERROR): no such column: absent", false, statements(table, "select absent from t")},
		{"missing column to insert", retry.Setup, "SQLite error 1 (ERROR): table t has no column named absent", false, statements(table, "insert into t (absent) values (1)")},
		{"missing function", retry.Setup, "SQLite error 1 (ERROR): no such function: absent", false, statements("select absent(1)")},
		{"syntax error", retry.Setup, `SQLite error 1 (ERROR): near "FORM": syntax error`, false, statements("select * FORM t where s = '" + secret + "'")},
		{"syntax error at a value", retry.Setup, "SQLite error 1 (ERROR)", true, statements("select 1 from t where '" + secret + "' '" + secret + "'")},
		{"JSON path", retry.Setup, "SQLite error 1 (ERROR)", true, statements("select json_extract('{}', '" + secret + "')")},
		{"unique violation", retry.Data, "SQLite error 2067 (CONSTRAINT): UNIQUE constraint failed: t.s", false,
			statements(table, "insert into t values (1, 1, '"+secret+"')", "insert into t values (2, 1, '"+secret+"')")},
		{"primary key", retry.Data, "SQLite error 1555 (CONSTRAINT): UNIQUE constraint failed: t.id", false,
			statements(table, "insert into t values (1, 1, 'a')", "insert into t values (1, 1, 'b')")},
		{"check violation", retry.Data, "SQLite error 275 (CONSTRAINT): CHECK constraint failed: n", false, statements(table, "insert into t values (1, 100, 'a')")},
		{"null", retry.Data, "SQLite error 1299 (CONSTRAINT): NOT NULL constraint failed: t.s", false, statements(table, "insert into t values (1, 1, null)")},
		{"foreign key", retry.Data, "SQLite error 787 (CONSTRAINT): FOREIGN KEY constraint failed", false,
			statements("pragma foreign_keys = on", table, "create table u (s text references t (s))", "insert into u values ('"+secret+"')")},
		{"raised", retry.Data, "SQLite error 1811 (CONSTRAINT)", true,
			statements(table, "create trigger refuse before insert on t begin select raise(abort, '"+secret+"'); end", "insert into t values (1, 1, 'a')")},
		{"mismatch", retry.Data, "SQLite error 20 (MISMATCH)", false, statements(table, "insert into t values ('"+secret+"', 1, 'a')")},
		{"too big", retry.Data, "SQLite error 18 (TOOBIG)", false, statements(table, "insert into t values (1, 1, zeroblob(2000000000))")},
		{"scan", retry.Transient, "value not shown", true, scanned},
		{"full", retry.Transient, "SQLite error 13 (FULL)", false,
			statements(table, "pragma max_page_count = 5", "insert into t values (1, 1, zeroblob(100000))")},
		{"disk full", retry.Transient, "SQLite error ", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			// FULL, or IOERR if it is the file of the shared memory that finds no room.
			return at(filepath.Join(tmpfs(t), "test.db"), "", table, "insert into t values (1, 1, zeroblob(10000000))")(t, db, d)
		}},
		{"no directory", retry.Setup, "(CANTOPEN)", false, at("DB-absent/test.db", "", table)},
		{"read-only", retry.Setup, "SQLite error 8 (READONLY)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			require.NoError(t, at("DB", "", table)(t, db, d))
			return at("DB", "?mode=ro", "insert into t values (1, 1, 'a')")(t, db, d)
		}},
		{"no database", retry.Setup, "SQLite error 26 (NOTADB)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			require.NoError(t, os.WriteFile(db.Name(), []byte(strings.Repeat(secret, 1000)), 0o600))
			return at("DB", "", "select * from sqlite_schema")(t, db, d)
		}},
		{"corrupt", retry.Setup, "(CORRUPT)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			require.NoError(t, at("DB", "", table, "insert into t values (1, 1, 'a')")(t, db, d))
			file, err := os.ReadFile(db.Name())
			require.NoError(t, err)
			for i := 4096; i < len(file); i++ { // all but the page with the schema
				file[i] = 0xff
			}
			require.NoError(t, os.WriteFile(db.Name(), file, 0o600))
			return at("DB", "", "insert into t values (2, 1, 'b')")(t, db, d)
		}},
		{"busy", retry.Transient, "SQLite error 5 (BUSY)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			holder, err := x.Connx(t.Context())
			require.NoError(t, err)
			defer holder.Close()
			_, err = holder.ExecContext(t.Context(), "begin immediate")
			require.NoError(t, err)
			defer func() { _, _ = holder.ExecContext(t.Context(), "rollback") }()
			return at("DB", "?_pragma=busy_timeout(0)", "insert into t values (1, 1, 'a')")(t, db, d)
		}},
		{"stale snapshot", retry.Transient, "SQLite error 517 (BUSY)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			reader, err := x.Connx(t.Context())
			require.NoError(t, err)
			defer reader.Close()
			defer func() { _, _ = reader.ExecContext(t.Context(), "rollback") }()
			_, err = reader.ExecContext(t.Context(), "begin deferred") // ncruces' transactions are immediate
			require.NoError(t, err)
			var n int
			require.NoError(t, reader.GetContext(t.Context(), &n, "select count(*) from t"))
			x.MustExec("insert into t values (1, 1, 'a')")
			_, err = reader.ExecContext(t.Context(), "insert into t values (2, 1, 'b')")
			return err
		}},
		{"locked", retry.Transient, "SQLite error 6 (LOCKED)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			x.MustExec("insert into t values (1, 1, 'a'), (2, 2, 'b')")
			tx := x.MustBegin()
			defer tx.Rollback()
			rows, err := tx.Query("select * from t")
			require.NoError(t, err)
			defer rows.Close()
			require.True(t, rows.Next())
			require.NoError(t, rows.Err())
			_, err = tx.Exec("drop table t")
			return err
		}},
		{"context deadline", retry.Transient, "", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := db.Open(t, d).ExecContext(ctx, "with recursive r(i) as (select 1 union all select i + 1 from r) select max(i) from r")
			return err
		}},
	} {
		f.check(t, dbtest.SQLite, dbtest.Modernc, dbtest.NCruces)
	}
}
