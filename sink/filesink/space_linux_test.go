package filesink_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/filesink"
)

// tmpfs mounts a small file system.
func tmpfs(t *testing.T, options string) (mount string) {
	t.Helper()
	mount = t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, options); err != nil {
		skip := t.Skipf
		if os.Getenv("CI") == "true" {
			skip = t.Fatalf
		}
		skip("mounting a small tmpfs takes root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(mount, syscall.MNT_DETACH)) })
	return mount
}

// A disk without space or inodes at the start is an outage, too.
func TestDiskFullAtStart(t *testing.T) {
	t.Parallel()
	for _, full := range []string{"size=64k", "nr_inodes=8"} {
		for _, existing := range []bool{false, true} {
			ctx, mount := t.Context(), tmpfs(t, full)
			dir := filepath.Join(mount, "out")
			if existing {
				require.NoError(t, os.Mkdir(dir, 0o700))
			}
			var junk []string
			for n := 0; ; n++ {
				name := filepath.Join(mount, fmt.Sprint(n))
				err := os.WriteFile(name, make([]byte, 1<<20), 0o600)
				if err == nil || n == 0 {
					junk = append(junk, name)
				}
				if errors.Is(err, syscall.ENOSPC) && n > 0 {
					break
				}
			}
			f := open(t, dir, filesink.Options[order]{})
			for range 3 {
				require.ErrorIs(t, f.Write(ctx, batch(0, 3)), syscall.ENOSPC)
				_, err := f.Load(ctx)
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.ErrorContains(t, err, "free some space on its file system; nothing is lost")
			}
			for _, name := range junk {
				require.NoError(t, os.Remove(name))
			}
			require.NoError(t, f.Write(ctx, batch(0, 3)))
			require.NoError(t, f.Close())
			require.Equal(t, lines(0, 3), content(t, dir))
		}
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	mount := tmpfs(t, "size=256k")
	ctx, dir := context.Background(), filepath.Join(mount, "out")
	f := open(t, dir, filesink.Options[order]{SegmentRows: 1000})
	taken := "" // by a consumer, to free space
	at, step, seen := 0, 500, 0
	for seen < 10 {
		err := f.Write(ctx, batch(at, at+step))
		if err == nil {
			at += step
			continue
		}
		seen++
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, "free some space on its file system; nothing is lost")
		if seen%3 != 0 {
			continue
		}
		for _, name := range segments(t, dir) {
			if filepath.Ext(name) == ".jsonl" {
				text, err := os.ReadFile(filepath.Join(dir, name))
				require.NoError(t, err)
				taken += string(text)
				require.NoError(t, os.Remove(filepath.Join(dir, name)))
			}
		}
	}
	c, err := f.Load(ctx)
	if err == nil { // the disk may be too full even to recover
		require.Equal(t, cursor(at), c)
	}
	require.NoError(t, f.Close())
	open(t, dir, filesink.Options[order]{})
	require.Equal(t, lines(0, at), taken+content(t, dir))
	t.Logf("%d records through a full disk", at)
}

func TestPermissionLost(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	if os.Geteuid() == 0 {
		// File permissions do not bind root, so the thread gives up root for its
		// file system calls only.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	ctx, parent := context.Background(), t.TempDir()
	dir := filepath.Join(parent, "out")
	if os.Geteuid() == 0 {
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.Chown(dir, nobody, -1))
		require.NoError(t, os.Chmod(parent, 0o711))
		require.NoError(t, os.Chmod(filepath.Dir(parent), 0o711))
		require.NoError(t, syscall.Setfsuid(nobody))
		defer func() { require.NoError(t, syscall.Setfsuid(0)) }()
	}
	f, err := filesink.Open(dir, filesink.Options[order]{})
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Write(ctx, batch(0, 2)))
	require.NoError(t, os.Chmod(dir, 0o500))
	for range 2 {
		err := f.Write(ctx, batch(2, 3))
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, "let this process read, write and enter the directory")
		require.NotErrorIs(t, err, poller.ErrConflict)
	}
	require.NoError(t, os.Chmod(dir, 0o700))
	require.NoError(t, f.Write(ctx, batch(2, 3)))
	require.NoError(t, f.Seal(ctx))
	require.NoError(t, f.Close())
	require.Equal(t, lines(0, 3), content(t, dir))
}

func TestRefusingOpenKeepsNothingOpen(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	segment := filepath.Join(dir, second+".open")
	text, err := os.ReadFile(segment)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(segment, []byte(strings.Replace(string(text), "6", "7", 1)), 0o600))
	_, err = filesink.Open(dir, filesink.Options[order]{})
	require.ErrorContains(t, err, "have changed since they were written")
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range fds {
		if path, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil { // otherwise it was closed
			require.False(t, strings.HasPrefix(path, dir), path)
		}
	}
}
