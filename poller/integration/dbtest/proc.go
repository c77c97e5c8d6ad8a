package dbtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// owner is the user that a server runs as. The zero value is the user of the test.
type owner struct{ uid, gid int }

// makeDir creates a server's directory in a place that its owner can access.
func makeDir(e engine) (o owner, dir string, err error) {
	if e.kind().rootless && os.Geteuid() == 0 {
		if o, err = unprivileged(); err != nil {
			return o, "", err
		}
	}
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if o.uid != 0 && !reachable(parent) {
			continue
		}
		if dir, err = os.MkdirTemp(parent, "dbtest-*"); err == nil {
			return o, dir, o.own(dir)
		}
	}
	if err == nil {
		err = fmt.Errorf("the user that runs %s can access neither %s nor /tmp nor /var/tmp", e.kind().name, os.TempDir())
	}
	return o, "", err
}

func unprivileged() (o owner, err error) {
	for _, name := range []string{"postgres", "nobody"} {
		var u *user.User
		if u, err = user.Lookup(name); err != nil {
			continue
		}
		if o.uid, err = strconv.Atoi(u.Uid); err == nil {
			if o.gid, err = strconv.Atoi(u.Gid); err == nil {
				return o, nil
			}
		}
	}
	return o, fmt.Errorf("Postgres and PgBouncer do not run as root, and neither of the users postgres and nobody exists: %w", err)
}

// reachable reports whether every user may traverse dir and its parents.
func reachable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&1 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// own changes the owner of a file to o.
func (o owner) own(path string) error {
	if o.uid == 0 {
		return nil
	}
	return os.Chown(path, o.uid, o.gid)
}

// reaper ends a server whose test process has ended. It is a shell that reads from a pipe.
// Only the test process can write to the pipe, so the shell sees its end however the
// process dies, SIGKILL included. Linux can send the server a signal instead
// (PR_SET_PDEATHSIG), but does so when the thread that started the server ends, and cannot
// remove the directory.
type reaper struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// The first loop reads the id of the process to end; 0 means none. The removal is repeated
// because processes of the server may still write.
const reaperScript = `trap '' HUP INT TERM
pid=0
while read -r p; do pid=$p; done
if [ "$pid" != 0 ]; then kill -"$2" "$pid"; fi
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	rm -rf "$1" && exit 0
	sleep 0.5
done
exit 1
`

func startReaper(dir string, quit syscall.Signal) (*reaper, error) {
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "dbtest", dir, strconv.Itoa(int(quit)))
	owner{}.apply(cmd)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &reaper{cmd, pipe}, cmd.Start()
}

// watch sets the process to end. 0 means none.
func (r *reaper) watch(pid int) { fmt.Fprintln(r.pipe, pid) }

// finish ends the reaper, which removes dir.
func (r *reaper) finish(dir string) error {
	r.pipe.Close()
	if err := r.cmd.Wait(); err != nil {
		return fmt.Errorf("dbtest: removing %s: %w", dir, err)
	}
	return nil
}
