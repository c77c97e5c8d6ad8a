//go:build linux

package faults

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fileFaults are faults of the directory of the copy's files.
func fileFaults() []fault {
	list := []fault{
		{name: "disk full", how: "another file takes all space of the file system", begin: func(w *world) func() {
			return fill(w, filepath.Join(filepath.Dir(w.dir), "other"))
		}},
		{name: "no inodes", how: "other files take all inodes of the file system", begin: func(w *world) func() {
			other := filepath.Join(filepath.Dir(w.dir), "others")
			require.NoError(w.t, os.MkdirAll(other, 0o755))
			return takeInodes(w, other)
		}},
		{name: "permissions", how: "chmod 000 of the directory, for a copy that is not root", dies: true, begin: func(w *world) func() {
			require.NoError(w.t, os.Chmod(w.dir, 0))
			return func() { require.NoError(w.t, os.Chmod(w.dir, 0o700)) }
		}},
		{name: "moved", how: "the directory is renamed, and renamed back", dies: true, begin: func(w *world) func() {
			require.NoError(w.t, os.Rename(w.dir, w.dir+"-moved"))
			return func() {
				require.NoError(w.t, os.RemoveAll(w.dir)) // a copy that was started again may have begun
				require.NoError(w.t, os.Rename(w.dir+"-moved", w.dir))
				w.copy.signal(syscall.SIGKILL) // it may have opened the removed directory
			}
		}},
		{name: "replaced", how: "the directory is renamed, and an empty one has its name; then it is renamed back", dies: true, begin: func(w *world) func() {
			require.NoError(w.t, os.Rename(w.dir, w.dir+"-moved"))
			require.NoError(w.t, os.Mkdir(w.dir, 0o700))
			chown(w, w.dir)
			return func() {
				require.NoError(w.t, os.RemoveAll(w.dir))
				require.NoError(w.t, os.Rename(w.dir+"-moved", w.dir))
				w.copy.signal(syscall.SIGKILL)
			}
		}},
		{name: "read-only", how: "mount -o remount,ro, which needs that the copy has ended: SIGKILL", dies: true, begin: func(w *world) func() {
			mount := filepath.Dir(w.dir)
			w.eventually("the file system becomes read-only", func() bool {
				w.copy.signal(syscall.SIGKILL)
				return syscall.Mount("", mount, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") == nil
			})
			killed := time.Now()
			w.eventually("the new process fails", func() bool { return w.copy.said(killed, "read-only file system") })
			return func() { require.NoError(w.t, syscall.Mount("", mount, "", syscall.MS_REMOUNT, "")) }
		}},
		{name: "not mounted", how: "the copy is killed, another file system is mounted over the directory's, and it starts with -must-exist", dies: true, begin: notMounted},
	}
	for i := range list {
		list[i].part, list[i].prepare, list[i].on = "files", ownDisk, []engine{postgres, sqlite}
	}
	return list
}

const nobody = 65534

// ownDisk puts the files on a small new file system, and runs the copy as a user whom
// permissions bind.
func ownDisk(w *world) {
	needRoot(w.t)
	for dir := lasting(w.t); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&1 == 0 {
			missing(w.t, "set TMPDIR to a directory that every user can reach, unlike "+dir)
		}
	}
	mount := filepath.Join(lasting(w.t), filepath.Base(w.t.TempDir())+time.Now().Format("150405.000000000"))
	require.NoError(w.t, os.Mkdir(mount, 0o755))
	require.NoError(w.t, syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=64m,nr_inodes=200,mode=777"))
	w.t.Cleanup(func() { require.NoError(w.t, syscall.Unmount(mount, syscall.MNT_DETACH)) })
	w.dir = filepath.Join(mount, "out")
	require.NoError(w.t, os.Mkdir(w.dir, 0o700))
	chown(w, w.dir)
	w.copy.user = &syscall.Credential{Uid: nobody, Gid: nobody}
	if w.server == nil { // the copy opens the database itself
		reachDatabase(w, mount)
	}
}

// reachDatabase lets the user of the copy reach the database: by another path, because the
// directories above belong to others, and with the right to write to its files.
func reachDatabase(w *world, mount string) {
	dir, base := filepath.Split(w.database.Name())
	there := filepath.Join(mount, "database")
	require.NoError(w.t, os.Mkdir(there, 0o755))
	require.NoError(w.t, syscall.Mount(dir, there, "", syscall.MS_BIND, ""))
	w.t.Cleanup(func() { require.NoError(w.t, syscall.Unmount(there, syscall.MNT_DETACH)) })
	require.NoError(w.t, os.Chmod(dir, 0o777))
	// As long as a connection is open, the write-ahead log stays, and its rights do.
	lasting, err := w.db.Connx(context.Background())
	require.NoError(w.t, err)
	w.t.Cleanup(func() { lasting.Close() })
	_, err = lasting.ExecContext(w.t.Context(), `SELECT count(*) FROM items`)
	require.NoError(w.t, err)
	files, err := filepath.Glob(w.database.Name() + "*")
	require.NoError(w.t, err)
	for _, file := range files {
		require.NoError(w.t, os.Chmod(file, 0o666))
	}
	w.copy.dsn = "sqlite:" + filepath.Join(there, base)
}

func chown(w *world, path string) { require.NoError(w.t, os.Chown(path, nobody, nobody)) }

// notMounted hides the file system of the directory. The copy begins no other one in its place.
func notMounted(w *world) func() {
	mount := filepath.Dir(w.dir)
	require.NoError(w.t, syscall.Mount("tmpfs", mount, "tmpfs", 0, "mode=777"))
	w.copy.change(func(p *program) { p.args = []string{"-must-exist"} })
	began := time.Now()
	w.copy.signal(syscall.SIGKILL)
	w.eventually("the new process refuses", func() bool { return w.copy.ends(began) > 0 })
	return func() {
		files, _ := filepath.Glob(filepath.Join(w.dir, "*.jsonl*"))
		assert.Empty(w.t, files, "a new copy began below the mount point")
		require.NoError(w.t, syscall.Unmount(mount, syscall.MNT_DETACH))
	}
}

// fill writes a file until the file system is full.
func fill(w *world, path string) (end func()) {
	f, err := os.Create(path)
	require.NoError(w.t, err)
	defer f.Close()
	for err = error(nil); err == nil; {
		_, err = f.Write(make([]byte, 4096))
	}
	require.ErrorIs(w.t, err, syscall.ENOSPC)
	return func() { require.NoError(w.t, os.Remove(path)) }
}

// takeInodes creates files until the file system takes no more.
func takeInodes(w *world, dir string) (end func()) {
	for {
		f, err := os.CreateTemp(dir, "")
		if err != nil {
			require.ErrorIs(w.t, err, syscall.ENOSPC)
			return func() { require.NoError(w.t, os.RemoveAll(dir)) }
		}
		f.Close()
	}
}
