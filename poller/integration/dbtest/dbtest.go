// Package dbtest starts real database servers for tests: Postgres and MariaDB,
// from the binaries installed on the machine, each in a temporary directory
// and on a free port of the loopback interface. SQLite needs no server; it
// gets a file.
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
//	func TestOrders(t *testing.T) {
//		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
//		db.MustExec(`create table orders (id bigserial primary key)`)
//		...
//	}
//
// [Postgres] and [MariaDB] return one server for the whole test process,
// started when the first test asks for it; each test takes a database of its
// own there, so tests may run in parallel. A test that wants to stop, kill or
// restart a server, or to give it other settings, starts a private one with
// [StartPostgres] or [StartMariaDB].
//
// Nothing is shared between test processes and nothing is fixed: not a port,
// not a directory, not a password. So packages may be tested at the same time,
// next to whatever else runs on the machine.
//
// # What must be installed
//
// On Debian and Ubuntu `apt-get install postgresql mariadb-server`; the
// services those packages start are not used. Where the binaries are missing
// the test is skipped and says so; if the environment has CI=true it fails,
// because a skipped test in CI is a hole that nobody sees.
//
// # Settings
//
// The servers do not fsync: their data survives kill -9 of the server, which
// is what tests do, but not a power cut. Time zone is UTC, locale C with UTF-8.
// Postgres asks for a password (SCRAM), MariaDB does too, so that a wrong one
// is a real error. All else is the server's default; [Args] changes it. Started
// by root, Postgres runs as the user postgres, or nobody.
//
// # What is left behind
//
// Nothing: [Main] stops the shared servers and a test's cleanup the private
// ones. If the test process panics, runs into its -timeout or is killed with
// SIGKILL, a small shell process that waits for that ends the servers and
// removes their directories. Windows has no such process, and leaves them.
package dbtest

import (
	"os"
	"sync"
	"testing"
)

// Option is a setting of a private server.
type Option func(*Server)

// Args adds arguments to the server's command line, where they win over the
// ones this package gives: Args("-c", "max_connections=5") for Postgres,
// Args("--max-connections=5") for MariaDB.
func Args(args ...string) Option {
	return func(s *Server) { s.args = append(s.args, args...) }
}

// The shared servers have to be package-level state: tests have nothing else
// in common.
var sharedPostgres, sharedMariaDB shared

type shared struct {
	once   sync.Once
	server *Server
	err    error
}

func (sh *shared) get(tb testing.TB, e engine) *Server {
	tb.Helper()
	need(tb, e)
	sh.once.Do(func() {
		sh.server, sh.err = start(e, nil)
		if sh.err == nil {
			sh.server.shared = true
		}
	})
	if sh.err != nil {
		tb.Fatal(sh.err)
	}
	return sh.server
}

// Postgres returns the test process's own Postgres server, and starts it if
// this is the first call. It is safe for concurrent use.
func Postgres(tb testing.TB) *Server {
	tb.Helper()
	return sharedPostgres.get(tb, &postgres{})
}

// MariaDB returns the test process's own MariaDB server, and starts it if this
// is the first call. It is safe for concurrent use.
func MariaDB(tb testing.TB) *Server {
	tb.Helper()
	return sharedMariaDB.get(tb, &mariadb{})
}

// StartPostgres starts a Postgres server for this test alone, which may stop,
// kill and start it. It is stopped and removed when the test ends.
func StartPostgres(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	return startPrivate(tb, &postgres{}, opts)
}

// StartMariaDB starts a MariaDB server for this test alone, which may stop,
// kill and start it. It is stopped and removed when the test ends.
func StartMariaDB(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	return startPrivate(tb, &mariadb{}, opts)
}

func startPrivate(tb testing.TB, e engine, opts []Option) *Server {
	tb.Helper()
	need(tb, e)
	s, err := start(e, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("dbtest: the end of the log of %s:\n%s", e.name(), s.logTail())
		}
		if err := s.remove(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// need finds the engine's binaries, and skips or fails the test without them.
func need(tb testing.TB, e engine) {
	tb.Helper()
	err := e.find()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("%v", err)
	}
	tb.Skipf("%v", err)
}

// Main runs the tests of m, stops the shared servers and exits. Call it from
// TestMain. A test process without it leaves the stopping to the shell process
// described above.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run does what [Main] does, for a TestMain that has more to clean up: it returns
// the exit code instead of exiting.
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
