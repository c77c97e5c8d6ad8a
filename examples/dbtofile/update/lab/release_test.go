package lab_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPublishedByTheReleaseProgram goes the whole way: a release is built, signed and
// published by the program for that, and deployed from the directory, without a network.
func TestPublishedByTheReleaseProgram(t *testing.T) {
	t.Parallel()
	m := boot(t)
	publish := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", append([]string{"run", "github.com/artifactofdevotion/devotion/examples/dbtofile/release"}, args...)...)
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", text)
	}
	key := filepath.Join(t.TempDir(), "2026")
	publish("-keygen", key)
	publish("-dir", m.public, "-key", key+".key", "-version", version(1), "-platforms", runtime.GOOS+"/"+runtime.GOARCH)
	public, err := os.ReadFile(key + ".pub")
	require.NoError(t, err)
	m.Write("/etc/dbtofile/keys/2026.pub", string(public))
	m.Write("/etc/dbtofile/update.env", settings+"DBTOFILE_UPDATE_SOURCE=/opt/lab/public\n")

	run := func(flag string) string {
		return m.Must("sh", "-c", "set -a; . /etc/dbtofile/update.env; dbtofile-update "+flag+"; echo $?")
	}
	require.Equal(t, "running    "+first+"\navailable  "+version(1)+"\nto do      deploy "+version(1)+", restart [dbtofile.service]\n6", run("-check"))
	require.Equal(t, "release "+version(1)+" is complete, signed, and runs here\n0", run("-dry-run"))
	m.runs(first)
	m.update(0, "msg=deployed")
	m.runs(version(1))
	require.Equal(t, "running    "+version(1)+"\navailable  nothing newer\n0", run("-check"))
	m.tidy()
}

func TestUnits(t *testing.T) {
	t.Parallel()
	m := boot(t)
	for _, unit := range []string{"dbtofile-update.service", "dbtofile-update.timer", "dbtofile-update-boot.timer"} {
		text, err := m.Run(within(t), "sh", "-c", "systemd-analyze verify "+unit+" 2>&1")
		require.NoError(t, err)
		require.Empty(t, text, unit)
	}
	// 2.4 is what is left for a program that restarts units, see the unit.
	m.Must("systemd-analyze", "security", "--offline=true", "--threshold=24", "/etc/systemd/system/dbtofile-update.service")
	require.Contains(t, m.Must("systemctl", "cat", "dbtofile-update.timer"), "Persistent=true")
}

// TestAfterBoot: a deploy that a loss of power has interrupted does not wait for the
// night, nor for the two hours over which machines are spread.
func TestAfterBoot(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.Must("systemctl", "enable", "--quiet", "dbtofile-update.timer")
	require.Equal(t, "enabled", m.Must("systemctl", "is-enabled", "dbtofile-update-boot.timer"))
	for range 3 { // the delay is random
		m.Must("systemctl", "restart", "dbtofile-update-boot.timer")
		text := m.Show("dbtofile-update-boot.timer", "NextElapseUSecMonotonic") // such as 1d 2h 5min
		_, µs, _ := strings.Cut(m.Must("systemd-analyze", "timespan", text), "μs: ")
		var next time.Duration
		_, err := fmt.Sscan(µs, &next)
		require.NoError(t, err)
		next *= time.Microsecond
		var up float64
		_, err = fmt.Sscan(m.Must("cat", "/proc/uptime"), &up)
		require.NoError(t, err)
		require.Less(t, next.Seconds()-up, (11 * time.Minute).Seconds(), text)
	}
	m.Must("systemctl", "disable", "--quiet", "dbtofile-update.timer")
	_, err := m.Run(within(t), "systemctl", "is-enabled", "dbtofile-update-boot.timer")
	require.Error(t, err)
}
