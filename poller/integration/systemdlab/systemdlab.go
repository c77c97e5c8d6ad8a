// Package systemdlab boots a real systemd for a test: in namespaces of its own,
// over a copy-on-write view of the machine's files, in about a second.
//
//	func TestRestart(t *testing.T) {
//		lab := systemdlab.Boot(t)
//		lab.Unit("hello.service", "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n")
//		lab.Must("systemctl", "start", "hello")
//		lab.Must("systemctl", "kill", "--signal=KILL", "hello")
//		lab.Eventually("hello restarts", func() bool { return lab.Show("hello", "NRestarts") == "1" })
//	}
//
// All programs of the machine are there, none of its services runs. What a test
// writes inside is in memory, and gone with the lab. Several labs may run at once.
// A test that fails logs the lab's journal.
//
// # What is shared
//
// The directory [Lab.Dir] is the same inside and outside; inside it is /opt/lab.
// [Lab.Path] gives any other path of the lab to the test. The machine's /tmp is
// hidden inside, and so is what the machine has mounted below its root.
//
// The network is the lab's own and has only a loopback interface. A server outside
// is reached by a unix socket in the shared directory alone; better is to run it
// inside, as a unit: Postgres' programs, for one, are there.
//
// The kernel is the machine's. The lab cannot change its settings, clock or modules.
// Limits of memory and CPU may not be enforced, as on a machine whose controllers
// belong to the first hierarchy of cgroups.
//
// # What it needs
//
// Linux, root with the right to make namespaces and cgroups (in a container that is
// a privileged one), and the Debian packages systemd and util-linux. Without them
// the test is skipped and says so; if the environment has CI=true it fails. It is
// skipped as well under -short, and under the race detector, which does not look into
// other processes.
//
// # What is left behind
//
// Nothing: no process, mount, cgroup or directory; also if the test process panics, runs
// into its -timeout or is killed. A shell that waits for its end does the tidying.
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

// limit is for anything inside to happen. It guards against hanging for ever, and
// is generous: the machine may be busy.
const limit = 60 * time.Second

//go:embed lab.sh
var script string

// Lab is a running systemd. Its methods may be called from several goroutines, but
// those that can end the test only from the test's own.
type Lab struct {
	tb   testing.TB
	dir  string
	pid  string // of systemd, as seen from outside
	log  *os.File
	hold io.Closer
	end  chan error // of the shell that keeps the lab
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
	// In a session of its own: Ctrl-C in a terminal is for the test, and the shell
	// is to outlive it.
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

// booted reports whether systemd has started all it is to start. A failed unit
// among them, as the machine may have, is none of the test's business.
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
			// The file is gone with a lab that ended by itself, but not what we hold of it.
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
			l.tb.Errorf("systemdlab: the lab did not end in order: %v", err)
		}
	case <-ctx.Done():
		l.tb.Errorf("systemdlab: the lab did not end within %v", limit)
	}
}

// Dir is a directory that is seen inside as /opt/lab.
func (l *Lab) Dir() string { return filepath.Join(l.dir, "shared") }

// Path is where the test finds a path of the lab. Absolute symbolic links inside
// lead astray: they would be followed on the machine.
func (l *Lab) Path(inside string) string { return filepath.Join("/proc", l.pid, "root", inside) }
