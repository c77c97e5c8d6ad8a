package filecheckpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// replace puts text in the place of the file at path, durably.
func replace(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // else the next Open does
		return err
	}
	return syncDir(dir)
}

// removeLeftovers removes the temporary files of writers that were killed. The
// lock must be held: so there is no living one.
func removeLeftovers(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		middle, temp := strings.CutPrefix(e.Name(), "."+filepath.Base(path)+".")
		middle, suffix := strings.CutSuffix(middle, ".tmp")
		if !temp || !suffix || strings.Trim(middle, "0123456789") != "" { // not digits: of another checkpoint
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// makeDir makes dir and what is missing above it, durably.
func makeDir(dir string) error {
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// behindLink returns the file that a path leads to if it is a symbolic link: Save
// would put a file in the place of the link, and handles on the one and on the
// other would not see each other's lock.
func behindLink(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return path, nil // what is wrong with it, reading tells
	}
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("%s is a link that leads to no file: name the file itself: %w", path, err)
	}
	return file, nil
}

// checkName refuses a file's name that leaves no room for the files beside it.
func checkName(name string) error {
	switch {
	case strings.HasSuffix(name, lockSuffix):
		return fmt.Errorf("the name ends in %s, as the lock beside a checkpoint does: choose another", lockSuffix)
	case len(name) > 200:
		return fmt.Errorf("the name has %d bytes: use at most 200", len(name))
	}
	return nil
}

const lockSuffix = ".lock"

// lock waits for the lock of the file at path, which is held until release. It
// asks again and again because the system's own waiting knows no context.
func lock(ctx context.Context, path string) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		switch free, err := tryLock(f); {
		case err != nil:
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		case free:
			return f, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for the lock %s, which another handle holds: %w", path, ctx.Err()), f.Close())
		}
	}
}

// release gives a lock back.
func release(l *os.File) error { return errors.Join(unlock(l), l.Close()) }
