package filecheckpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

// ErrClosed is wrapped by the errors of a [File] that was closed.
var ErrClosed = errors.New("the checkpoint is closed")

// errMustExist is the error of Options.MustExist. It wraps fs.ErrNotExist.
var errMustExist = fmt.Errorf("the file does not exist: mount its file system, or put it back; for a new start, open it once without MustExist: %w", fs.ErrNotExist)

// Options change how a [File] works. The zero value is ready to use.
type Options struct {
	// History is how many cursors the file keeps, including the current one.
	// Defaults to 20; at most 1,000.
	History int

	// MustExist makes Open refuse a file that does not exist. Set it where the file
	// is on a file system that may not be mounted: without its file, the pipeline
	// would deliver everything again. The error wraps fs.ErrNotExist. The first
	// start leaves it out.
	MustExist bool
}

// Entry is a cursor that was stored.
type Entry struct {
	Cursor source.Cursor `json:"cursor"`
	Writer string        `json:"writer"` // token of the handle that stored it, or "rewind-" and a token
	Time   time.Time     `json:"time"`   // when it was stored
}

// File is a handle on a checkpoint file: a poller.Checkpointer. It is safe for
// concurrent use.
type File struct {
	path      string
	history   int
	mustExist bool
	open      func(dir string, create bool) (directory, error)
	fence     durable.Fence
	closed    atomic.Bool
	prepared  atomic.Bool // the directory exists, and has no leftovers
	exists    atomic.Bool // this handle has seen the file
}

// Open returns a handle on the checkpoint file at path. Open creates missing
// directories, and the first Save creates the file, accessible to the owner
// only (0700 and 0600). An existing file that cannot be read is an error.
//
// If the disk is full or fails, or the process has no descriptors left, Open
// returns a handle and no error: that is an outage, which may pass. Each method
// tries again, and returns the error until it succeeds.
func Open(path string, o Options) (*File, error) {
	history := cmp.Or(o.History, 20)
	if history < 1 || history > 1000 {
		return nil, fmt.Errorf("filecheckpoint: Options.History is %d: set it to 1 up to 1,000, or leave it out for 20", history)
	}
	if path == "" {
		return nil, errors.New("filecheckpoint: the path is empty: name the file to keep the cursor in")
	}
	path, err := filepath.Abs(path) // a later os.Chdir must not move it
	if err != nil {
		return nil, fmt.Errorf("filecheckpoint: %w", err)
	}
	if path, err = resolve(path); err != nil {
		return nil, fmt.Errorf("filecheckpoint: %w", err)
	}
	if err := checkName(filepath.Base(path)); err != nil {
		return nil, fmt.Errorf("filecheckpoint: %s: %w", path, err)
	}
	f := &File{path: path, history: history, mustExist: o.MustExist, open: openDirectory}
	if err := f.start(); err != nil && !durable.IsOutage(err) {
		return nil, err
	}
	return f, nil
}

// start checks the file and prepares its directory.
func (f *File) start() error {
	if err := f.check(); err != nil {
		return f.error(err)
	}
	return f.lockedSoon(func(directory) error { return nil })
}

// check returns an error if the file exists and cannot be used. It takes no lock and
// changes nothing: a file is always replaced whole.
func (f *File) check() error {
	dir, err := f.open(filepath.Dir(f.path), false)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.mustExist:
		return errMustExist
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	defer dir.Close()
	_, err = f.read(dir)
	return err
}

