//go:build linux

package faults

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// errnos are errors that file systems return.
var errnos = strings.Fields(`EIO ENOSPC EDQUOT EROFS EACCES EPERM ENOENT EINVAL EMFILE ENFILE ENOMEM EFBIG
	ESTALE ENOTDIR EISDIR ENODEV ENXIO EBUSY ETIMEDOUT ENAMETOOLONG EOPNOTSUPP`)

// fileCalls are the system calls of a copy to its files, some of which it makes for other reasons, too.
var fileCalls = strings.Fields(`openat write pwrite64 fsync fdatasync renameat unlinkat ftruncate newfstatat fstat getdents64 close`)

// syscallFaults make system calls of the copy fail, by strace.
func syscallFaults() (list []fault) {
	for _, call := range fileCalls {
		list = append(list, fault{name: "errors of " + call, on: onlyPostgres, dies: true, slow: true, times: len(errnos),
			how: fmt.Sprintf("strace makes it fail for half a second, each time with another error, from %s to %s", errnos[0], errnos[len(errnos)-1]),
			// The copy makes some of them rarely. Then nothing is noticed.
			quiet: 500 * time.Millisecond, begin: eachErrno(call)})
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

// eachErrno takes another error each time.
func eachErrno(call string) func(w *world) func() {
	next := 0
	return func(w *world) func() {
		errno := errnos[next%len(errnos)]
		next++
		return trace(w, "-e", "trace="+call, "-e", "inject="+call+":error="+errno)
	}
}

// trace attaches strace to the copy, until the returned function is called. Only calls to the
// copy's files are concerned: a Go program ends when some others fail, such as writes to its own event queue.
func trace(w *world, args ...string) (end func()) {
	if _, err := exec.LookPath("strace"); err != nil {
		missing(w.t, "install the package strace, to make system calls fail")
	}
	for _, path := range filesOf(w) {
		args = append(args, "-P", path)
	}
	cmd := exec.Command("strace", append(args, "-f", "-o", "/dev/null", "-p", fmt.Sprint(w.copy.pid()))...)
	said, err := cmd.StderrPipe()
	require.NoError(w.t, err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(w.t, cmd.Start())
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.Contains(lines.Text(), "attached") { // or it has ended
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it detaches
		for lines.Scan() {
		}
		_ = cmd.Wait() // with the signal
	}
}

// filesOf returns the directory of the copy, and the files that it will write in the next seconds.
func filesOf(w *world) []string {
	paths := []string{w.dir, filepath.Join(w.dir, "checkpoint")}
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
