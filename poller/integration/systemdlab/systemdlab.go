// Package systemdlab boots a real systemd for a test, in its own namespaces and over a
// copy-on-write view of the machine's files, in about a second.
//
//	func TestRestart(t *testing.T) {
//		lab := systemdlab.Boot(t)
//		lab.Unit("hello.service", "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n")
//		lab.Must("systemctl", "start", "hello")
//		lab.Must("systemctl", "kill", "--signal=KILL", "hello")
//		lab.Eventually("hello restarts", func() bool { return lab.Show("hello", "NRestarts") == "1" })
//	}
//
// All programs of the machine are available, but none of its services runs. What a test
// writes inside is in memory and disappears with the lab. Several labs may run at once.
// A test that fails logs the lab's journal.
//
// # What is shared
//
// The directory [Lab.Dir] is the same inside and outside; inside it is /opt/lab.
// [Lab.Path] returns the path outside of any other path of the lab. The machine's /tmp
// and everything mounted below its root are hidden inside.
//
// The lab's network has only a loopback interface. A server outside is reachable only by
// a unix socket in the shared directory. It is better to run the server inside, as a
// unit: Postgres' programs, for example, are available.
//
// The kernel is the machine's. The lab cannot change its settings, clock or modules.
// Limits of memory and CPU may not be enforced, as on a machine whose controllers
// belong to the first hierarchy of cgroups.
//
// # Requirements
//
// Linux, root with the right to create namespaces and cgroups (in a container: a
// privileged one), and the Debian packages systemd and util-linux. If one is missing, the
// test is skipped and names it; with CI=true in the environment it fails. The test is
// also skipped under -short, and under the race detector, which does not see into other
// processes.
//
// # Cleanup
//
// No process, mount, cgroup or directory remains, even if the test process panics, reaches
// its -timeout or is killed. A shell that waits for its end cleans up.
package systemdlab

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// limit is how long anything inside may take. It only ends a test that hangs, so it is
// generous: the machine may be busy.
const limit = 3 * time.Minute

//go:embed lab.sh
var script string

// Lab is a running systemd. Its methods may be called from several goroutines, except
// those that can end the test, which only the test's goroutine may call.
type Lab struct {
	tb   testing.TB
	dir  string
	pid  string // of systemd, as seen from outside
	log  *os.File
	hold io.Closer
	end  chan error // result of the shell that runs the lab
}

// Boot boots a systemd and returns when it runs. It ends with the test.
func Boot(tb testing.TB) *Lab {
	tb.Helper()
	Need(tb)
	dir, err := os.MkdirTemp("", "systemdlab-")
	if err != nil {
		tb.Fatalf("systemdlab: %v", err)
	}
	lab := &Lab{tb: tb, dir: dir, end: make(chan error, 1)}
	if err := lab.start(); err != nil {
		os.RemoveAll(dir)
		tb.Fatalf("systemdlab: %v", err)
	}
	tb.Cleanup(lab.stop)
	lab.Eventually("systemd boots", lab.booted)
	return lab
}

func (l *Lab) start() error {
	for _, name := range []string{"shared", "view"} {
		if err := os.Mkdir(filepath.Join(l.dir, name), 0o755); err != nil { // services of any user read it
			return err
		}
	}
	var err error
	if l.log, err = os.Create(filepath.Join(l.dir, "log")); err != nil {
		return err
	}
	// In another session, because Ctrl-C in a terminal ends the test, and the shell must
	// outlive it.
	cmd := exec.Command("setsid", "bash", "-c", script, "lab", l.dir, systemd)
	cmd.Stdout, cmd.Stderr = l.log, l.log
	if l.hold, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { l.end <- cmd.Wait() }()
	return nil
}

// booted reports whether systemd has finished starting its units. Some unit of the
// machine may have failed; that does not concern the test.
func (l *Lab) booted() bool {
	if l.pid == "" {
		pid, err := os.ReadFile(filepath.Join(l.dir, "pid"))
		if err != nil || len(pid) == 0 || pid[len(pid)-1] != '\n' {
			return false
		}
		l.pid = strings.TrimSpace(string(pid))
	}
	state, _ := l.Run(l.tb.Context(), "systemctl", "is-system-running")
	return state == "running\n" || state == "degraded\n"
}

// stop logs what happened if the test failed, and ends the lab.
func (l *Lab) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if l.tb.Failed() {
		journal, err := l.Run(ctx, "journalctl", "--no-pager", "--output=short-monotonic", "--lines=400")
		if err != nil {
			// If the lab has ended, the file is deleted, but still open here.
			outside, _ := io.ReadAll(io.NewSectionReader(l.log, 0, 1<<20))
			journal = fmt.Sprintf("%v\n%s", err, outside)
		}
		l.tb.Logf("systemdlab: the journal:\n%s", journal)
	}
	l.hold.Close()
	defer l.log.Close()
	select {
	case err := <-l.end:
		if err != nil {
			l.tb.Errorf("systemdlab: the lab did not end cleanly: %v", err)
		}
	case <-ctx.Done():
		l.tb.Errorf("systemdlab: the lab did not end within %v", limit)
	}
}

// Dir returns a directory that is /opt/lab inside.
func (l *Lab) Dir() string { return filepath.Join(l.dir, "shared") }

// Path returns the path outside of a path of the lab. It must not contain an absolute
// symbolic link, which would be followed on the machine.
func (l *Lab) Path(inside string) string { return filepath.Join("/proc", l.pid, "root", inside) }
