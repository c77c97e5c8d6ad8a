package dbtest_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// wait is how long a test waits for what usually takes a moment.
const wait = 2 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv("DBTEST_ORPHAN") != "" {
		orphan()
	}
	dbtest.Main(m)
}

func TestEveryDriverReadsAndWrites(t *testing.T) {
	t.Parallel()
	for _, db := range []dbtest.Database{dbtest.Postgres(t).NewDatabase(t), dbtest.MariaDB(t).NewDatabase(t)} {
		for _, driver := range db.Drivers() {
			roundTrip(t, db, driver)
		}
	}
	for _, driver := range dbtest.SQLite(t).Drivers() {
		roundTrip(t, dbtest.SQLite(t), driver)
	}
}

func roundTrip(t *testing.T, db dbtest.Database, driver dbtest.Driver) {
	x := db.Open(t, driver)
	x.MustExec("create table t (id integer primary key, s varchar(20))")
	x.MustExec("insert into t values (1, 'κόσμε')")
	var s string
	require.NoError(t, x.Get(&s, "select s from t where id = 1"), driver)
	assert.Equal(t, "κόσμε", s, driver)
	x.MustExec("drop table t")
}

func TestParseTimeIsTheOnlyDifferenceOfTheMySQLDrivers(t *testing.T) {
	t.Parallel()
	db := dbtest.MariaDB(t).NewDatabase(t)
	for driver, want := range map[dbtest.Driver]any{
		dbtest.MySQL:     time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		dbtest.MySQLText: []byte("2026-01-02 03:04:05"),
	} {
		var got any
		require.NoError(t, db.Open(t, driver).Get(&got, "select timestamp '2026-01-02 03:04:05'"))
		assert.Equal(t, want, got, driver)
	}
}

func TestDatabaseIsDroppedWithItsTest(t *testing.T) {
	t.Parallel()
	for _, server := range []*dbtest.Server{dbtest.Postgres(t), dbtest.MariaDB(t)} {
		var first dbtest.Database
		t.Run("", func(t *testing.T) {
			first = server.NewDatabase(t)
			second := server.NewDatabase(t)
			assert.NotEqual(t, first.Name(), second.Name())
			first.Open(t, first.Drivers()[0]).MustExec("create table t (id integer)")
			second.Open(t, second.Drivers()[0]).MustExec("create table t (id integer)")
		})
		gone, err := sqlx.Open(first.Drivers()[0].SQLName(), first.DSN(first.Drivers()[0]))
		require.NoError(t, err)
		defer gone.Close()
		assert.Error(t, gone.Ping(), "%s exists after its test", first.Name())
	}
}

func TestWrongPasswordIsRefused(t *testing.T) {
	t.Parallel()
	open := func(db dbtest.Database, driver dbtest.Driver) error {
		db = db.WithUser("dbtest", "wrong")
		x, err := sqlx.Open(driver.SQLName(), db.DSN(driver))
		require.NoError(t, err)
		defer x.Close()
		return x.Ping()
	}
	db := dbtest.Postgres(t).NewDatabase(t)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, open(db, dbtest.PGX), &pgErr)
	assert.Equal(t, "28P01", pgErr.Code)
	var pqErr *pq.Error
	require.ErrorAs(t, open(db, dbtest.PQ), &pqErr)
	assert.Equal(t, "28P01", string(pqErr.Code))
	var myErr *mysql.MySQLError
	require.ErrorAs(t, open(dbtest.MariaDB(t).NewDatabase(t), dbtest.MySQL), &myErr)
	assert.EqualValues(t, 1045, myErr.Number)
}

