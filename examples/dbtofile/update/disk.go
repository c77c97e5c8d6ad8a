package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// temporary is in the name of all that is not complete. What a killed run has
// left is removed by the next one.
const temporary = ".tmp-"

func (u *updater) releases() string { return filepath.Join(u.root, "releases") }

func (u *updater) binary(version string) string {
	return filepath.Join(u.releases(), version, "dbtofile")
}

// do does one step that changes something outside of this process. The tests
// kill the program before and after each.
func (u *updater) do(name string, f func() error) error {
	if u.step != nil {
		return u.step(name, f)
	}
	return f()
}

// writeFile replaces a file, durably: after a crash it is the old or the new one.
func (u *updater) writeFile(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+temporary+"*")
	if err != nil {
		return err
	}
	defer u.discard(f.Name())
	defer f.Close()
	err = u.do("write "+filepath.Base(path), func() error {
		if err := f.Chmod(mode); err != nil {
			return err
		}
		if _, err := f.Write(content); err != nil {
			return err
		}
		return f.Sync()
	})
	if err != nil {
		return err
	}
	return u.rename(f.Name(), path)
}

// rename makes a complete file, link or directory visible, durably.
func (u *updater) rename(from, to string) error {
	return u.do("rename to "+filepath.Base(to), func() error {
		if err := os.Rename(from, to); err != nil {
			return err
		}
		return syncDir(filepath.Dir(to))
	})
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// discard removes what is not needed any more, if it is still there. If it cannot,
// sweep will.
func (u *updater) discard(path string) {
	if _, err := os.Lstat(path); path == "" || err != nil {
		return
	}
	_ = u.do("discard", func() error { return os.RemoveAll(path) })
}

// current returns the version that the link current points at.
func (u *updater) current() (string, error) {
	target, err := os.Readlink(filepath.Join(u.root, "current"))
	if err != nil {
		return "", fmt.Errorf("which release is current? Install the package, or make the link: %w", err)
	}
	version := filepath.Base(target)
	if !index.Valid(version) {
		return "", fmt.Errorf("%s points at %s, which is no version such as 1.2.3", filepath.Join(u.root, "current"), target)
	}
	return version, nil
}

// point makes a release the current one. At no time is there none.
func (u *updater) point(version string) error {
	if is, err := u.current(); err == nil && is == version {
		return nil
	}
	link, err := tempName(u.root, "current")
	if err != nil {
		return err
	}
	defer u.discard(link)
	if err := u.do("link", func() error { return os.Symlink(filepath.Join("releases", version), link) }); err != nil {
		return err
	}
	return u.rename(link, filepath.Join(u.root, "current"))
}

// tempName returns a name that is not in use.
func tempName(dir, name string) (string, error) {
	f, err := os.CreateTemp(dir, "."+name+temporary+"*")
	if err != nil {
		return "", err
	}
	return f.Name(), errors.Join(f.Close(), os.Remove(f.Name()))
}

// installed returns the versions of the releases that are there, in no order.
func (u *updater) installed() ([]string, error) {
	entries, err := os.ReadDir(u.releases())
	if err != nil {
		return nil, err
	}
	var versions []string
	for _, e := range entries {
		if e.IsDir() && index.Valid(e.Name()) {
			versions = append(versions, e.Name())
		}
	}
	return versions, nil
}

// sum returns the SHA-256 of an installed release.
func (u *updater) sum(version string) (string, error) {
	f, err := os.Open(u.binary(version))
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sweep removes what a killed run has left.
func (u *updater) sweep() error {
	for _, dir := range []string{u.root, u.releases(), u.config.state, u.metricsDir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			ours := dir != u.metricsDir || strings.HasPrefix(e.Name(), "."+metricsFile)
			if !ours || !strings.HasPrefix(e.Name(), ".") || !strings.Contains(e.Name(), temporary) {
				continue
			}
			if err := u.do("sweep", func() error { return os.RemoveAll(filepath.Join(dir, e.Name())) }); err != nil {
				return err
			}
		}
	}
	return nil
}
