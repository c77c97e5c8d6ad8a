package main_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// binary is the path of the program under test, built as a user builds it.
var binary string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dbtofile-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "dbtofile.exe")
	args := []string{"build", "-o", binary}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race") // like the test itself
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return dbtest.Run(m)
}

// patience limits each wait. It is long enough for a busy machine.
const patience = 3 * time.Minute

// process is a run of the program.
type process struct {
	*exec.Cmd
	t      *testing.T
	stdout buffer
	stderr buffer
	ended  chan struct{}
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// command prepares a run with environment settings such as "BATCH=7". It removes
// settings from the environment of the test.
func command(t *testing.T, environ []string, args ...string) *process {
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience) // a test may wait several times
	t.Cleanup(cancel)
	p := &process{Cmd: exec.CommandContext(ctx, binary, args...), t: t, ended: make(chan struct{})}
	p.Env = slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "PG") || strings.HasPrefix(s, "DBTOFILE_") || strings.HasPrefix(s, "JOURNAL_STREAM=")
	})
	for _, s := range environ {
		p.Env = append(p.Env, "DBTOFILE_"+s)
	}
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	return p
}

// start starts the program. It is killed when the test ends, if it still runs.
func start(t *testing.T, environ []string, args ...string) *process {
	p := command(t, environ, args...)
	p.launch()
	return p
}

func (p *process) launch() {
	require.NoError(p.t, p.Start())
	go func() { _ = p.Wait(); close(p.ended) }()
	p.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
		if p.t.Failed() {
			p.t.Logf("%s%s", &p.stdout, &p.stderr)
		}
	})
}

// code waits for the end and returns the exit code.
func (p *process) code() int {
	<-p.ended
	return p.ProcessState.ExitCode()
}

// says waits until standard error has the text n times.
func (p *process) says(text string, n int) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Count(p.stderr.String(), text) >= n }, patience, 5*time.Millisecond, "%q", text)
}

func (p *process) signal(s os.Signal) { require.NoError(p.t, p.Process.Signal(s)) }

// run runs the program to its end.
func run(t *testing.T, environ []string, args ...string) *process {
	p := start(t, environ, args...)
	<-p.ended
	return p
}

// succeeds runs the program to its end, and requires exit code 0.
func succeeds(t *testing.T, args ...string) *process {
	t.Helper()
	p := run(t, nil, args...)
	require.Equal(t, 0, p.code(), "%s", &p.stderr)
	return p
}

// files returns the names of the complete files of a directory, in order.
func files(t *testing.T, dir, extension string) []string {
	names, err := filepath.Glob(filepath.Join(dir, "*"+extension))
	require.NoError(t, err)
	slices.Sort(names)
	return names
}

// content concatenates all complete files in the order of their names.
func content(t *testing.T, dir, extension string) string {
	var all strings.Builder
	for _, name := range files(t, dir, extension) {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		all.Write(b)
	}
	return all.String()
}

// same compares texts of many lines, and shows the first difference.
func same(t *testing.T, want, got string) {
	t.Helper()
	w, g := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	for i := range min(len(w), len(g)) {
		require.Equal(t, w[i], g[i], "line %d of %d, want %d", i+1, len(g)-1, len(w)-1)
	}
	require.Len(t, g, len(w), "lines")
}

// shop returns a SQLite database with a table orders of n rows.
func shop(t *testing.T, n int) (db *sqlx.DB, dsn string) {
	d := dbtest.SQLite(t)
	db = d.Open(t, dbtest.NCruces)
	db.MustExec(`CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL)`)
	if n > 0 {
		sell(db, 1, n)
	}
	return db, "sqlite:" + d.Name()
}

// sell adds orders whose numbers are from and to and those between.
func sell(db *sqlx.DB, from, to int) {
	db.MustExec(db.Rebind(`WITH RECURSIVE n(i) AS (SELECT CAST(? AS integer) UNION ALL SELECT i + 1 FROM n WHERE i < CAST(? AS integer))
		INSERT INTO orders (name) SELECT 'order ' || i FROM n ORDER BY i`), from, to)
}

// sold returns the lines of the orders from and to and those between.
func sold(from, to int) string {
	var lines strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&lines, `{"id":%d,"name":"order %d"}`+"\n", i, i)
	}
	return lines.String()
}
