// Package dbtest starts real Postgres and MariaDB servers for tests, from the
// binaries installed on the machine. Each server has a temporary directory and a
// free port of the loopback interface. SQLite needs no server: it gets a file.
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
//	func TestOrders(t *testing.T) {
//		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
//		db.MustExec(`create table orders (id bigserial primary key)`)
//		...
//	}
//
// [Postgres] and [MariaDB] return a server that all tests of the process share.
// The first call starts it. Each test creates its own database there, so tests
// may run in parallel. A test that stops, kills or restarts a server, or needs
// other settings, starts a private one with [StartPostgres] or [StartMariaDB].
//
// Test processes share nothing, and no port, directory or password is fixed.
// Several packages can be tested concurrently, next to other servers on the
// machine.
//
// # Requirements
//
// A Unix system. On Debian and Ubuntu: apt-get install postgresql mariadb-server. The
// services that these packages start are not used. If the binaries are missing, the test
// is skipped and names the package to install. With CI=true in the environment
// it fails instead, because nobody notices a skipped test in CI.
//
// # Settings
//
// The servers do not fsync. Their data survives kill -9 of the server, which is
// what tests do, but not a power cut. The time zone is UTC, the locale is C with
// UTF-8. Postgres (SCRAM) and MariaDB both require a password, so that a wrong
// password is a real error. Other settings have the server's defaults; [Args]
// changes them. Postgres refuses to run as root: in a test run by root it runs as
// the user postgres or nobody.
//
// # Cleanup
//
// [Main] stops the shared servers, and the cleanup of a test stops its private ones. If the
// test process panics, exceeds its -timeout or is killed with SIGKILL, a small shell
// process notices it, ends the servers and removes their directories.
package dbtest

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
)

// Option is a setting of a private server, such as [Args].
type Option func(*Server)

// Args appends arguments to the server's command line, where they override those of this
// package: Args("-c", "max_connections=5") for Postgres, Args("--max-connections=5") for
// MariaDB.
func Args(args ...string) Option {
	return func(s *Server) { s.args = append(s.args, args...) }
}

// Env adds variables such as "LD_PRELOAD=/lib/x.so" to the environment of the server.
func Env(vars ...string) Option {
	return func(s *Server) { s.env = append(s.env, vars...) }
}

// Package-level state, because tests of one process have nothing else in common.
var sharedPostgres, sharedMariaDB shared

type shared struct {
	once         sync.Once
	server       *Server
	missing, err error
}

func (sh *shared) get(tb testing.TB, e engine) *Server {
	tb.Helper()
	sh.once.Do(func() {
		if sh.missing = e.find(); sh.missing == nil {
			sh.server, sh.err = start(e, []Option{func(s *Server) { s.shared = true }})
		}
	})
	need(tb, sh.missing)
	if sh.err != nil {
		tb.Fatal(sh.err)
	}
	return sh.server
}

// Postgres returns the Postgres server that all tests of the process share. The first call
// starts it. It skips the test if Postgres is not installed, or fails it with CI=true. It
// is safe for concurrent use.
func Postgres(tb testing.TB) *Server {
	tb.Helper()
	return sharedPostgres.get(tb, &postgres{})
}

// MariaDB returns the MariaDB server that all tests of the process share. The first call
// starts it. It skips the test if MariaDB is not installed, or fails it with CI=true. It is
// safe for concurrent use.
func MariaDB(tb testing.TB) *Server {
	tb.Helper()
	return sharedMariaDB.get(tb, &mariadb{})
}

// StartPostgres starts a Postgres server for this test alone. The test may stop, kill and
// restart it. It is stopped and removed when the test ends.
func StartPostgres(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	return startPrivate(tb, &postgres{}, opts)
}

// StartMariaDB starts a MariaDB server for this test alone. The test may stop, kill and
// restart it. It is stopped and removed when the test ends.
func StartMariaDB(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	return startPrivate(tb, &mariadb{}, opts)
}

func startPrivate(tb testing.TB, e engine, opts []Option) *Server {
	tb.Helper()
	need(tb, e.find())
	s, err := start(e, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("dbtest: last lines of the log of %s:\n%s", e.kind().name, s.logTail())
		}
		if err := s.remove(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// need skips a test because the binaries are missing, or fails it with CI=true.
func need(tb testing.TB, missing error) {
	tb.Helper()
	if runtime.GOOS == "windows" {
		missing = errors.New("dbtest: needs a Unix system")
	}
	switch {
	case missing == nil:
	case os.Getenv("CI") == "true":
		tb.Fatalf("%v", missing)
	default:
		tb.Skipf("%v", missing)
	}
}

// Main runs the tests of m, stops the shared servers and exits. Call it from TestMain.
// Without it, the shell process described in the package comment stops the servers.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run does what [Main] does, but returns the exit code instead of exiting. Use it in a
// TestMain that has its own cleanup.
func Run(m *testing.M) int {
	code := m.Run()
	for _, sh := range []*shared{&sharedPostgres, &sharedMariaDB} {
		if sh.server == nil {
			continue
		}
		if err := sh.server.remove(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = max(code, 1)
		}
	}
	return code
}