// removeLeftovers removes the temporary files of writers that were killed. The
// lock is held, so no writer is alive.
func (f *File) removeLeftovers(dir directory) error {
	names, err := dir.List()
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !durable.IsTemp(name, filepath.Base(f.path)) })
	for _, name := range names { // before any is removed
		if info, err := dir.Lstat(name); err != nil {
			return err
		} else if !info.Mode().IsRegular() {
			return fmt.Errorf("%s has the name of a temporary file and is not a regular file: move it away", name)
		}
	}
	for _, name := range names {
		if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Close ends the use of the handle: later calls return [ErrClosed]. It stores
// nothing and may be called again.
func (f *File) Close() error {
	f.closed.Store(true)
	return nil
}

// Load returns the stored cursor, or the empty cursor if the file does not exist
// yet. It is an error if this handle has seen the file and it no longer exists.
func (f *File) Load(ctx context.Context) (cursor source.Cursor, err error) {
	err = f.locked(ctx, func(dir directory) error {
		c, err := f.read(dir)
		if err != nil {
			return err
		}
		// The file may be there by a rename that a power cut would undo.
		if err := dir.Sync(); err != nil {
			return err
		}
		f.fence.Loaded(c.state())
		cursor = c.Cursor
		return nil
	})
	return cursor, err
}

// Save moves the cursor, see poller.Checkpointer. Before the first Load of this
// handle the error wraps poller.ErrConflict.
func (f *File) Save(ctx context.Context, from, to source.Cursor) error {
	if err := f.fence.Check(from, to); err != nil {
		return f.error(err)
	}
	return f.locked(ctx, func(dir directory) error {
		c, err := f.read(dir)
		if err != nil {
			return err
		}
		next, moved, err := f.fence.Move(c.state(), from, to)
		if err != nil {
			return err
		}
		if moved {
			c = c.next(next, f.history)
		}
		// Write again even if the cursor has moved already: the earlier Save may
		// have failed at its last fsync, which must not be repeated on the same
		// pages.
		return f.write(ctx, dir, c)
	})
}

// History returns the last cursors, newest first, beginning with the current
// one. It is empty if nothing was stored yet.
func (f *File) History() (entries []Entry, err error) {
	err = f.lockedSoon(func(dir directory) error {
		c, err := f.read(dir)
		entries = c.all()
		return err
	})
	return entries, err
}

// Rewind sets the cursor to any cursor of the same source, such as one of
// History, or to the empty cursor to start over. It stores a new writer token, so
// a running pipeline, on this handle or another, ends with poller.ErrConflict at
// its next Save and does not undo the rewind. If the file no longer exists,
// Rewind creates it.
func (f *File) Rewind(to source.Cursor) error {
	return f.lockedSoon(func(dir directory) error {
		c, err := f.read(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		next, err := durable.Rewound(c.state(), to)
		if err != nil {
			return err
		}
		return f.write(context.Background(), dir, c.next(next, f.history))
	})
}

// lockedSoon is locked with a generous timeout. A lock is held for milliseconds
// unless its process was stopped or its disk hangs.
func (f *File) lockedSoon(do func(directory) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return f.locked(ctx, do)
}

// locked calls do while this handle holds the lock.
func (f *File) locked(ctx context.Context, do func(directory) error) error {
	if f.closed.Load() {
		return f.error(ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return f.error(err)
	}
	prepared := f.prepared.Load()
	dir, err := f.open(filepath.Dir(f.path), !prepared)
	if err != nil {
		return f.error(err)
	}
	defer dir.Close()
	unlock, err := dir.lock(ctx, filepath.Base(f.path)+lockSuffix)
	if err != nil {
		return f.error(err)
	}
	defer unlock()
	if !prepared {
		if err := f.removeLeftovers(dir); err != nil {
			return f.error(err)
		}
		f.prepared.Store(true)
	}
	return f.error(do(dir))
}

func (f *File) error(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("filecheckpoint: %s: %w", f.path, err)
}

// read returns the stored checkpoint, or the zero one if nothing was stored yet.
func (f *File) read(dir directory) (checkpoint, error) {
	text, err := readFile(dir, filepath.Base(f.path))
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.exists.Load():
		return checkpoint{}, fmt.Errorf("the checkpoint file no longer exists, which is not a new start: stop the pipeline, then put it back (or mount its directory), or Rewind to the cursor to continue from: %w", err)
	case errors.Is(err, fs.ErrNotExist) && f.mustExist:
		return checkpoint{}, errMustExist
	case errors.Is(err, fs.ErrNotExist):
		return checkpoint{}, nil
	case err != nil:
		return checkpoint{}, err
	}
	c, err := parse(text)
	switch {
	case errors.Is(err, errVersion):
		return checkpoint{}, err
	case err != nil:
		return checkpoint{}, fmt.Errorf("the file is damaged (%w): stop the pipeline, then restore it from a backup, correct it by hand, or remove it and Rewind to the cursor to continue from", err)
	}
	f.exists.Store(true)
	return c, nil
}

// readFile reads a file that can be a checkpoint. Another one may be of any size, or
// a pipe that blocks.
func readFile(dir directory, name string) ([]byte, error) {
	switch info, err := dir.Lstat(name); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file: name the file to keep the cursor in")
	case info.Size() > maxFile:
		return nil, fmt.Errorf("it has %d bytes, and no checkpoint has more than %d: name the file to keep the cursor in", info.Size(), maxFile)
	}
	return dir.ReadFile(name)
}

func (f *File) write(ctx context.Context, dir directory, c checkpoint) error {
	text, err := c.text()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := durable.Replace(dir, filepath.Base(f.path), text); err != nil {
		return err
	}
	f.exists.Store(true)
	return nil
}
