//go:build unix

package replicas

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func TestMain(m *testing.M) {
	if s, ok := fromEnvironment(); ok {
		if err := s.run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.Main(m)
}

// fleet is some replicas over one database.
type fleet struct {
	t        *testing.T
	db       *sqlx.DB
	settings settings // of each replica, without its name
	running  []*process
	started  int
	numbers  int // inserted
}

// process is a replica.
type process struct {
	settings
	t     *testing.T
	cmd   *exec.Cmd
	log   *buffer
	ended chan struct{}
}

// buffer may be read while a process writes to it.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newFleet(t *testing.T, database dbtest.Database, driver dbtest.Driver, n int) *fleet {
	dsn := strings.Replace(database.DSN(driver), "busy_timeout(5000)", "busy_timeout(60000)", 1) // several processes write
	db, err := sqlx.Open(driver.SQLName(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	f := &fleet{t: t, db: db, settings: settings{driver: driver.SQLName(), dsn: dsn, dir: t.TempDir()}}
	f.db.SetMaxIdleConns(-1) // the connections of a killed server would fail
	f.db.MustExec("CREATE TABLE numbers (id bigint PRIMARY KEY)")
	f.db.MustExec("CREATE TABLE copies (pos " + lab.IDColumn(driver) + ", id bigint NOT NULL, replica text NOT NULL, term integer NOT NULL)")
	if driver == dbtest.NCruces {
		f.settings.lock = filepath.Join(t.TempDir(), "numbers.lock")
	}
	for range n {
		f.start()
	}
	return f
}

// start starts a process. It is killed when the test ends.
func (f *fleet) start() *process {
	f.started++
	s := f.settings
	s.name = fmt.Sprintf("replica-%d", f.started)
	p := &process{settings: s, t: f.t, cmd: exec.Command(os.Args[0]), log: &buffer{}, ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stderr = s.environ(), p.log
	_, err := p.cmd.StdinPipe()
	require.NoError(f.t, err)
	require.NoError(f.t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // ProcessState says how it ended
	}()
	f.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if f.t.Failed() {
			f.t.Logf("%s:\n%s", p.name, p.log)
		}
	})
	f.running = append(f.running, p)
	lab.WaitFor(f.t, func() bool { return p.said("address") != "" })
	return p
}

// said returns what a replica has written for the test, or "".
func (p *process) said(what string) string {
	text, err := os.ReadFile(filepath.Join(p.dir, p.name+"."+what))
	if err != nil {
		return ""
	}
	return string(text)
}

// get requests a path of a replica.
func (p *process) get(path string) (code int, body string) {
	r, err := http.Get("http://" + p.said("address") + path)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(text)
}

// signal sends a signal to a process.
func (p *process) signal(s syscall.Signal) { require.NoError(p.t, p.cmd.Process.Signal(s)) }

// end ends a process by a signal, and takes it out of the fleet.
func (f *fleet) end(p *process, s syscall.Signal) {
	p.signal(s)
	<-p.ended
	f.running = slices.DeleteFunc(f.running, func(r *process) bool { return r == p })
}

// insert inserts a few numbers, at once: a process that is paused may hold locks of SQLite.
func (f *fleet) insert() {
	var rows []string
	for range 30 {
		f.numbers++
		rows = append(rows, fmt.Sprintf("(%d)", f.numbers))
	}
	f.db.MustExec("INSERT INTO numbers VALUES " + strings.Join(rows, ", "))
}

func (f *fleet) copied() (n int) {
	require.NoError(f.t, f.db.Get(&n, "SELECT count(*) FROM copies"))
	return n
}

// deliver inserts numbers and waits until they are copied. It returns how long that
// took, and which replica copied the last one.
func (f *fleet) deliver() (time.Duration, *process) {
	f.t.Helper()
	since := time.Now()
	f.insert()
	lab.WaitFor(f.t, func() bool { return f.copied() >= f.numbers })
	took := time.Since(since)
	var name string
	require.NoError(f.t, f.db.Get(&name, "SELECT replica FROM copies ORDER BY pos DESC LIMIT 1"))
	for _, p := range f.running {
		if p.name == name {
			return took, p
		}
	}
	require.Fail(f.t, "the last number was copied by a replica that has ended", name)
	return 0, nil
}

// active returns the replica that has the lease.
func (f *fleet) active() *process {
	_, p := f.deliver()
	return p
}

// othersStandBy waits until all replicas but one say that they stand by.
func (f *fleet) othersStandBy() {
	f.t.Helper()
	lab.WaitFor(f.t, func() bool {
		n := 0
		for _, p := range f.running {
			code, ready := p.get("/readyz")
			_, page := p.get("/")
			_, metrics := p.get("/metrics")
			if code == http.StatusOK && ready == "numbers: ready: standby\n" && strings.Contains(page, "numbers stands by") &&
				strings.Contains(metrics, `devotion_state{pipeline="numbers",state="standby"} 1`) {
				n++
			}
		}
		return n == len(f.running)-1
	})
}

// judge compares the copies with the numbers, and the terms with each other: once a
// replica has written, no earlier one writes again in the same term.
func (f *fleet) judge() {
	var copies []struct {
		ID      int
		Replica string
		Term    int
	}
	require.NoError(f.t, f.db.Select(&copies, "SELECT id, replica, term FROM copies ORDER BY pos"))
	require.Len(f.t, copies, f.numbers)
	ended, last, terms := map[string]bool{}, "", 0
	for i, c := range copies {
		require.Equal(f.t, i+1, c.ID, "lost, twice or out of order")
		term := fmt.Sprintf("%s/%d", c.Replica, c.Term)
		if term != last {
			ended[last] = true
			last = term
			terms++
		}
		require.False(f.t, ended[term], "%s wrote %d after another replica had taken over", term, c.ID)
	}
	f.t.Logf("%d numbers, %d terms", len(copies), terms)
	for _, p := range slices.Clone(f.running) {
		f.end(p, syscall.SIGTERM)
		assert.Zero(f.t, p.cmd.ProcessState.ExitCode(), "%s:\n%s", p.name, p.log)
	}
}

// killAndStop ends the active replica in two ways.
func (f *fleet) killAndStop() {
	for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		old := f.active()
		f.end(old, s)
		took, _ := f.deliver()
		f.t.Logf("%v of the active replica: another one delivered after %v", s, took.Round(time.Millisecond))
		if s == syscall.SIGTERM {
			assert.Zero(f.t, old.cmd.ProcessState.ExitCode(), old.log.String())
		}
		f.start()
	}
	f.othersStandBy()
}

