//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/orders"
)

var built struct {
	once sync.Once
	path string
}

// dbtofile builds the program once, in a directory that every user can read.
func dbtofile(tb testing.TB) string {
	built.once.Do(func() {
		path := filepath.Join(lasting(tb), "dbtofile")
		text, err := os.ReadFile(orders.Build(tb))
		require.NoError(tb, err)
		require.NoError(tb, os.WriteFile(path, text, 0o755))
		built.path = path
	})
	return built.path
}

// program runs dbtofile, and starts it again when it ends, as a supervisor does.
type program struct {
	w      *world
	wrap   []string            // a command that runs it, such as prlimit
	user   *syscall.Credential // nil: the user of the test
	args   []string            // more flags
	env    []string            // more variables
	path   string              // of another build; empty: dbtofile
	dsn    string
	stderr *os.File // instead of this log
	next   []string // a command that runs the next process only
	before func()   // runs before the next start

	mu       sync.Mutex
	cmd      *exec.Cmd // the process that runs, or nil
	lines    []logged
	partial  []byte
	exits    []exit
	stopping bool
	ended    chan struct{} // closed when no process will be started any more
}

type logged struct {
	at   time.Time
	text string
}

type exit struct {
	at   time.Time
	code int // or minus the signal
}

func newProgram(w *world) *program {
	return &program{w: w, dsn: w.engine.dsn(w.database), ended: make(chan struct{})}
}

// command returns a command that runs the program with more flags.
func (p *program) command(more ...string) *exec.Cmd {
	path := p.path
	if path == "" {
		path = dbtofile(p.w.t)
	}
	args := slices.Concat(p.next, p.wrap, []string{path, "-table", "items", "-key", "id", "-out", p.w.dir,
		"-interval", "20ms", "-batch", "100", "-segment-bytes", "200000", "-log-format", "json"}, p.args, more)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(append(os.Environ(), "DBTOFILE_DSN="+p.dsn), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: p.user}
	cmd.Stderr = p
	if p.stderr != nil {
		cmd.Stderr = p.stderr
	}
	return cmd
}

// Write takes the program's standard error, line by line.
func (p *program) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partial = append(p.partial, text...)
	for {
		end := bytes.IndexByte(p.partial, '\n')
		if end < 0 {
			return len(text), nil
		}
		p.lines = append(p.lines, logged{time.Now(), string(p.partial[:end])})
		p.partial = p.partial[end+1:]
	}
}

// start runs the program until stop is called.
func (p *program) start() {
	go func() {
		defer close(p.ended)
		for p.runOnce() && pause(context.Background(), 50*time.Millisecond) {
		}
	}()
	p.w.t.Cleanup(func() { p.signal(syscall.SIGCONT); p.stopWith(syscall.SIGKILL) })
}

// runOnce runs one process to its end, and reports whether there should be another.
func (p *program) runOnce() bool {
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return false
	}
	if p.before != nil {
		p.before()
	}
	cmd := p.command("-listen", "127.0.0.1:0")
	cmd.WaitDelay = 10 * time.Second // a tracer may outlive it with its standard error
	p.before, p.next = nil, nil
	err := cmd.Start()
	p.cmd = cmd
	p.mu.Unlock()
	if err == nil {
		_ = cmd.Wait()
		err = fmt.Errorf("%v", cmd.ProcessState)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exits = append(p.exits, exit{time.Now(), codeOf(cmd)})
	p.lines = append(p.lines, logged{time.Now(), "ended: " + err.Error()})
	p.cmd = nil
	return !p.stopping
}

