package durable

import (
	"errors"
	"runtime"
	"syscall"
)

// IsFull reports whether an error of the file system means that no space or
// quota is left.
func IsFull(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	const handleDiskFull, diskFull = syscall.Errno(39), syscall.Errno(112) // of Windows
	return runtime.GOOS == "windows" && (errors.Is(err, handleDiskFull) || errors.Is(err, diskFull))
}

// IsOutage reports whether an error of the file system may pass without a change
// of the setup: a full or failing disk, or a process without memory or descriptors.
// A sink that meets one when it opens waits for its end, as it does later.
func IsOutage(err error) bool {
	for _, passing := range []syscall.Errno{
		syscall.EIO, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
		syscall.EAGAIN, syscall.EINTR, syscall.ESTALE, syscall.ETIMEDOUT,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return IsFull(err)
}
