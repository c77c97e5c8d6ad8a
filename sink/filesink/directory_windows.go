package filesink

import (
	"errors"
	"os"
	"syscall"
)

// Windows cannot sync a directory. NTFS journals its names, in order, so after
// a power cut the latest of them may be gone but none out of order.
func syncOpenDirectory(*os.File) error { return nil }

const (
	errorHandleDiskFull = syscall.Errno(39)
	errorDiskFull       = syscall.Errno(112)
)

func isFull(err error) bool {
	return errors.Is(err, errorDiskFull) || errors.Is(err, errorHandleDiskFull)
}
