package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// FS is a directory as [Replace] uses it. It is an interface so that a test can
// pass a model of a disk that fails and loses power. [Root] is the real one.
type FS interface {
	// Create creates a file for writing. The error wraps fs.ErrExist if the
	// name exists.
	Create(name string) (File, error)

	// Rename gives a file another name, in one step, in place of the file that
	// has that name, if any.
	Rename(from, to string) error

	// Remove removes a file.
	Remove(name string) error

	// Sync makes the names that were created, renamed and removed before it
	// durable.
	Sync() error
}

// File is an open file of an [FS].
type File interface {
	io.WriteCloser
	Sync() error // makes the data written so far durable
}

// Dir is an [FS] that can be read, too.
type Dir interface {
	FS
	ReadFile(name string) ([]byte, error)
	Lstat(name string) (fs.FileInfo, error)

	// List returns the names in the directory, in no order.
	List() ([]string, error)
}

// Replace replaces the content of a file, or creates it. When it returns nil
// the new content is durable. After an error or a crash the file has the old
// content or the new one, whole; call Replace again. Concurrent calls for one file
// do not disturb each other, and the last rename wins; take a [Lock] to read and
// replace a file in one step.
//
// Replace writes a temporary file, syncs it, renames it to name and syncs the
// directory. Nothing is synced twice: after a failed sync the kernel may have
// dropped the data, and a second sync may succeed without it. A process that is
// killed can leave a temporary file, see [IsTemp].
func Replace(dir FS, name string, data []byte) error {
	temp, err := writeTemp(dir, name, data)
	if err == nil {
		err = dir.Rename(temp, name)
	}
	if err != nil {
		if temp != "" {
			_ = dir.Remove(temp) // frees its space; a later cleanup removes it otherwise
		}
		return err
	}
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	return nil
}

// writeTemp writes data to a new file and returns its name, also if it fails
// after it created the file. A file of that name that another call created is not
// its own to remove.
func writeTemp(dir FS, name string, data []byte) (temp string, err error) {
	var f File
	for n := 0; ; n++ { // not random: tests of a crash model are repeatable
		temp = "." + name + "." + strconv.Itoa(n) + tempSuffix
		if f, err = dir.Create(temp); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return temp, errors.Join(err, f.Close())
}

const tempSuffix = ".tmp"

// IsTemp reports whether a directory entry is a temporary file of [Replace] or
// [ReplaceFile] for the file called name. Remove such entries when the process
// starts, while no other process can be writing the file, that is, under a
// [Lock].
func IsTemp(entry, name string) bool {
	middle, ok := strings.CutPrefix(entry, "."+name+".")
	middle, temp := strings.CutSuffix(middle, tempSuffix)
	return ok && temp && middle != "" && strings.Trim(middle, "0123456789") == ""
}

// ReplaceFile is [Replace] for the file at path. A new file gets the
// permissions perm, before the umask. If path is a symbolic link, the link is
// replaced, not the file it leads to.
func ReplaceFile(path string, data []byte, perm fs.FileMode) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(Replace(Root{root, perm}, filepath.Base(path), data), root.Close())
}

// Root is an open directory of the operating system as a [Dir]. After the
// directory was removed every call fails, even if another directory has its
// path now.
type Root struct {
	*os.Root
	Perm fs.FileMode // of new files, before the umask
}

// Create creates a file, see [FS].
func (r Root) Create(name string) (File, error) {
	f, err := r.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, r.Perm)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

// List returns the names in the directory, in no order.
func (r Root) List() ([]string, error) {
	f, err := r.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Sync makes the directory's names durable, see [SyncDir]. Each call opens the
// directory again, so that no descriptor is synced a second time after an error.
func (r Root) Sync() error {
	f, err := r.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

// SyncDir makes the names in a directory durable: files created, renamed or
// removed there before the call stay so after a power cut. On Windows it does
// nothing, because a directory cannot be synced there. NTFS journals its names
// in order, so a power cut loses at most the latest ones.
func SyncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

func syncDir(d *os.File) error {
	if runtime.GOOS == "windows" {
		return nil // see SyncDir
	}
	return d.Sync()
}

// MkdirAll creates a directory and its missing parents, durably, with the
// permissions perm before the umask. A directory that vanished in a power cut
// after its files were used would look like a new one. It is an error if path
// exists and is not a directory.
func MkdirAll(path string, perm fs.FileMode) error {
	parent := filepath.Dir(path)
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", path)
		}
		// The process that created it may have died before it synced the parent.
		// Most directories are older than that, and not every parent can be
		// opened, so an error is ignored.
		_ = SyncDir(parent)
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}
