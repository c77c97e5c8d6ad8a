//go:build linux

package systemd_test

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
)

// first is the version that is built. The others are the same program with another version of the
// same length written over it. The program of each is not in its package but in /opt/lab, so that publishing,
// downloading and installing, over and over, take a tenth of the time.
const first = "7.41.100"

func version(n int) string { return fmt.Sprintf("7.41.%d", 100+n) }

// releases is what the owner of a repository has: two keys of gpg, and a package that trusts one.
type releases struct {
	home    string // of gpg
	base    string // the package, unpacked, without the program
	program []byte
}

const ours, foreign = "ours@example.org", "foreign@example.org"

// newReleases makes the keys and builds the package.
func newReleases(t *testing.T) releases {
	dependencies(t)
	for program, debianPackage := range map[string]string{"apt-ftparchive": "apt-utils", "gpg": "gpg", "gpg-agent": "gpg-agent"} {
		deploytest.Program(t, program, debianPackage)
	}
	home, err := os.MkdirTemp("", "gpg-") // short, for the path of the agent's socket
	require.NoError(t, err)
	r := releases{home: home, base: filepath.Join(t.TempDir(), "base")}
	t.Cleanup(func() {
		r.run(t, "gpgconf", "--kill", "all")
		os.RemoveAll(home)
	})
	for _, key := range []string{ours, foreign} {
		r.run(t, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", key, "ed25519", "sign", "never")
	}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.asc")
	require.NoError(t, os.WriteFile(keys, []byte(r.run(t, "gpg", "--armor", "--export", ours)), 0o644))
	r.run(t, "../package/build", first, dir, keys)
	r.run(t, "dpkg-deb", "--raw-extract", filepath.Join(dir, "dbtofile_"+first+"_"+runtime.GOARCH+".deb"), r.base)
	r.program, err = os.ReadFile(filepath.Join(r.base, "usr/bin/dbtofile"))
	require.NoError(t, err)
	require.True(t, bytes.Contains(r.program, []byte(first)))
	require.NoError(t, os.Remove(filepath.Join(r.base, "usr/bin/dbtofile")))
	return r
}

// run runs a command with the keys.
func (r releases) run(t *testing.T, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+r.home)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s", strings.Join(command, " "), &errs)
	return string(out)
}

// release is a package of a version, which may have a fault.
type release struct {
	version  string
	wrapper  string // what the program does, as a shell script; $real is a good one
	postinst string // runs first in the script of the package
	preinst  string
	depends  string // a further dependency
	conflict string // a package that it conflicts with
	conf     string // instead of its apt.conf
}

// Faults of the program.
const (
	exits         = "exit 3"
	dies          = `(sleep 2; kill -KILL $$) & exec "$real"`                                  // when it has been ready for a while
	misconfigured = "exit 2"                                                                   // systemd does not restart it
	unready       = `DBTOFILE_DSN_FILE= DBTOFILE_DSN=postgres://127.0.0.1:1/none exec "$real"` // it runs, and reads nothing
	sleeps        = "exec sleep infinity"
	sticks        = `STICKS=$("$real" -version | cut -d ' ' -f 2) exec /opt/lab/serve` // it polls twice, see stick
	waits         = "until [ -e /run/exit ]; do sleep 0.1; done; exit 3"
)

// write writes the package into a directory of the lab's.
func (r releases) write(t *testing.T, dir string, rel release) {
	t.Helper()
	root := filepath.Join(t.TempDir(), rel.version)
	require.NoError(t, os.CopyFS(root, os.DirFS(r.base)))
	edit := func(name string, mode os.FileMode, change func(string) string) {
		path := filepath.Join(root, name)
		text, _ := os.ReadFile(path) // it may be new
		require.NoError(t, os.WriteFile(path, []byte(change(string(text))), mode))
		require.NoError(t, os.Chmod(path, mode))
	}
	require.Len(t, rel.version, len(first))
	real := "dbtofile-" + rel.version
	program := filepath.Join(filepath.Dir(dir), real)
	if _, err := os.Stat(program); err != nil { // or it may run
		require.NoError(t, os.WriteFile(program, bytes.ReplaceAll(r.program, []byte(first), []byte(rel.version)), 0o755))
	}
	edit("usr/bin/dbtofile", 0o755, func(string) string {
		return "#!/bin/sh\nreal=/opt/lab/" + real + "\n" + cmp.Or(rel.wrapper, `exec "$real" "$@"`) + "\n"
	})
	edit("DEBIAN/control", 0o644, func(text string) string {
		text = strings.Replace(text, "\nVersion: "+first+"\n", "\nVersion: "+rel.version+"\n", 1)
		if rel.depends != "" {
			text = strings.Replace(text, "\nDepends: ", "\nDepends: "+rel.depends+", ", 1)
		}
		if rel.conflict != "" {
			text = strings.Replace(text, "\nDepends: ", "\nConflicts: "+rel.conflict+"\nDepends: ", 1)
		}
		return text
	})
	if rel.conf != "" {
		edit("usr/share/dbtofile/apt.conf", 0o644, func(string) string { return rel.conf })
	}
	first := func(script string) func(string) string {
		return func(text string) string { return "#!/bin/sh\n" + script + "\n" + text }
	}
	edit("DEBIAN/postinst", 0o755, first(rel.postinst))
	edit("DEBIAN/preinst", 0o755, first(rel.preinst))
	r.run(t, "dpkg-deb", "--root-owner-group", "-Znone", "--build", root, dir)
	require.NoError(t, os.RemoveAll(root))
}
