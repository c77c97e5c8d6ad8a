//go:build unix

package systemdlab

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// together runs a command in its own process group, all of which ends with its context. Ending
// nsenter alone is not enough: once inside, it has a child, which may not yet notice that its
// parent dies.
func together(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
}
