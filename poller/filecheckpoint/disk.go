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

// removeLeftovers removes the temporary files of writers that were killed. The
// lock must be held, so that no writer is alive.
func removeLeftovers(path string) error {
	dir, name := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !durable.IsTemp(e.Name(), name) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
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

// lock waits for the lock at path. Release it with durable.Unlock.
func lock(ctx context.Context, path string) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := durable.Lock(ctx, f); {
	case ctx.Err() != nil && err != nil:
		return nil, errors.Join(fmt.Errorf("waiting for the lock %s, which another handle holds: %w", path, err), f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}
