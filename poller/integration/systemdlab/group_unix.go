//go:build unix

package systemdlab

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// together has a command in a process group of its own, which its context ends as a whole. To
// end nsenter alone is not enough: it has a child from the moment on at which it is inside, and
// the child may not have got far enough by then to notice that its parent dies.
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
