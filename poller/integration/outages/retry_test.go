package outages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

// secret is in rows and passwords, and must not appear in any text.
const secret = "hunter2secret"

// failure makes a real server or its driver return an error.
type failure struct {
	name  string
	class retry.Class
	text  string // what Text must contain: the code and the useful parts
	leaks bool   // the error's own text contains the secret, so the test would detect a leak
	fail  func(*testing.T, dbtest.Database, dbtest.Driver) error
}

// check runs a failure with each driver, in a new database from create.
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

// statements runs statements one after the other and fails with the last.
func statements(all ...string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
	return func(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
		x := db.Open(t, driver)
		x.SetMaxOpenConns(1) // settings belong to the session
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

// as fails with a statement of another user, whom setup creates.
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
				_, _ = x.Exec(strings.ReplaceAll(s, "USER_", user)) // MariaDB does not have the first
			}
		})
		_, err := db.WithUser(user, "pw").Open(t, driver).Exec(statement)
		return err
	}
}

// deadlock makes two transactions wait for each other.
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
		assert.NotEqual(t, ea == nil, eb == nil, "exactly one of the two must fail: %v, %v", ea, eb)
		return errors.Join(ea, eb)
	}
}

// blocked fails with the last statement, while another session holds the lock of the first
// one.
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

// ended runs a long query, and ends it when it runs: by another session, or by the deadline
// of its context, which passes when expire is called. A deadline by the clock does not
// work, because lib/pq asks the server to cancel the query, which the server ignores before
// the query runs.
func ended(id, long, running string, end func(x *sqlx.DB, id int64, expire func()) error) func(*testing.T, dbtest.Database, dbtest.Driver) error {
	return func(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
		x := db.Open(t, driver)
		conn, err := x.Connx(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		var pid int64
		require.NoError(t, conn.GetContext(t.Context(), &pid, id))
		failed, ctx := make(chan error, 1), expiring{t.Context(), make(chan struct{})}
		go func() { _, err := conn.ExecContext(ctx, long); failed <- err }()
		require.Eventually(t, func() bool {
			var n int
			return x.Get(&n, x.Rebind(running), pid) == nil && n == 1
		}, waitLimit, 5*time.Millisecond, "the query did not start")
		require.NoError(t, end(x, pid, func() { close(ctx.done) }))
		return <-failed
	}
}

// expiring is a context whose deadline passes when done is closed.
type expiring struct {
	context.Context
	done chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.done }

func (e expiring) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// badDSN fails to open a data source name with a syntax error.
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

// scanned fails to scan a text into an int.
func scanned(t *testing.T, db dbtest.Database, driver dbtest.Driver) error {
	var n int
	return db.Open(t, driver).Get(&n, "select '"+secret+"' as s")
}

// tmpfs mounts a small file system that is soon full.
func tmpfs(t *testing.T) string {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("CI") == "true" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		skip("only root can mount a small file system to fill")
	}
	dir, err := os.MkdirTemp("/tmp", "devotion-full-*")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", dir).CombinedOutput(); err != nil {
		skip("a small file system to fill cannot be mounted: %v: %s", err, out)
	}
	t.Cleanup(func() {
		out, err := exec.Command("umount", "-l", dir).CombinedOutput()
		assert.NoError(t, err, "%s", out)
	})
	return dir
}

// Failures that need a private server: one that is stopped, full, or read-only.
func TestRetryServers(t *testing.T) {
	t.Parallel()
	type engine struct {
		start              func(testing.TB, ...dbtest.Option) *dbtest.Server
		few                dbtest.Option
		full, sleep, asked string
	}
	for name, e := range map[string]engine{
		"Postgres": {dbtest.StartPostgres, dbtest.Args("-c", "max_connections=5", "-c", "superuser_reserved_connections=0"), "SQLSTATE 53300",
			"select pg_sleep(60)", "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"},
		"MariaDB": {dbtest.StartMariaDB, dbtest.Args("--max-connections=10"), "MySQL error 1040",
			"do sleep(60)", "select count(*) from information_schema.processlist where info = 'do sleep(60)'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := e.start(t, e.few).NewDatabase(t)
			failure{"too many connections", retry.Transient, e.full, false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
				for range 20 { // MariaDB reserves one more connection for an administrator
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
						}, waitLimit, 5*time.Millisecond)
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
		// MariaDB ends itself if the disk of a table's file is full. So this fills its one
		// file of fixed size.
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
