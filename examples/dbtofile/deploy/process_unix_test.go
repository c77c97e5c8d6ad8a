//go:build unix

package deploy_test

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// separate puts a command into a group of its own.
func separate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// interrupt does what Ctrl-C does: all of the group get the signal.
func interrupt(t *testing.T, cmd *exec.Cmd) {
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
}
