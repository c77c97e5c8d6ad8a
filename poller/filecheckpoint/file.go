package filecheckpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/artifactofdevotion/devotion/poller/internal/fence"
	"github.com/artifactofdevotion/devotion/source"
)

// ErrClosed is wrapped by the errors of a [File] that was closed.
var ErrClosed = errors.New("the checkpoint is closed")

// Options change how a [File] works. The zero value is good.
type Options struct {
	// History is how many cursors the file remembers, the current one
	// included. Defaults to 20; at most 1,000.
	History int
}

// Entry is a cursor that was stored.
type Entry struct {
	Cursor source.Cursor
	Time   time.Time // when it was stored
	Writer string    // by the handle of which token, or "rewind-" and a token
}

// File is a handle on a checkpoint file: a poller.Checkpointer. It is safe for
// concurrent use.
type File struct {
	path    string
	history int
	handle  *fence.Handle
	closed  atomic.Bool
	exists  atomic.Bool // this handle has seen the file
}

// Open returns a handle on the checkpoint file at path. A missing file is made
// by the first Save, missing directories by Open, for the owner alone (0600 and
// 0700). An existing file that cannot be read is an error at once.
func Open(path string, o Options) (*File, error) {
	history, err := fence.History(o.History)
	if err != nil {
		return nil, fmt.Errorf("filecheckpoint: %w", err)
	}
	if path == "" {
		return nil, errors.New("filecheckpoint: the path is empty: name the file to keep the cursor in")
	}
	if path, err = filepath.Abs(path); err != nil { // a later os.Chdir must not move it
		return nil, fmt.Errorf("filecheckpoint: %w", err)
	}
	if path, err = behindLink(path); err != nil {
		return nil, fmt.Errorf("filecheckpoint: %w", err)
	}
	if err := checkName(filepath.Base(path)); err != nil {
		return nil, fmt.Errorf("filecheckpoint: %s: %w", path, err)
	}
	f := &File{path: path, history: history, handle: fence.NewHandle()}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("filecheckpoint: %w", err)
	}
	if err := f.lockedSoon(func() error {
		if _, _, err := f.read(); err != nil {
			return err
		}
		return removeLeftovers(path)
	}); err != nil {
		return nil, err
	}
	return f, nil
}

// Close ends the use of the handle. It stores nothing and is safe to call again.
func (f *File) Close() error {
	f.closed.Store(true)
	return nil
}

// Load returns the stored cursor, and the empty one if the file does not exist
// yet. It is an error if this handle has seen the file and it has gone.
func (f *File) Load(ctx context.Context) (cursor source.Cursor, err error) {
	err = f.locked(ctx, func() error {
		c, _, err := f.read()
		if err != nil {
			return err
		}
		// What was read may be a rename that a crash would take back.
		if err := syncDir(filepath.Dir(f.path)); err != nil {
			return err
		}
		f.handle.Loaded(c.state())
		cursor = c.Cursor
		return nil
	})
	return cursor, err
}

// Save moves the cursor, see poller.Checkpointer. Before the first Load of this
// handle it returns an error that wraps poller.ErrConflict.
func (f *File) Save(ctx context.Context, from, to source.Cursor) error {
	if err := fence.Valid(from, to); err != nil {
		return f.error(err)
	}
	if err := f.handle.Ready(); err != nil {
		return f.error(err)
	}
	return f.locked(ctx, func() error {
		c, _, err := f.read()
		if err != nil {
			return err
		}
		next, moved, err := f.handle.Move(c.state(), from, to)
		if err != nil {
			return err
		}
		if moved {
			c = c.next(next, f.history)
		}
		// Written again even if not moved: the earlier Save may have failed at
		// the last fsync, which must not be tried twice on the same pages.
		return f.write(ctx, c)
	})
}

// History returns the last cursors, newest first, beginning with the current
// one. It is empty if none was stored yet.
func (f *File) History() (entries []Entry, err error) {
	err = f.lockedSoon(func() error {
		c, exists, err := f.read()
		if err == nil && exists {
			entries = c.entries()
		}
		return err
	})
	return entries, err
}

// Rewind sets the cursor to any of the same source, such as one of History, or
// to the empty one for the beginning. It stores a writer token that is new, so
// that a pipeline that runs, on this handle or another, ends with
// poller.ErrConflict at its next Save rather than undo the rewind. It also mends
// a file that has gone.
func (f *File) Rewind(to source.Cursor) error {
	if err := fence.Valid(to); err != nil {
		return f.error(err)
	}
	return f.lockedSoon(func() error {
		c, _, err := f.read()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return f.write(context.Background(), c.next(fence.Rewound(c.state(), to), f.history))
	})
}

// lockedSoon is locked with a generous bound: a lock is held for milliseconds,
// unless its process was stopped, or its disk hangs.
func (f *File) lockedSoon(do func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return f.locked(ctx, do)
}

// locked calls do while this handle has the lock.
func (f *File) locked(ctx context.Context, do func() error) error {
	if f.closed.Load() {
		return f.error(ErrClosed)
	}
	l, err := lock(ctx, f.path+lockSuffix)
	if err != nil {
		return f.error(err)
	}
	err = do()
	_ = release(l) // nothing was written to its file
	if err != nil {
		return f.error(err)
	}
	return nil
}

func (f *File) error(err error) error {
	return fmt.Errorf("filecheckpoint: %s: %w", f.path, err)
}

// read returns what is stored, and false if nothing is.
func (f *File) read() (checkpoint, bool, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if f.exists.Load() {
			return checkpoint{}, false, fmt.Errorf("the checkpoint has gone, which is no new start: put the file back (mount its directory), or Rewind to where to go on from: %w", err)
		}
		return checkpoint{}, false, nil
	}
	if err != nil {
		return checkpoint{}, false, err
	}
	c, err := parse(text)
	if errors.Is(err, errVersion) {
		return checkpoint{}, false, err
	}
	if err != nil {
		return checkpoint{}, false, fmt.Errorf("the file is damaged (%w): restore it from a backup, correct it by hand, or remove it and Rewind to where to go on from", err)
	}
	f.exists.Store(true)
	return c, true, nil
}

func (f *File) write(ctx context.Context, c checkpoint) error {
	text, err := c.text()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := replace(f.path, text); err != nil {
		return err
	}
	f.exists.Store(true)
	return nil
}
