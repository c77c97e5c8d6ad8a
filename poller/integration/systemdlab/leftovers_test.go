package systemdlab_test

import (
	"bufio"
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

// busy starts something inside that has to end with the lab.
func busy(lab *systemdlab.Lab) (dir string) {
	lab.Unit("busy.service", "[Service]\nType=exec\nExecStart=/bin/sleep infinity\nExecStop=/bin/sleep infinity\nPrivateTmp=yes\n")
	lab.Must("systemctl", "start", "busy")
	return filepath.Dir(lab.Dir())
}

// leftovers lists what exists of a lab: its directory, mounts and cgroup, and the processes in
// that or that speak of the lab.
func leftovers(dir string) (found []string) {
	name := filepath.Base(dir)
	for _, pattern := range []string{dir, "/sys/fs/cgroup/" + name, "/sys/fs/cgroup/unified/" + name} {
		if _, err := os.Stat(pattern); err == nil {
			found = append(found, pattern)
		}
	}
	for _, file := range []string{"mountinfo", "cmdline", "cgroup"} {
		paths, _ := filepath.Glob("/proc/[0-9]*/" + file)
		for _, path := range paths {
			if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), name) {
				found = append(found, path)
			}
		}
	}
	return found
}

func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	var dir string
	t.Run("", func(t *testing.T) {
		dir = busy(systemdlab.Boot(t))
		found := strings.Join(leftovers(dir), " ")
		for _, want := range []string{dir, "/sys/fs/cgroup", "mountinfo", "cmdline", "/cgroup"} {
			require.Contains(t, found, want, "of a lab that runs")
		}
	})
	if dir != "" { // it was not skipped
		assert.Empty(t, leftovers(dir))
	}
}

func TestAKilledTestProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	systemdlab.Boot(t) // skips where there can be none
	cmd := exec.Command(os.Args[0], "-test.run=^TestOrphan$")
	cmd.Env = append(os.Environ(), "SYSTEMDLAB_ORPHAN=true")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	dir := strings.TrimSpace(line)
	require.NotEmpty(t, leftovers(dir))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait(), "it was to die")
	require.Eventually(t, func() bool { return len(leftovers(dir)) == 0 }, time.Minute, 50*time.Millisecond)
}

// TestOrphan is the process that TestAKilledTestProcessLeavesNothing kills.
func TestOrphan(t *testing.T) {
	if os.Getenv("SYSTEMDLAB_ORPHAN") == "" {
		t.Skip("runs in a process of its own, for TestAKilledTestProcessLeavesNothing")
	}
	fmt.Println(busy(systemdlab.Boot(t)))
	select {}
}
