// Package statedir opens the directory in which a Source keeps its state, for one Source at a time.
package statedir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/artifactofdevotion/devotion/sink/durable"
)

// Dir is what a state needs of a file system. The tests of sources replace it with a model of
// a disk that loses unsynced data.
type Dir interface {
	durable.Dir
	Read(name string) (File, error)
	Close() error
}

// File is a file that is read.
type File interface {
	io.ReaderAt
	io.Closer
}

type osDirectory struct {
	durable.Root
	lock *os.File
}

const lockName = "lock"

// Open creates the directory if it does not exist, and locks it.
func Open(path string) (_ Dir, err error) {
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

// Read opens a file for reading.
func (d *osDirectory) Read(name string) (File, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

// Close releases the lock.
func (d *osDirectory) Close() error { return errors.Join(durable.Unlock(d.lock), d.Root.Close()) }
