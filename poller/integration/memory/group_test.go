package memory

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// groupLimit is the memory of a control group.
const groupLimit = 256 << 20

// controlGroup is a control group that has groupLimit bytes. The zero value is not a group.
type controlGroup struct {
	dir  string
	peak string // the file that has the most memory that the group had, "" if the kernel has none
}

// newControlGroup makes a control group of version 1 or 2. If that is not possible, it returns what
// is missing.
func newControlGroup(t *testing.T) (g controlGroup, missing string) {
	var reasons []string
	for _, version := range []func() (controlGroup, error){groupOfVersion1, groupOfVersion2} {
		g, err := version()
		if g.dir != "" {
			t.Cleanup(func() { assert.NoError(t, os.Remove(g.dir)) })
		}
		if err == nil {
			return g, ""
		}
		reasons = append(reasons, err.Error())
	}
	return controlGroup{}, "no control group with a limit of memory can be made: " + strings.Join(reasons, "; ")
}

func groupOfVersion1() (g controlGroup, err error) {
	if g.dir, err = os.MkdirTemp("/sys/fs/cgroup/memory", "devotion"); err == nil {
		g.peak = "memory.max_usage_in_bytes"
		err = g.limit("memory.limit_in_bytes")
	}
	return g, err
}

// groupOfVersion2 needs a parent that gives its groups the controller of memory. Only the root of
// all groups, or a group without processes, can do so.
func groupOfVersion2() (g controlGroup, err error) {
	const parent = "/sys/fs/cgroup"
	if _, err = os.Stat(filepath.Join(parent, "cgroup.controllers")); err != nil {
		return g, err
	}
	if g.dir, err = os.MkdirTemp(parent, "devotion"); err != nil {
		return g, err
	}
	if _, err = os.Stat(filepath.Join(g.dir, "memory.max")); err != nil {
		if err = writeTo(filepath.Join(parent, "cgroup.subtree_control"), "+memory"); err != nil {
			return g, fmt.Errorf("the controller of memory is not on in %s: %w", parent, err)
		}
	}
	if _, err = os.Stat(filepath.Join(g.dir, "memory.peak")); err == nil { // since Linux 5.19
		g.peak = "memory.peak"
	}
	err = writeTo(filepath.Join(g.dir, "memory.swap.max"), "0")
	if err == nil || errors.Is(err, os.ErrNotExist) { // a kernel without swap
		err = g.limit("memory.max")
	}
	return g, err
}

func (g controlGroup) limit(file string) error {
	return writeTo(filepath.Join(g.dir, file), strconv.Itoa(groupLimit))
}

// writeTo writes to a file that exists: in a directory that is not a control group it would be created.
func writeTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// command returns a command that runs this test's binary in the group.
func (g controlGroup) command(env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	if g.dir != "" { // the shell enters the group before the binary takes memory
		cmd = exec.Command("/bin/sh", "-c", `echo $$ >"$1" && exec "$0"`, os.Args[0], filepath.Join(g.dir, "cgroup.procs"))
	}
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// requireUsed fails the test if no process has used the group.
func (g controlGroup) requireUsed(t *testing.T) {
	if g.peak == "" {
		return
	}
	text, err := os.ReadFile(filepath.Join(g.dir, g.peak))
	require.NoError(t, err)
	peak, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	require.Greater(t, peak, 32<<20, "bytes in the group")
}

// A process that takes more than its control group has is killed. So the limit of TestMemory is one.
func TestTheGroupHasALimit(t *testing.T) {
	g, missing := newControlGroup(t)
	if missing != "" {
		t.Skip(missing)
	}
	err := g.command("MEMORY_HOG=1").Run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
	g.requireUsed(t)
}

// hog takes twice the memory of a control group.
func hog() {
	all := make([]byte, 2*groupLimit)
	for i := 0; i < len(all); i += os.Getpagesize() {
		all[i] = 1
	}
}
