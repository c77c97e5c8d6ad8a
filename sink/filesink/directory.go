package filesink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/artifactofdevotion/devotion/sink/durable"
)

// directory is what the sink needs of a file system: the names in one directory.
// The tests replace it with a model of a disk that loses unsynced data.
type directory interface {
	durable.Dir
	open(name string, flag int) (file, error)
	check() error // an error if this is not the directory that was opened and locked
	close() error
}

type file interface {
	durable.File
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

const lockName = "lock"

// osDirectory holds the directory itself, not its path: after it was removed
// every call fails, even if another directory has its path now.
type osDirectory struct {
	durable.Root
	path string
	lock *os.File
}

// errMustExist is the error of Options.MustExist. It wraps fs.ErrNotExist.
var errMustExist = fmt.Errorf("no checkpoint: mount its file system, or put its files back; for a new start, open it once without MustExist: %w", fs.ErrNotExist)

// openDirectory locks the directory. It creates it if it does not exist, unless it
// must exist. Then it does not even create the lock in a directory without a
// checkpoint.
func openDirectory(path string, mustExist bool, dirMode, fileMode fs.FileMode) (_ directory, err error) {
	if mustExist {
		if _, err := os.Stat(filepath.Join(path, checkpointName)); errors.Is(err, fs.ErrNotExist) {
			return nil, errMustExist
		}
	} else if err := durable.MkdirAll(path, dirMode); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &osDirectory{Root: durable.Root{Root: root, Perm: fileMode}, path: path}
	if d.lock, err = lockDirectory(d.Root); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

func (d *osDirectory) open(name string, flag int) (file, error) {
	f, err := d.OpenFile(name, flag, d.Perm)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

func (d *osDirectory) check() error {
	current, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	opened, err := d.Stat(".")
	if err != nil {
		return err
	}
	if !os.SameFile(current, opened) {
		return errors.New("another directory has replaced the one that was opened: stop the pipeline, then put the first one back, or open the new one")
	}
	if current, err = d.Stat(lockName); err == nil {
		if opened, err = d.lock.Stat(); err == nil && os.SameFile(current, opened) {
			return nil
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return errors.New("the lock file was removed or replaced, so another process may be writing here: stop the pipeline, then restore the directory's files, or open it again")
	}
	return err
}

func (d *osDirectory) close() error { return errors.Join(durable.Unlock(d.lock), d.Close()) }

// advice says what to do about an error of the file system, if that is known.
func advice(err error) string {
	switch {
	case durable.IsFull(err):
		return " (free some space on its file system; nothing is lost)"
	case errors.Is(err, syscall.EROFS):
		return " (its file system is read-only: mount it for writing)"
	case errors.Is(err, fs.ErrPermission):
		return " (let this process read, write and enter the directory, and read and write its files)"
	case errors.Is(err, errMustExist):
	case errors.Is(err, fs.ErrNotExist):
		return " (the directory or files in it no longer exist: stop the pipeline, then put them back, because a start without them is a new start)"
	}
	return ""
}
