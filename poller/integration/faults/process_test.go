//go:build linux

package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// processFaults are faults of the process that copies.
func processFaults() []fault {
	list := []fault{
		{name: "SIGKILL", how: "at random times, up to 100 ms after rows arrive", on: databases, dies: true, times: killTimes(), begin: func(w *world) func() {
			<-time.After(rand.N(100 * time.Millisecond))
			w.copy.signal(syscall.SIGKILL)
			return func() {}
		}},
		{name: "SIGKILL at the start", how: "up to 60 ms after each start, 20 times in a row", on: databases, dies: true, times: 2, begin: func(w *world) func() {
			for range 20 {
				w.copy.pid()
				<-time.After(rand.N(60 * time.Millisecond))
				w.copy.kill()
			}
			return func() {}
		}},
		{name: "SIGTERM", how: "a supervisor restarts it", on: databases, dies: true, begin: func(w *world) func() {
			w.copy.signal(syscall.SIGTERM)
			return func() {}
		}},
		{name: "SIGQUIT", how: "Go prints all goroutines and ends", on: onlyPostgres, dies: true, begin: func(w *world) func() {
			w.copy.signal(syscall.SIGQUIT)
			return func() {}
		}},
		{name: "SIGSTOP", how: "the process stands still for 2 s", on: databases, times: 2, quiet: 2 * time.Second, begin: func(w *world) func() {
			w.copy.signal(syscall.SIGSTOP)
			return func() { w.copy.signal(syscall.SIGCONT) }
		}},
		{name: "second copy", how: "another process copies into the same directory for 1 s", on: databases, quiet: time.Second, begin: secondCopy},
		{name: "second copy of one that stands still", how: "the first process is stopped, and another one copies into the same directory for 1 s",
			on: onlyPostgres, quiet: time.Second, begin: func(w *world) func() {
				w.copy.signal(syscall.SIGSTOP)
				end := secondCopy(w)
				return func() { end(); w.copy.signal(syscall.SIGCONT) }
			}},
		{name: "no descriptors", how: "prlimit allows fewer than are open", on: databases, begin: takeDescriptors},
		{name: "little memory", how: "prlimit allows 1 MB of data more, and a row of 30 MB is inserted", on: onlyPostgres, times: 1, dies: true, begin: takeMemory},
		{name: "clock +1 h", how: "the clock of the process jumps forward by an hour, and back after 1 s, in a build whose time.Now reads the offset from a file",
			on: databases, times: 2, slow: true, quiet: time.Second, prepare: ownTime, begin: jumpOwn(time.Hour)},
		{name: "clock -1 h", how: "the clock of the process jumps back by an hour, and forward after 1 s, in the same build",
			on: databases, times: 2, slow: true, quiet: time.Second, prepare: ownTime, begin: jumpOwn(-time.Hour)},
		{name: "stderr is blocked", how: "standard error is a full pipe that nobody reads, while the database is killed and restarted", on: onlyPostgres, private: own, times: 1,
			prepare: blind, quiet: 3 * time.Second, begin: func(w *world) func() { return down(w, w.server.Kill) }},
	}
	for i := range list {
		list[i].part = "process"
	}
	return list
}

// killTimes is how often one copy is killed: many times in the whole form.
func killTimes() int {
	return inTurn((*kills+len(databases)-1)/len(databases), 10)
}

// secondCopy starts the program a second time. It has to refuse, and to leave the first alone.
func secondCopy(w *world) func() {
	second := w.copy.command()
	stderr, err := os.Create(filepath.Join(w.t.TempDir(), "stderr"))
	require.NoError(w.t, err)
	second.Stderr = stderr
	require.NoError(w.t, second.Start())
	return func() {
		defer stderr.Close()
		_ = second.Wait()
		text, err := os.ReadFile(stderr.Name())
		require.NoError(w.t, err)
		assert.Equal(w.t, 1, codeOf(second), string(text))
		assert.Contains(w.t, string(text), "in use by process")
	}
}

// takeDescriptors allows the copy no more descriptors. It needs one for each checkpoint.
func takeDescriptors(w *world) func() {
	limit(w, "nofile", 3)
	return func() { limit(w, "nofile", 1000) }
}

// takeMemory allows the copy little more memory than it has, and inserts a row that needs more. It works
// once: the next process copies that row, and has the memory for another one from then on.
func takeMemory(w *world) func() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.copy.pid()))
	require.NoError(w.t, err)
	_, data, _ := strings.Cut(string(status), "VmData:")
	var kilobytes int
	_, err = fmt.Sscan(data, &kilobytes)
	require.NoError(w.t, err)
	limit(w, "data", (kilobytes+1024)*1024)
	w.must(`INSERT INTO items (note) SELECT repeat('x', 30000000)`)
	return func() {} // the next process has no such limit
}

// prlimit returns the path of the program that sets limits.
func prlimit(w *world) string {
	tool, err := exec.LookPath("prlimit")
	if err != nil {
		missing(w.t, "install the package util-linux, for prlimit")
	}
	return tool
}

// limit sets a limit of the running process.
func limit(w *world, resource string, soft int) {
	w.t.Helper()
	out, err := exec.Command(prlimit(w), "--pid", fmt.Sprint(w.copy.pid()), fmt.Sprintf("--%s=%d:", resource, soft)).CombinedOutput()
	require.NoError(w.t, err, string(out))
}

// blind makes the standard error of each process a pipe that is full, and that nobody reads.
func blind(w *world) {
	read, write, err := os.Pipe()
	require.NoError(w.t, err)
	w.t.Cleanup(func() { read.Close(); write.Close() })
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, write.Fd(), 1031 /* F_SETPIPE_SZ */, 4096)
	require.Zero(w.t, errno)
	_, err = write.Write(make([]byte, 4096))
	require.NoError(w.t, err)
	w.copy.stderr = write
}