func TestStopKillStart(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]*dbtest.Server{"Postgres": dbtest.StartPostgres(t), "MariaDB": dbtest.StartMariaDB(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := server.NewDatabase(t)
			addr := server.Addr()
			x := db.Open(t, db.Drivers()[0])
			x.MustExec("create table t (id integer primary key)")
			for i, halt := range []func() error{server.Stop, server.Kill, server.Kill} {
				x.MustExec(x.Rebind("insert into t values (?)"), i)
				require.NoError(t, halt())
				require.Error(t, x.Ping(), "the server answers after it was stopped")
				require.NoError(t, halt(), "stopping a stopped server")
				require.NoError(t, server.Start())
				require.NoError(t, server.Start(), "starting a running server")
				var n int
				require.NoError(t, x.Get(&n, "select count(*) from t"))
				assert.Equal(t, i+1, n, "committed rows")
			}
			assert.Equal(t, addr, server.Addr())
		})
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]*dbtest.Server{"Postgres": dbtest.StartPostgres(t), "MariaDB": dbtest.StartMariaDB(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := server.NewDatabase(t)
			x := db.Open(t, db.Drivers()[0])
			x.MustExec("create table t (id integer primary key)")
			x.MustExec("insert into t values (1)")
			_, err := server.Backup()
			require.ErrorContains(t, err, "stop it first")
			require.NoError(t, server.Stop())
			restore, err := server.Backup()
			require.NoError(t, err)
			require.NoError(t, server.Start())
			require.Eventually(t, func() bool { // the pool holds connections that Stop closed
				_, err := x.Exec("insert into t values (2)")
				return err == nil
			}, wait, 10*time.Millisecond)
			require.ErrorContains(t, restore(), "stop it first")
			require.NoError(t, server.Kill())
			require.NoError(t, restore())
			require.NoError(t, server.Start())
			var ids []int
			require.Eventually(t, func() bool { return x.Select(&ids, "select id from t") == nil }, wait, 10*time.Millisecond)
			assert.Equal(t, []int{1}, ids)
		})
	}
	_, err := dbtest.Postgres(t).Backup()
	require.Error(t, err, "backup of the shared server")
}

func TestSharedServerCannotBeStopped(t *testing.T) {
	t.Parallel()
	for _, server := range []*dbtest.Server{dbtest.Postgres(t), dbtest.MariaDB(t)} {
		assert.ErrorContains(t, server.Stop(), "start a private one")
		assert.ErrorContains(t, server.Kill(), "start a private one")
	}
	one, other := dbtest.Postgres(t), dbtest.Postgres(t)
	assert.Same(t, one, other)
}

func TestArgs(t *testing.T) {
	t.Parallel()
	var n int
	pg := dbtest.StartPostgres(t, dbtest.Args("-c", "max_connections=7"))
	require.NoError(t, pg.Database("postgres").Open(t, dbtest.PQ).Get(&n, "select current_setting('max_connections')::int"))
	assert.Equal(t, 7, n)
	my := dbtest.StartMariaDB(t, dbtest.Args("--max-connections=11"))
	require.NoError(t, my.Database("mysql").Open(t, dbtest.MySQL).Get(&n, "select @@max_connections"))
	assert.Equal(t, 11, n)
}

func TestStartErrorContainsServerLog(t *testing.T) {
	t.Parallel()
	t.Run("Postgres", func(t *testing.T) {
		dbtest.Postgres(t) // skips if it is not installed
		tb := &fatalTB{TB: t}
		tb.run(func(tb testing.TB) { dbtest.StartPostgres(tb, dbtest.Args("-c", "no_such_setting=1")) })
		assert.Contains(t, tb.fatal, `unrecognized configuration parameter "no_such_setting"`)
	})
	t.Run("MariaDB", func(t *testing.T) {
		dbtest.MariaDB(t)
		tb := &fatalTB{TB: t}
		tb.run(func(tb testing.TB) { dbtest.StartMariaDB(tb, dbtest.Args("--no-such-setting")) })
		assert.Contains(t, tb.fatal, "unknown option '--no-such-setting'")
	})
}

