//go:build linux

package faults

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// errnos are errors that file systems return.
var errnos = strings.Fields(`EIO ENOSPC EDQUOT EROFS EACCES EPERM ENOENT EINVAL EMFILE ENFILE ENOMEM EFBIG
	ESTALE ENOTDIR EISDIR ENODEV ENXIO EBUSY ETIMEDOUT ENAMETOOLONG EOPNOTSUPP`)

// liveCalls are the system calls of a copy to its files while it runs, and startCalls those when
// it starts, some of which it makes for other reasons, too.
var (
	liveCalls  = strings.Fields(`openat write pwrite64 fsync renameat newfstatat close`)
	startCalls = strings.Fields(`openat newfstatat fstat getdents64 unlinkat ftruncate`)
)

// syscallFaults make system calls of the copy fail, by strace.
func syscallFaults() (list []fault) {
	each := fmt.Sprintf("strace makes it fail, each time with another error, from %s to %s", errnos[0], errnos[len(errnos)-1])
	for _, call := range liveCalls {
		list = append(list, fault{name: "errors of " + call, on: onlyPostgres, dies: true, times: inTurn(len(errnos), 3),
			how: each + ", for half a second", quiet: 500 * time.Millisecond, begin: eachErrno(call, trace)})
	}
	for _, call := range startCalls {
		list = append(list, fault{name: "errors of " + call + " at the start", on: onlyPostgres, dies: true, times: inTurn(len(errnos), 3),
			how:   "the copy is killed, its last file is torn, temporary files are left, and it starts under strace; " + each,
			quiet: 300 * time.Millisecond, begin: eachErrno(call, traceStart)})
	}
	list = append(list,
		fault{name: "fsync hangs", how: "strace holds up each fsync and fdatasync for 3 s", on: onlyPostgres, times: 2, quiet: 3 * time.Second, begin: func(w *world) func() {
			return trace(w, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=3s")
		}},
		fault{name: "fsync fails", how: "strace makes each second fsync and fdatasync fail with EIO", on: databases, dies: true, begin: func(w *world) func() {
			return trace(w, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=1+2")
		}},
		fault{name: "short of space", how: "strace makes each third write fail with ENOSPC", on: onlyPostgres, dies: true, quiet: time.Second, begin: func(w *world) func() {
			return trace(w, "-e", "trace=write,pwrite64", "-e", "inject=write,pwrite64:error=ENOSPC:when=3+3")
		}},
	)
	for i := range list {
		list[i].part = "files"
	}
	return list
}

// eachErrno takes another error each time. Each turn takes others.
func eachErrno(call string, inject func(w *world, args ...string) func()) func(w *world) func() {
	next := turn() * 3
	return func(w *world) func() {
		errno := errnos[next%len(errnos)]
		next++
		return inject(w, "-e", "trace="+call, "-e", "inject="+call+":error="+errno)
	}
}

// trace attaches strace to the copy, until the returned function is called. It returns when
// strace has made a call fail, or has held it up. Only calls to the copy's files are concerned:
// a Go program ends when some others fail, such as writes to its own event queue.
func trace(w *world, args ...string) (end func()) {
	args, injected := straceArgs(w, args)
	cmd := exec.Command("strace", append(args, "-p", fmt.Sprint(w.copy.pid()))...)
	said, err := cmd.StderrPipe()
	require.NoError(w.t, err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(w.t, cmd.Start())
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it detaches
		_, _ = io.Copy(io.Discard, said)
		_ = cmd.Wait() // with the signal
		w.calls += injected()
	})
	w.t.Cleanup(end)
	lines, attached := bufio.NewScanner(said), false
	var text strings.Builder
	for !attached && lines.Scan() {
		attached = strings.Contains(lines.Text(), "attached")
		fmt.Fprintln(&text, lines.Text())
	}
	require.True(w.t, attached, "strace does not attach: %s", &text)
	w.eventually("strace injects", func() bool { return injected() > 0 })
	return end
}

// traceStart starts the copy again, under strace. It returns when strace has made a call fail.
// The process may end because of it, and no other one is traced.
func traceStart(w *world, args ...string) (end func()) {
	args, injected := straceArgs(w, args)
	w.copy.change(func(p *program) {
		p.next = slices.Concat([]string{"strace", "-D"}, args) // strace is not the parent, so the copy itself is killed
		p.before = func() { tear(w) }
	})
	w.copy.kill()
	w.eventually("strace injects", func() bool { return injected() > 0 })
	return func() {
		w.copy.kill()
		w.calls += injected()
	}
}

// straceArgs returns the arguments of strace, and a function that counts the injected errors.
func straceArgs(w *world, args []string) (all []string, injected func() int) {
	if _, err := exec.LookPath("strace"); err != nil {
		missing(w.t, "install the package strace, to make system calls fail")
	}
	for _, path := range filesOf(w) {
		args = append(args, "-P", path)
	}
	output := filepath.Join(w.t.TempDir(), "strace")
	return append(args, "-f", "-o", output), func() int {
		text, _ := os.ReadFile(output)
		return bytes.Count(text, []byte("(INJECTED)")) + bytes.Count(text, []byte("(DELAYED)"))
	}
}

// tear leaves what a power failure may leave: a part of a line that was not confirmed, and
// temporary files.
func tear(w *world) {
	open, err := filepath.Glob(filepath.Join(w.dir, "*.open"))
	require.NoError(w.t, err)
	for _, path := range open {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(w.t, err)
		_, err = f.WriteString(`{"id":`)
		require.NoError(w.t, err)
		require.NoError(w.t, f.Close())
	}
	for i := range 2 {
		require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, fmt.Sprintf(".checkpoint.%d.tmp", i)), nil, 0o600))
	}
}

// filesOf returns the directory of the copy, and the files that it will write in the next seconds.
func filesOf(w *world) []string {
	paths := []string{w.dir, filepath.Join(w.dir, "checkpoint"), filepath.Join(w.dir, "lock")}
	for i := range 4 {
		paths = append(paths, filepath.Join(w.dir, fmt.Sprintf(".checkpoint.%d.tmp", i)))
	}
	segments, err := filepath.Glob(filepath.Join(w.dir, "*.jsonl*"))
	require.NoError(w.t, err)
	for i := range 40 {
		paths = append(paths, filepath.Join(w.dir, fmt.Sprintf("items-%010d.jsonl.open", len(segments)+i)))
	}
	return paths
}
