//go:build linux || darwin

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock makes this the only publish into a directory until unlock is called: a release
// by hand may meet cron, which signs again.
func lock(dir string) (unlock func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("somebody else publishes in %s: %w", dir, err), f.Close())
	}
	return f.Close, nil
}
