package systemdlab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
)

const systemd = "/lib/systemd/systemd" // also /usr/lib where /usr is merged

// Need skips or fails the test where no lab can run, as Boot does. Call it in a test that
// does much before it boots.
func Need(tb testing.TB) {
	tb.Helper()
	switch {
	case testing.Short():
		tb.Skip("systemdlab: boots a systemd; not with -short")
	case race():
		tb.Skip("systemdlab: the race detector does not see into other processes")
	}
	err := missing()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		tb.Fatal(err)
	default:
		tb.Skip(err)
	}
}

func race() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func missing() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("systemdlab: needs Linux, this is %s", runtime.GOOS)
	}
	if _, err := os.Stat(systemd); err != nil {
		return fmt.Errorf("systemdlab: no systemd: install the package systemd: %w", err)
	}
	for _, program := range []string{"setsid", "setpriv", "unshare", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("systemdlab: no %s: install the package util-linux: %w", program, err)
		}
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("systemdlab: needs root")
	}
	out, err := exec.Command("unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork", "mount", "--make-rprivate", "/").CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemdlab: needs the right to create namespaces and to mount, which a container has with --privileged: %w: %s", err, out)
	}
	return nil
}
