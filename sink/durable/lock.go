package durable

import (
	"context"
	"errors"
	"os"
	"time"
)

// TryLock takes an exclusive lock on an open file. It returns false, without
// waiting, if the lock is held through another *os.File, in this process or
// another. The operating system releases the lock when the process ends,
// however it ends.
//
// The lock is advisory: it binds only those who take it. It lies beyond the
// file's content, so other processes can read that. The file must not be
// renamed or removed while processes use it as a lock, because another file of
// that name has another lock: lock a separate file next to the data. On
// network file systems locks may not work. On AIX and Solaris the error is
// errors.ErrUnsupported.
//
// A lock is not a [Fence]. It can be lost, for example when an administrator
// removes the file, and a process that was paused goes on writing.
func TryLock(f *os.File) (bool, error) { return tryLock(f) }

// Lock waits until [TryLock] succeeds. If ctx ends first it returns the
// context's error. It polls, at most every 20 milliseconds, because the
// operating system's own wait cannot be interrupted.
func Lock(ctx context.Context, f *os.File) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if ok, err := tryLock(f); ok || err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// Unlock releases the lock on f and closes f. Closing alone is not enough: a
// child process that has just been forked holds a copy of f until it executes
// its program, and with it the lock.
func Unlock(f *os.File) error { return errors.Join(unlock(f), f.Close()) }
