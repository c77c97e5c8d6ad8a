//go:build unix

package dbtest

import (
	"os/exec"
	"syscall"
)

// apply runs cmd as the owner and in a separate process group. An interrupt typed at the
// terminal then reaches only the test, which ends the server.
func (o owner) apply(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if o.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
}
