//go:build linux

package systemd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
	"github.com/artifactofdevotion/devotion/poller/integration/systemdlab"
)

// build makes the packages of two versions.
func build(t *testing.T) (dir string) {
	dependencies(t)
	dir = t.TempDir()
	for _, version := range []string{"1.0.0", "v1.1.0"} { // as a tag has it, too
		cmd := exec.Command("../package/build", version, dir)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return dir
}

// dependencies skips the test where a package is missing that dbtofile's depends on.
func dependencies(t *testing.T) {
	for _, name := range []string{"curl", "jq", "gpgv"} {
		deploytest.Program(t, name, name)
	}
}

// machine is a lab with the packages, and methods for what an administrator would do.
type machine struct {
	*systemdlab.Lab
	t     *testing.T
	marks int
}

func boot(t *testing.T, packages string) *machine {
	t.Parallel()
	m := &machine{Lab: systemdlab.Boot(t), t: t}
	require.NoError(t, os.CopyFS(m.Dir(), os.DirFS(packages)))
	return m
}

func deb(version string) string {
	return "/opt/lab/dbtofile_" + version + "_" + runtime.GOARCH + ".deb"
}

// install installs a version of the package with dpkg.
func (m *machine) install(version string) {
	m.t.Helper()
	m.Must("dpkg", "--install", deb(version))
}

// configure writes the settings of dbtofile.service, or of an instance.
func (m *machine) configure(instance, dsn string, settings ...string) {
	m.t.Helper()
	env, secret := "/etc/dbtofile/dbtofile.env", "/etc/dbtofile/dsn"
	if instance != "" {
		env, secret = "/etc/dbtofile/"+instance+".env", "/etc/dbtofile/"+instance+".dsn"
	}
	m.Write(env, strings.Join(settings, "\n")+"\n")
	m.Write(secret, dsn+"\n")
	m.Must("chmod", "600", secret)
}

// postgres starts a server as a unit of the machine, with a table for the writers.
func (m *machine) postgres() {
	m.t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			m.t.Fatal("no Postgres: install the package postgresql")
		}
		m.t.Skip("no Postgres: install the package postgresql")
	}
	bin := found[len(found)-1]
	m.Must("install", "-d", "-o", "postgres", "-g", "postgres", "/srv/pg")
	m.Must("runuser", "-u", "postgres", "--", bin+"/initdb", "--no-sync", "--auth-local=peer", "--auth-host=trust", "/srv/pg/data")
	m.Unit("pg.service", `[Service]
Type=notify
User=postgres
RuntimeDirectory=pg
ExecStart=`+bin+`/postgres -D /srv/pg/data -c listen_addresses=127.0.0.1 -c unix_socket_directories=/run/pg -c fsync=off
KillMode=mixed
KillSignal=SIGINT
`)
	m.Must("systemctl", "start", "pg")
	m.psql("create table orders (id bigserial primary key, body text not null)")
	m.psql("create role dbtofile login")
	m.psql("grant select on orders to dbtofile")
}

const postgresDSN = "postgres://dbtofile@127.0.0.1/postgres?sslmode=disable"

func (m *machine) psql(statement string) string {
	m.t.Helper()
	return m.Must("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-h", "/run/pg", "-c", statement)
}

// write starts clients that add rows until the returned function is called. One of them
// commits slowly.
func (m *machine) write() (stop func()) {
	m.t.Helper()
	const insert = "insert into orders (body) select md5(random()::text) from generate_series(1, 20)"
	for name, statement := range map[string]string{
		"quick": insert,
		"slow":  "do $$ begin " + insert + "; perform pg_sleep(0.2); end $$",
	} {
		m.Write("/srv/pg/"+name+".sql", statement+" \\watch 0.05\n")
		m.Unit("writer-"+name+".service", `[Unit]
StartLimitIntervalSec=0
[Service]
User=postgres
ExecStart=psql -XAtq -v ON_ERROR_STOP=1 -h /run/pg -f /srv/pg/`+name+`.sql
Restart=always
RestartSec=100ms
StandardOutput=null
LogLevelMax=0
`)
		m.Must("systemctl", "start", "writer-"+name)
	}
	return func() {
		m.Must("systemctl", "stop", "writer-quick", "writer-slow")
		m.Eventually("the writers' sessions have ended", func() bool {
			return m.psql("select count(*) from pg_stat_activity where usename = 'postgres' and backend_type = 'client backend'") == "1"
		})
	}
}

// backlog adds rows at once.
func (m *machine) backlog(rows int) {
	m.t.Helper()
	m.psql(fmt.Sprintf("insert into orders (body) select md5(random()::text) from generate_series(1, %d)", rows))
}