func TestMissingBinaries(t *testing.T) {
	// Postgres and MariaDB's server are searched outside of PATH, MariaDB's installer is
	// not.
	t.Setenv("PATH", t.TempDir())
	missing := func(tb testing.TB) { dbtest.StartMariaDB(tb) }

	t.Setenv("CI", "")
	tb := &fatalTB{TB: t}
	tb.run(missing)
	assert.Contains(t, tb.skip, "install the package mariadb-server")
	assert.Empty(t, tb.fatal)

	t.Setenv("CI", "true")
	tb = &fatalTB{TB: t}
	tb.run(missing)
	assert.Contains(t, tb.fatal, "install the package mariadb-server")
	assert.Empty(t, tb.skip)
}

// fatalTB records the message that would have ended the test.
type fatalTB struct {
	testing.TB
	fatal, skip string
}

func (f *fatalTB) run(test func(testing.TB)) {
	done := make(chan struct{})
	go func() { defer close(done); test(f) }()
	<-done
}

func (f *fatalTB) Fatal(args ...any)                 { f.fatal = sprint(args); runtime.Goexit() }
func (f *fatalTB) Fatalf(format string, args ...any) { f.fatal = sprint(args); runtime.Goexit() }
func (f *fatalTB) Skipf(format string, args ...any)  { f.skip = sprint(args); runtime.Goexit() }

func sprint(args []any) string {
	var err error
	for _, a := range args {
		if e, ok := a.(error); ok {
			err = errors.Join(err, e)
		}
	}
	return err.Error()
}

// A killed test process leaves neither servers nor directories.
func TestKilledTestProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	dbtest.Postgres(t)
	dbtest.MariaDB(t)
	tmp, err := os.MkdirTemp("/tmp", "dbtest-orphan-*") // not t.TempDir: the user postgres needs access
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(tmp) })
	require.NoError(t, os.Chmod(tmp, 0o755))

	for _, how := range []string{"kill", "panic"} {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "DBTEST_ORPHAN="+how, "TMPDIR="+tmp)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		var addrs []string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			addrs = append(addrs, lines.Text())
			if len(addrs) == 2 {
				break
			}
		}
		require.Len(t, addrs, 2)
		dirs, err := filepath.Glob(filepath.Join(tmp, "dbtest-*"))
		require.NoError(t, err)
		require.Len(t, dirs, 2)
		if how == "kill" {
			require.NoError(t, cmd.Process.Kill())
		} else {
			require.NoError(t, in.Close())
		}
		assert.Error(t, cmd.Wait(), "the process must have been killed")

		require.Eventually(t, func() bool {
			left, err := filepath.Glob(filepath.Join(tmp, "dbtest-*"))
			return err == nil && len(left) == 0
		}, wait, 20*time.Millisecond, "directories left")
		for _, addr := range addrs {
			require.Eventually(t, func() bool {
				c, err := net.DialTimeout("tcp", addr, time.Second)
				if err == nil {
					c.Close()
				}
				return err != nil
			}, wait, 20*time.Millisecond, "%s still answers", addr)
		}
	}
}

// orphan runs in the process that TestKilledTestProcessLeavesNothing kills. Depending on
// its input it panics instead.
func orphan() {
	tb := &fatalTB{}
	for _, start := range []func(testing.TB) *dbtest.Server{dbtest.Postgres, dbtest.MariaDB} {
		os.Stdout.WriteString(start(helperTB{tb}).Addr() + "\n")
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	panic("on purpose")
}

type helperTB struct{ *fatalTB }

func (helperTB) Helper() {}

func TestDSNs(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	db := server.Database("postgres").WithUser("me", "p@ss/word").WithAddr("example.org:1")
	assert.Equal(t, "postgres://me:p%40ss%2Fword@example.org:1/postgres?sslmode=disable", db.DSN(dbtest.PGX))
	assert.True(t, strings.HasPrefix(dbtest.SQLite(t).DSN(dbtest.Modernc), "file:///"))
}
