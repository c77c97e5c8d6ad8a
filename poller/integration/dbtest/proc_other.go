//go:build !unix

package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

type owner struct{}

func makeDir(engine) (o owner, dir string, err error) {
	dir, err = os.MkdirTemp("", "dbtest-*")
	return o, dir, err
}

func (owner) own(string) error { return nil }
func (owner) apply(*exec.Cmd)  {}

// signal can only kill on this platform.
func signal(p *os.Process, _ os.Signal) error { return p.Kill() }

// reaper needs a shell and pipes. Without them only finish removes the directory.
type reaper struct{}

func startReaper(string, syscall.Signal) (*reaper, error) { return &reaper{}, nil }

func (*reaper) watch(int) {}

func (*reaper) finish(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("dbtest: removing %s: %w", dir, err)
	}
	return nil
}