// output returns everything copied to a directory, in order.
func (m *machine) output(dir string) (text string) {
	m.t.Helper()
	paths := m.files(dir)
	var b strings.Builder
	for _, path := range paths {
		part, err := os.ReadFile(path)
		require.NoError(m.t, err)
		b.Write(part)
	}
	return b.String()
}

func (m *machine) files(dir string) []string {
	paths, err := filepath.Glob(m.Path(dir) + "/*.jsonl*")
	require.NoError(m.t, err)
	slices.Sort(paths)
	return paths
}

func (m *machine) size(dir string) (n int) {
	for _, path := range m.files(dir) {
		if info, err := os.Stat(path); err == nil { // it may just be sealed
			n += int(info.Size())
		}
	}
	return n
}

// flows waits until more is copied.
func (m *machine) flows(dir string) {
	m.t.Helper()
	before := m.size(dir)
	m.Eventually("rows are copied to "+dir, func() bool { return m.size(dir) > before })
}

// same waits until all rows are copied, and compares every one.
func (m *machine) same(dir, want string) {
	m.t.Helper()
	m.Eventually("all rows are copied to "+dir, func() bool { return m.size(dir) >= len(want) })
	got := m.output(dir)
	require.NotEmpty(m.t, want)
	if got != want { // not require.Equal, which would print them all
		lines := map[string]int{}
		for line := range strings.Lines(got) {
			lines[line]++
		}
		lost, twice := 0, 0
		for line := range strings.Lines(want) {
			if lines[line] == 0 {
				lost++
			} else if lines[line] > 1 {
				twice++
			}
			delete(lines, line)
		}
		m.t.Fatalf("%s: of %d rows %d are lost and %d copied more than once, %d lines are not rows, or they are out of order", dir, strings.Count(want, "\n"), lost, twice, len(lines))
	}
	m.t.Logf("%s: %d rows, none lost, none twice, all in order", dir, strings.Count(want, "\n"))
}

// rows returns what must be copied from the table orders.
func (m *machine) rows() string {
	m.t.Helper()
	return m.psql(`select '{"id":' || id || ',"body":"' || body || '"}' from orders order by id`) + "\n"
}

// at runs a command and returns when, by the journal's clock.
func (m *machine) at(command ...string) time.Duration {
	m.t.Helper()
	m.marks++
	unit := fmt.Sprintf("mark-%d.service", m.marks)
	m.Must(append([]string{"systemd-run", "--quiet", "--wait", "--unit=" + unit}, command...)...)
	entries := m.Journal(unit)
	require.NotEmpty(m.t, entries)
	return entries[0].At
}

// ready waits until a unit is ready after a moment, and returns how long that took.
func (m *machine) ready(unit string, after time.Duration) (took time.Duration) {
	m.t.Helper()
	m.Eventually(unit+" is ready again", func() bool {
		for _, e := range m.Journal(unit) {
			if e.At > after && strings.HasPrefix(e.Message, "Started "+unit) {
				took = e.At - after
				return true
			}
		}
		return false
	})
	assert.Equal(m.t, "active", m.Show(unit, "ActiveState"))
	return took
}

// said waits until a unit has written a line with a text, and returns when.
func (m *machine) said(unit, text string) (at time.Duration) {
	m.t.Helper()
	m.Eventually(unit+" says "+text, func() bool {
		for _, e := range m.Journal(unit) {
			if strings.Contains(e.Message, text) {
				at = e.At
			}
		}
		return at > 0
	})
	return at
}

const (
	shop    = "/opt/lab/shop"
	shopDSN = "sqlite:" + shop + "/shop.db"
)

// sqlite creates a database that the service may open, in a separate directory, because SQLite
// creates files next to it.
func (m *machine) sqlite(tables ...string) *sqlx.DB {
	m.t.Helper()
	dir := filepath.Join(m.Dir(), "shop")
	require.NoError(m.t, os.Mkdir(dir, 0o755))
	db, err := sqlx.Open("sqlite3", "file:"+dir+"/shop.db?_pragma=busy_timeout(20000)")
	require.NoError(m.t, err)
	m.t.Cleanup(func() { db.Close() })
	for _, table := range tables {
		db.MustExec("create table " + table + " (id integer primary key autoincrement, body text)")
	}
	m.Must("chown", "-R", "dbtofile", shop)
	for _, unit := range []string{service, "dbtofile@.service"} {
		m.Unit(unit+".d/shop.conf", "[Service]\nReadWritePaths="+shop+"\n")
	}
	return db
}

// figures are the times that the README shows.
type figures struct {
	mu    sync.Mutex
	lines []string
}

func (f *figures) add(what string, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, fmt.Sprintf("%-64s %6.2f s", what, took.Seconds()))
}

func (f *figures) String() string {
	slices.Sort(f.lines)
	return strings.Join(f.lines, "\n")
}
