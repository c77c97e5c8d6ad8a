package filesink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// directory is all that the sink needs of a file system: the names in one
// directory. The tests put a model of one that loses what was not synced in its
// place.
type directory interface {
	open(name string, flag int) (file, error)
	rename(from, to string) error
	remove(name string) error
	list() ([]string, error)
	sync() error  // makes names created, renamed and removed before durable
	check() error // whether this is still the directory that was opened and locked
	close() error
}

type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	Size() (int64, error)
}

const lockName = "lock"

// osDirectory holds the directory itself, not its path: after it was removed
// every call fails, whatever has been put in its place.
type osDirectory struct {
	path string
	root *os.Root
	lock *os.File
	mode fs.FileMode // of new files
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// openDirectory makes the directory if need be, and locks it.
func openDirectory(path string, dirMode, fileMode fs.FileMode) (_ *osDirectory, err error) {
	if err := makeDirectory(path, dirMode); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &osDirectory{path: path, root: root, mode: fileMode}
	if d.lock, err = lockDirectory(root, fileMode); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

// makeDirectory makes a directory and its parents, durably: a directory that
// vanished in a crash after segments of it were consumed would start anew.
func makeDirectory(path string, mode fs.FileMode) error {
	parent := filepath.Dir(path)
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", path)
		}
		// The process that made it may have died before it synced the parent.
		// Most are older, and not every parent can be opened or synced.
		_ = syncDirectory(parent)
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent != path {
		if err := makeDirectory(parent, mode); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(parent)
}

func (d *osDirectory) open(name string, flag int) (file, error) {
	f, err := d.root.OpenFile(name, flag, d.mode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *osDirectory) rename(from, to string) error { return d.root.Rename(from, to) }
func (d *osDirectory) remove(name string) error     { return d.root.Remove(name) }

func (d *osDirectory) list() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// sync uses a descriptor of its own each time, so that none is synced again
// after a failure.
func (d *osDirectory) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncOpenDirectory(f), f.Close())
}

func syncDirectory(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(syncOpenDirectory(f), f.Close())
}

func (d *osDirectory) check() error {
	there, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	ours, err := d.root.Stat(".")
	if err != nil {
		return err
	}
	if !os.SameFile(there, ours) {
		return errors.New("another directory has taken the place of the one that was opened: put that one back, or open the new one")
	}
	if there, err = d.root.Stat(lockName); err == nil {
		if ours, err = d.lock.Stat(); err == nil && os.SameFile(there, ours) {
			return nil
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return errors.New("the lock file was removed or replaced, so another process may be writing here: restore the directory's files, or open it again")
	}
	return err
}

func (d *osDirectory) close() error {
	return errors.Join(unlock(d.lock), d.lock.Close(), d.root.Close())
}

// advice says what to do about an error of the file system, where that is known.
func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || isFull(err):
		return " (free some space on its file system; nothing is lost)"
	case errors.Is(err, syscall.EROFS):
		return " (its file system is read-only: mount it for writing)"
	case errors.Is(err, fs.ErrPermission):
		return " (let this process read, write and enter the directory, and read and write its files)"
	case errors.Is(err, fs.ErrNotExist):
		return " (the directory or files of it are gone: put them back; they are not started anew)"
	}
	return ""
}
