package filesink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
)

// failing opens a real directory, after errors.
type failing struct {
	dir  string
	errs []error
	o    bool // MustExist
}

func (f *failing) open() (directory, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, &fs.PathError{Op: "mkdir", Path: f.dir, Err: err}
	}
	return openDirectory(f.dir, f.o, 0o700, 0o600)
}

// options returns complete Options.
func options(t *testing.T, mustExist bool) Options[int] {
	o := Options[int]{MustExist: mustExist}
	require.NoError(t, o.complete())
	return o
}

// An outage at the start is an outage, not an end: the disk is full, or the process
// has no descriptors left.
func TestOutageAtStart(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
	} {
		ctx := t.Context()
		f := failing{dir: filepath.Join(t.TempDir(), "out"), errs: []error{err, err, err}}
		d, opened := openDir(f.dir, options(t, false), system{f.open, time.Now, (*sync.WaitGroup).Go})
		require.NoError(t, opened)
		_, loaded := d.Load(ctx)
		require.ErrorIs(t, loaded, err)
		require.ErrorContains(t, loaded, "filesink: "+f.dir+": mkdir "+f.dir)
		require.ErrorIs(t, d.Seal(ctx), err)
		require.NoError(t, d.Write(ctx, source.Batch[int]{To: "1", Records: []int{1}}), "Open counts as a Load")
		require.NoError(t, d.Close())
		text, read := os.ReadFile(filepath.Join(f.dir, "rows-0000000001.jsonl.open"))
		require.NoError(t, read)
		require.Equal(t, "1\n", string(text))

		f.errs = []error{err}
		d, opened = openDir(f.dir, options(t, false), system{f.open, time.Now, (*sync.WaitGroup).Go})
		require.NoError(t, opened)
		require.NoError(t, d.Close(), "never opened")
		_, loaded = d.Load(ctx)
		require.ErrorIs(t, loaded, os.ErrClosed)
	}
}

// What a person has to fix ends the start at once.
func TestErrorAtStart(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.ELOOP, errors.New("unknown"),
		fmt.Errorf("%w by process 5", ErrInUse),
	} {
		f := failing{dir: filepath.Join(t.TempDir(), "out"), errs: []error{err}}
		_, opened := openDir(f.dir, options(t, false), system{f.open, time.Now, (*sync.WaitGroup).Go})
		require.ErrorIs(t, opened, err)
		_, err = os.Stat(f.dir)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

// A mount point without its file system looks like a new directory.
func TestMustExist(t *testing.T) {
	t.Parallel()
	ctx, mount := t.Context(), t.TempDir()
	for _, dir := range []string{mount, filepath.Join(mount, "out"), filepath.Join(mount, "a", "b")} {
		_, err := Open(dir, Options[int]{MustExist: true})
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.EqualError(t, err, "filesink: "+dir+": no checkpoint: mount its file system, or put its files back; for a new start, open it once without MustExist: file does not exist")
		entries, err := os.ReadDir(mount)
		require.NoError(t, err)
		require.Empty(t, entries, "nothing is created, not even a lock")
	}
	dir := filepath.Join(mount, "out")
	d, err := Open(dir, Options[int]{})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	d, err = Open(dir, Options[int]{MustExist: true})
	require.NoError(t, err)
	require.NoError(t, d.Write(ctx, source.Batch[int]{To: "1", Records: []int{1}}))
	require.NoError(t, d.Close())

	// It disappears between the check and the recovery.
	f := failing{dir: dir, errs: []error{syscall.EIO}, o: true}
	d, err = openDir(dir, options(t, true), system{now: time.Now, openDir: func() (directory, error) {
		opened, err := f.open()
		if err == nil {
			require.NoError(t, os.Remove(filepath.Join(dir, checkpointName)))
			require.NoError(t, os.Remove(filepath.Join(dir, "rows-0000000001.jsonl.open")))
		}
		return opened, err
	}})
	require.NoError(t, err)
	defer d.Close()
	_, err = d.Load(ctx)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no checkpoint: mount its file system")
}

// A segment gets its final name between the calls of a reader.
func TestCommittedWhileASegmentIsRenamed(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	d, err := Open(dir, Options[int]{SegmentRows: 1})
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.Write(ctx, source.Batch[int]{To: "1", Records: []int{1}}))
	cp, err := readCheckpoint(dir)
	require.NoError(t, err)
	final := filepath.Join(dir, "rows-0000000001.jsonl")
	for _, renamed := range []bool{false, true} {
		require.NoError(t, os.Rename(final, final+openSuffix))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		if renamed {
			require.NoError(t, os.Rename(final+openSuffix, final))
		}
		parts, err := committedParts(dir, cp, entries)
		require.NoError(t, err)
		require.Equal(t, []Part{{Number: 1, Path: final, Bytes: 2}}, parts)
		if !renamed {
			require.NoError(t, os.Rename(final+openSuffix, final))
		}
	}
	require.NoError(t, os.Remove(final))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	parts, err := committedParts(dir, cp, entries)
	require.NoError(t, err)
	require.Empty(t, parts, "a consumer has taken it")
}
