package xminsource

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/artifactofdevotion/devotion/sink/durable"
)

// directory is what the lists of keys need of a file system. The tests replace it with a model of
// a disk that loses unsynced data.
type directory interface {
	durable.Dir
	open(name string) (file, error)
	close() error
}

type file interface {
	io.ReaderAt
	io.Closer
}

type osDirectory struct {
	durable.Root
	lock *os.File
}

const lockName = "lock"

// openDirectory creates the directory if it does not exist, and locks it.
func openDirectory(path string) (_ directory, err error) {
	if err := durable.MkdirAll(path, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &osDirectory{Root: durable.Root{Root: root, Perm: 0o666}}
	if d.lock, err = root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	ok, err := durable.TryLock(d.lock)
	if errors.Is(err, errors.ErrUnsupported) {
		ok, err = true, nil
	}
	if err == nil && !ok {
		err = fmt.Errorf("%s is locked: another Source uses it, in this process or another", filepath.Join(path, lockName))
	}
	if err != nil {
		return nil, errors.Join(err, d.lock.Close(), root.Close())
	}
	return d, nil
}

func (d *osDirectory) open(name string) (file, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

func (d *osDirectory) close() error { return errors.Join(durable.Unlock(d.lock), d.Root.Close()) }