func codeOf(cmd *exec.Cmd) int {
	if cmd.ProcessState == nil {
		return 127
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return -int(status.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// change changes the next process.
func (p *program) change(how func(p *program)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	how(p)
}

// kill kills a process and waits for its end. It leaves the next one alone.
func (p *program) kill() {
	killed := func() (n int) {
		for _, e := range p.exits {
			if e.code == -int(syscall.SIGKILL) {
				n++
			}
		}
		return n
	}
	p.mu.Lock()
	before := killed()
	p.mu.Unlock()
	p.w.eventually("the process is killed", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if killed() > before {
			return true
		}
		if p.cmd != nil && p.cmd.Process != nil { // the one before may have ended already
			_ = p.cmd.Process.Kill()
		}
		return false
	})
}

// signal sends a signal to the process, if one runs.
func (p *program) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

// pid waits for a process, and returns its id.
func (p *program) pid() (pid int) {
	p.w.eventually("a process runs", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.cmd == nil || p.cmd.Process == nil {
			return false
		}
		pid = p.cmd.Process.Pid
		return true
	})
	return pid
}

func (p *program) stop() {
	p.w.t.Helper()
	p.stopWith(syscall.SIGTERM)
}

func (p *program) stopWith(s syscall.Signal) {
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	p.signal(s)
	select {
	case <-p.ended:
	case <-time.After(lab.WaitLimit):
		p.signal(syscall.SIGKILL)
		p.w.t.Errorf("the program does not end; its log ends with\n%s", p.log())
	}
}

// once copies the remaining rows, and completes the last file.
func (p *program) once() {
	p.w.t.Helper()
	cmd := p.command("-once")
	assert.NoError(p.w.t, cmd.Run(), "-once: %s", p.log()) // the files are compared anyway
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exits = append(p.exits, exit{time.Now(), codeOf(cmd)})
}

// verify lets the program itself compare the files with the table, and returns its exit code.
func (p *program) verify() string {
	cmd := p.command("-verify")
	text, _ := cmd.Output()
	if cmd.ProcessState == nil || !cmd.ProcessState.Success() {
		p.w.t.Logf("-verify: %s; the log ends with\n%s", text, p.log())
	}
	return strconv.Itoa(codeOf(cmd))
}

// exitCodes lists the codes of all processes that ended, such as "1 x 3, 0". A signal is negative.
func (p *program) exitCodes() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var codes []int
	count := map[int]int{}
	for _, e := range p.exits {
		if count[e.code]++; count[e.code] == 1 {
			codes = append(codes, e.code)
		}
	}
	slices.Sort(codes)
	var list []string
	for _, c := range slices.Backward(codes) {
		name := fmt.Sprint(c)
		if c < 0 {
			name = "killed"
		}
		if c != 0 {
			name += fmt.Sprintf(" x %d", count[c])
		}
		list = append(list, name)
	}
	return strings.Join(list, ", ")
}

// delivered returns the last id in the files.
func (p *program) delivered() int64 { return lastID(p.w.dir) }

// log returns the last lines.
func (p *program) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, l := range p.lines[max(0, len(p.lines)-12):] {
		fmt.Fprintln(&b, l.text)
	}
	return b.String()
}

// alarms are parts of the lines that say that something is wrong.
var alarms = []string{`"msg":"failing`, `"msg":"still failing`, `"msg":"overdue`, `"msg":"no answer yet`, `"msg":"records held back`, `"level":"ERROR"`, "ended: "}

// failing reports whether the program has said since a time that something is wrong.
func (p *program) failing(since time.Time) bool {
	if p.said(since, alarms...) {
		return true
	}
	s, ok := p.status()
	return ok && (s.Attempts > 0 || s.Overdue)
}

// said reports whether a line since a time has one of the parts.
func (p *program) said(since time.Time, parts ...string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range slices.Backward(p.lines) {
		if l.at.Before(since) {
			return false
		}
		if slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(l.text, part) }) {
			return true
		}
	}
	return false
}

// address returns where the pages of the last process are, or nothing.
func (p *program) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range slices.Backward(p.lines) {
		if _, rest, ok := strings.Cut(l.text, `"msg":"listening","address":"`); ok {
			at, _, _ := strings.Cut(rest, `"`)
			return at
		}
	}
	return ""
}

type health struct {
	Attempts  int       `json:"attempts"`
	Overdue   bool      `json:"overdue"`
	LastError string    `json:"last_error"`
	Now       time.Time `json:"-"`
}

var client = http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// status returns what /status says, if it answers.
func (p *program) status() (h health, ok bool) {
	answer, err := client.Get("http://" + p.address() + "/status")
	if err != nil {
		return h, false
	}
	defer answer.Body.Close()
	var page struct {
		Now       time.Time
		Pipelines []health
	}
	if json.NewDecoder(answer.Body).Decode(&page) != nil || len(page.Pipelines) != 1 {
		return h, false
	}
	page.Pipelines[0].Now = page.Now
	return page.Pipelines[0], true
}