// pause has the active replica stop itself within a write, and returns it.
func (f *fleet) pause() (paused *process) {
	require.NoError(f.t, os.WriteFile(filepath.Join(f.settings.dir, "pause"), nil, 0o600))
	f.insert()
	lab.WaitFor(f.t, func() bool {
		i := slices.IndexFunc(f.running, func(p *process) bool { return p.said("paused") != "" })
		if i >= 0 {
			paused = f.running[i]
		}
		return i >= 0
	})
	return paused
}

// resume lets a paused replica go on, and returns what became of its write. It repeats
// the signal, because the first one may come before the replica has stopped itself.
func (p *process) resume() string {
	lab.WaitFor(p.t, func() bool {
		p.signal(syscall.SIGCONT)
		return p.said("outcome") != ""
	})
	return p.said("outcome")
}

// sizes returns how many replicas are tested.
func sizes() []int {
	if testing.Short() {
		return []int{2}
	}
	return []int{2, 5}
}

func TestReplicasWithALeaseInPostgres(t *testing.T) {
	t.Parallel()
	for _, n := range sizes() {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			server := dbtest.StartPostgres(t)
			f := newFleet(t, server.NewDatabase(t), dbtest.PGX, n)
			f.othersStandBy()
			f.killAndStop()

			// A replica that is paused within a write goes on after another one has taken
			// over. The compare-and-swap refuses the write: the lease does not.
			old := f.pause()
			took, now := f.deliver()
			assert.NotEqual(t, old, now)
			t.Logf("SIGSTOP of the active replica: another one delivered after %v", took.Round(time.Millisecond))
			assert.Equal(t, "refused", old.resume())
			f.othersStandBy()

			// The database stops, and comes back.
			require.NoError(t, server.Stop())
			for _, p := range f.running {
				lab.WaitFor(t, func() bool { _, text := p.get("/livez"); return strings.Contains(text, "numbers: live: failing") })
			}
			require.NoError(t, server.Start())
			took, _ = f.deliver()
			t.Logf("start of the database: rows were delivered after %v", took.Round(time.Millisecond))
			f.othersStandBy()

			// The active replica is killed while the database is killed.
			old = f.active()
			require.NoError(t, server.Kill())
			f.end(old, syscall.SIGKILL)
			require.NoError(t, server.Start())
			took, _ = f.deliver()
			t.Logf("start of the database without the active replica: another one delivered after %v", took.Round(time.Millisecond))
			f.judge()
		})
	}
}

func TestReplicasWithALeaseOnAFile(t *testing.T) {
	t.Parallel()
	for _, n := range sizes() {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			f := newFleet(t, dbtest.SQLite(t), dbtest.NCruces, n)
			f.othersStandBy()
			f.killAndStop()

			// A paused process keeps its lock, so nobody takes over.
			old := f.pause()
			assert.Equal(t, "stored", old.resume())
			assert.Equal(t, old, f.active())

			// Without the file the lock keeps nobody away: the active replica gives up.
			require.NoError(t, os.Remove(f.settings.lock))
			lab.WaitFor(t, func() bool { return strings.Contains(old.log.String(), `msg="lease lost"`) })
			f.othersStandBy()
			f.judge()
		})
	}
}
