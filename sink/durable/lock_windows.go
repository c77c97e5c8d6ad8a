package durable

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// On Windows nobody else can read the bytes that are locked, so tryLock locks
// one byte far beyond the end of the content.
func tryLock(f *os.File) (bool, error) {
	const (
		failImmediately = 1
		exclusive       = 2
		violation       = syscall.Errno(33)
	)
	lockFileEx := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	if err := lockFileEx.Find(); err != nil {
		return false, err
	}
	at := syscall.Overlapped{OffsetHigh: 1 << 30}
	ok, _, err := lockFileEx.Call(f.Fd(), failImmediately|exclusive, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	switch {
	case ok != 0:
		return true, nil
	case errors.Is(err, violation):
		return false, nil
	}
	return false, err
}

func unlock(*os.File) error { return nil } // closing the file releases the lock
