package filecheckpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/artifactofdevotion/devotion/sink/durable"
)

// directory is what a [File] needs of the directory in which its file is. The tests
// replace it with a model of a disk that loses unsynced data.
type directory interface {
	durable.Dir
	lock(ctx context.Context, name string) (unlock func(), err error)
	Close() error
}

type osDirectory struct{ durable.Root }

// openDirectory opens a directory. With create, it creates it if it does not exist.
func openDirectory(path string, create bool) (directory, error) {
	if create {
		if err := durable.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return osDirectory{durable.Root{Root: root, Perm: 0o600}}, nil
}

// lock waits for the lock on the file called name, which it creates if it does not
// exist.
func (d osDirectory) lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, d.Perm)
	if err != nil {
		return nil, fmt.Errorf("open the lock file, which must not be a link out of its directory: %w", err)
	}
	err = durable.Lock(ctx, f)
	switch {
	case err == nil:
		return func() { _ = durable.Unlock(f) }, nil // nothing was written to f
	case ctx.Err() != nil:
		err = fmt.Errorf("waiting for the lock %s, which another handle holds: %w", f.Name(), err)
	default:
		err = fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil, errors.Join(err, f.Close())
}

// resolve returns the file that path leads to if it is a symbolic link. Save
// would replace the link itself, and handles on the link and on the file would
// not see each other's lock.
func resolve(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return path, nil // an error shows when the file is read
	}
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("%s is a link that leads to no file: name the file itself: %w", path, err)
	}
	return file, nil
}

// checkName refuses a file name that leaves no room for the lock and the
// temporary files.
func checkName(name string) error {
	switch {
	case strings.HasSuffix(name, lockSuffix):
		return fmt.Errorf("the name ends in %s, which is the name of a checkpoint's lock: choose another name", lockSuffix)
	case len(name) > 200:
		return fmt.Errorf("the name has %d bytes: use at most 200", len(name))
	}
	return nil
}

const lockSuffix = ".lock"
