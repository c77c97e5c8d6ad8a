//go:build unix && !aix && !solaris

package filecheckpoint

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the lock of f; false if another has it.
func tryLock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// unlock gives the lock back. Closing f does so too, but not before a child that
// has just been forked has closed its copy.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
