package systemdlab_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/systemdlab"
)

const hello = `[Service]
Type=exec
ExecStart=/bin/sh -c 'echo hello >>/opt/lab/said; exec sleep infinity'
Restart=always
RestartSec=100ms
`

func TestAServiceIsRestarted(t *testing.T) {
	t.Parallel()
	lab := systemdlab.Boot(t)
	lab.Unit("hello.service", hello)
	said := func(text string) func() bool { // started is not yet to have said it
		return func() bool {
			said, _ := os.ReadFile(filepath.Join(lab.Dir(), "said"))
			return string(said) == text
		}
	}
	lab.Must("systemctl", "start", "hello")
	lab.Eventually("hello has said so", said("hello\n"))
	first := lab.Show("hello", "MainPID")
	lab.Must("systemctl", "kill", "--signal=KILL", "hello")
	lab.Eventually("hello restarts", func() bool {
		return lab.Show("hello", "ActiveState") == "active" && lab.Show("hello", "MainPID") != first
	})
	lab.Eventually("hello has said so again", said("hello\nhello\n"))
	assert.Equal(t, "1", lab.Show("hello", "NRestarts"))

	var killed, started time.Duration
	for _, e := range lab.Journal("hello.service") {
		switch {
		case strings.Contains(e.Message, "status=9/KILL"):
			killed = e.At
		case strings.HasPrefix(e.Message, "Started hello.service"):
			started = e.At
		}
		assert.Equal(t, "1", e.Fields["_PID"], "systemd wrote: %s", e.Message)
	}
	assert.Positive(t, killed)
	assert.Greater(t, started, killed)
	moment := func(property string) (µs int) {
		_, err := fmt.Sscan(lab.Show("hello", property), &µs)
		require.NoError(t, err)
		return µs
	}
	assert.GreaterOrEqual(t, moment("ActiveEnterTimestampMonotonic")-moment("ActiveExitTimestampMonotonic"), 100_000, "RestartSec")
}

func TestRun(t *testing.T) {
	t.Parallel()
	lab := systemdlab.Boot(t)
	ctx := t.Context()

	out, err := lab.Run(ctx, "sh", "-c", "echo out; echo err >&2; exit 7")
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 7, exit.ExitCode())
	assert.Equal(t, "out\n", out)
	assert.ErrorContains(t, err, "err")

	_, err = lab.Run(ctx, "no-such-program")
	require.ErrorContains(t, err, "no-such-program")

	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err = lab.Run(short, "sleep", "4242")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	lab.Eventually("the command ends with its context", func() bool {
		out, err := lab.Run(ctx, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
		return err == nil && !strings.Contains(out, "sleep 4242")
	})

	lab.Write("/etc/lab/deep", "text")
	assert.Equal(t, "text", lab.Must("cat", "/etc/lab/deep"))
	_, err = os.Stat("/etc/lab")
	require.ErrorIs(t, err, os.ErrNotExist, "it is written on the machine")
}

func TestTheMachineIsSafe(t *testing.T) {
	t.Parallel()
	lab := systemdlab.Boot(t)
	for name, command := range map[string]string{
		"kernel settings": "echo 1 >/proc/sys/kernel/panic",
		"modules":         "modprobe dummy",
		"the clock":       "date --set=2001-01-01",
	} {
		lab.Unit("attempt.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c '"+command+"'\n")
		_, err := lab.Run(t.Context(), "systemctl", "start", "attempt")
		assert.Error(t, err, name)
	}
	assert.Equal(t, "systemdlab", lab.Must("cat", "/proc/sys/kernel/hostname"))
	assert.NotEqual(t, "systemdlab\n", read(t, "/proc/sys/kernel/hostname"))
	devices := lab.Must("cat", "/proc/self/net/dev")
	assert.Contains(t, devices, "lo:")
	assert.Equal(t, 3, len(strings.Split(devices, "\n")), "two lines of head, and lo: %s", devices)
}

func TestTheSandboxOfAServiceWorks(t *testing.T) {
	t.Parallel()
	lab := systemdlab.Boot(t)
	lab.Write("/etc/lab/secret", "a secret")
	lab.Must("chmod", "600", "/etc/lab/secret")
	lab.Unit("sandbox.service", `[Service]
Type=oneshot
DynamicUser=yes
StateDirectory=sandbox
LoadCredential=secret:/etc/lab/secret
PrivateUsers=yes
PrivateDevices=yes
ProtectProc=invisible
SystemCallFilter=@system-service
ExecStart=/bin/sh -c 'cp %d/secret %S/sandbox/copy; ! touch /usr/lib/forbidden; ! cat /etc/lab/secret'
`)
	lab.Must("systemctl", "start", "sandbox")
	assert.Equal(t, "a secret", lab.Must("cat", "/var/lib/private/sandbox/copy"))
}

func read(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	one, two := systemdlab.Boot(t), systemdlab.Boot(t)
	one.Unit("hello.service", hello)
	one.Must("systemctl", "start", "hello")
	_, err := two.Run(t.Context(), "systemctl", "start", "hello")
	require.Error(t, err, "the unit is in the other lab")
	assert.NotEqual(t, one.Dir(), two.Dir())
	assert.NotEqual(t, one.Must("cat", "/etc/machine-id"), two.Must("cat", "/etc/machine-id"))
}
