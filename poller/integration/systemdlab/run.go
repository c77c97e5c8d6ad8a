package systemdlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Run runs a command inside, as root with an empty environment and standard input, and
// returns its standard output. If it fails, the error contains its standard error and
// wraps an [exec.ExitError], which has the exit code. The command ends with ctx.
func (l *Lab) Run(ctx context.Context, command ...string) (stdout string, err error) {
	if l.pid == "" {
		return "", errors.New("systemdlab: systemd has not started")
	}
	args := []string{ // setsid makes a process group, all of which ends with ctx: nsenter has a child, which would go on
		"nsenter", "--target=" + l.pid, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd", "--",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb",
	}
	cmd := exec.CommandContext(ctx, "setsid", append(args, command...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Cancel = func() error { return exec.Command("kill", "-KILL", "--", fmt.Sprint(-cmd.Process.Pid)).Run() }
	cmd.WaitDelay = time.Second // processes in the background may keep the pipes open
	if err = cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		err = fmt.Errorf("systemdlab: %s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), err
}

// Must is Run for a command that must succeed. If it fails or takes longer than three
// minutes, the test ends. It returns standard output without the surrounding space.
func (l *Lab) Must(command ...string) string {
	l.tb.Helper()
	ctx, cancel := context.WithTimeout(l.tb.Context(), limit)
	defer cancel()
	out, err := l.Run(ctx, command...)
	if err != nil {
		l.tb.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

// Eventually waits until a condition is true. After three minutes the test ends with a
// message that contains what.
func (l *Lab) Eventually(what string, condition func() bool) {
	l.tb.Helper()
	wait := 20 * time.Millisecond // longer and longer, because what asks also loads the machine
	for deadline := time.Now().Add(limit); !condition(); wait = min(wait*5/4, 250*time.Millisecond) {
		select {
		case err := <-l.end:
			l.end <- err
			l.tb.Fatalf("systemdlab: the lab has ended: %v", err)
		case <-l.tb.Context().Done():
			l.tb.FailNow()
		case <-time.After(wait):
		}
		if time.Now().After(deadline) {
			l.tb.Fatalf("systemdlab: waited %v for: %s", limit, what)
		}
	}
}

// Write writes a file inside and creates its directories. All users can read it.
func (l *Lab) Write(path, text string) {
	l.tb.Helper()
	path = l.Path(path)
	err := os.MkdirAll(filepath.Dir(path), 0o755) // services of any user read it
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644) // as above
	}
	if err != nil {
		l.tb.Fatalf("systemdlab: %v", err)
	}
}

// Unit writes a unit, or a drop-in such as hello.service.d/fast.conf, and makes systemd
// read it. It starts nothing.
func (l *Lab) Unit(name, text string) {
	l.tb.Helper()
	l.Write(filepath.Join("/etc/systemd/system", name), text)
	l.Must("systemctl", "daemon-reload")
}

// Show returns a property of a unit, such as ActiveState, MainPID, NRestarts or
// StatusText, as systemctl show prints it.
func (l *Lab) Show(unit, property string) string {
	l.tb.Helper()
	return l.Must("systemctl", "show", "--value", "--property="+property, "--", unit)
}
