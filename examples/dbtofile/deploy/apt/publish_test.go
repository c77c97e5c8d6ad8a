//go:build linux

// Package apt_test publishes repositories of small packages, and runs the gate of dbtofile-update with a simulated clock.
package apt_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
)

// publisher is a directory of packages, and the keys of the one who publishes it.
type publisher struct {
	t    *testing.T
	home string // of gpg
	dir  string
	keys map[string]string // exported, by name
}

func newPublisher(t *testing.T, keys ...string) *publisher {
	t.Parallel()
	for program, debianPackage := range map[string]string{
		"apt-ftparchive": "apt-utils", "gpg": "gpg", "gpg-agent": "gpg-agent", "gpgv": "gpgv", "dpkg-deb": "dpkg", "flock": "util-linux",
	} {
		deploytest.Program(t, program, debianPackage)
	}
	home, err := os.MkdirTemp("", "gpg-") // short, for the path of the agent's socket
	require.NoError(t, err)
	p := &publisher{t: t, home: home, dir: t.TempDir(), keys: map[string]string{}}
	t.Cleanup(func() {
		_, _ = p.run("gpgconf", "--kill", "all")
		os.RemoveAll(home)
	})
	for _, key := range keys {
		_, err := p.run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", key, "ed25519", "sign", "never")
		require.NoError(t, err)
		p.keys[key], err = p.run("gpg", "--armor", "--export", key)
		require.NoError(t, err)
	}
	return p
}

func (p *publisher) run(command ...string) (string, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+p.home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// pack writes a package that trusts keys, and returns its path.
func (p *publisher) pack(name, version string, keys ...string) string {
	root := p.t.TempDir()
	for path, text := range map[string]string{
		"DEBIAN/control": "Package: " + name + "\nVersion: " + version + "\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: none\n",
		"usr/share/keyrings/" + name + ".asc": func() (text string) {
			for _, key := range keys {
				text += p.keys[key]
			}
			return text
		}(),
	} {
		require.NoError(p.t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
		require.NoError(p.t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o644))
	}
	path := filepath.Join(p.dir, name+"_"+version+"_all.deb")
	out, err := p.run("dpkg-deb", "--root-owner-group", "--build", root, path)
	require.NoError(p.t, err, out)
	return path
}

// publishes requires that the index has these packages.
func (p *publisher) publishes(key string, want ...string) {
	p.t.Helper()
	out, err := p.run("./publish", p.dir, key)
	require.NoError(p.t, err, out)
	index, err := filepath.Glob(p.dir + "/by-hash/SHA512/*")
	require.NoError(p.t, err)
	require.NotEmpty(p.t, index)
	release, err := p.run("gpg", "--decrypt", p.dir+"/InRelease")
	require.NoError(p.t, err, release)
	for _, path := range index {
		if strings.Contains(release, filepath.Base(path)) {
			text, err := os.ReadFile(path)
			require.NoError(p.t, err)
			for _, name := range want {
				assert.Contains(p.t, string(text), "\nFilename: ./"+name+"\n")
			}
			return
		}
	}
	p.t.Fatal("the list of packages is not there under the hash that is signed")
}

// refuses requires that the index stays, and an error.
func (p *publisher) refuses(key, want string) {
	p.t.Helper()
	before, _ := os.ReadFile(p.dir + "/InRelease")
	out, err := p.run("./publish", p.dir, key)
	require.Error(p.t, err, out)
	assert.Contains(p.t, out, want)
	after, _ := os.ReadFile(p.dir + "/InRelease")
	assert.Equal(p.t, string(before), string(after))
}

// A machine may install each package of the directory, by a rollback too, so each must trust the next index.
func TestEveryPackageTrustsTheKey(t *testing.T) {
	p := newPublisher(t, "old@example.org", "new@example.org")
	p.pack("dbtofile", "1.0.0+b1", "old@example.org")
	p.pack("dbtofile", "1.0.0", "old@example.org", "new@example.org")
	p.pack("a-dependency", "1.0.0")
	p.publishes("old@example.org", "dbtofile_1.0.0+b1_all.deb", "dbtofile_1.0.0_all.deb", "a-dependency_1.0.0_all.deb")
	p.refuses("new@example.org", "dbtofile_1.0.0+b1_all.deb does not trust the key new@example.org")
	require.NoError(t, os.Remove(p.dir+"/dbtofile_1.0.0+b1_all.deb"))
	p.publishes("new@example.org", "dbtofile_1.0.0_all.deb")
	p.pack("dbtofile", "0.9.0") // older than the others, and without any key
	p.refuses("new@example.org", "dbtofile_0.9.0_all.deb does not trust the key new@example.org")
}

// apt-ftparchive only warns, and publishes the rest.
func TestAPackageThatCannotBeReadIsAnError(t *testing.T) {
	p := newPublisher(t, "old@example.org")
	p.pack("dbtofile", "1.0.0", "old@example.org")
	p.publishes("old@example.org", "dbtofile_1.0.0_all.deb")
	for _, name := range []string{"dbtofile", "a-dependency"} {
		path := p.pack(name, "1.1.0", "old@example.org")
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for what, part := range map[string][]byte{"half": text[:len(text)/2], "its end is missing": text[:len(text)-100], "empty": nil} {
			require.NoError(t, os.WriteFile(path, part, 0o644))
			t.Log(what)
			p.refuses("old@example.org", filepath.Base(path)+" cannot be read")
		}
		require.NoError(t, os.Remove(path))
	}
	require.NoError(t, os.Symlink(p.dir+"/dbtofile_1.0.0_all.deb", p.dir+"/link.deb"))
	p.refuses("old@example.org", "link.deb cannot be read") // the index would have the path on this machine
	require.NoError(t, os.Remove(p.dir+"/link.deb"))
	p.refuses("nobody@example.org", "No secret key")
	require.NoError(t, os.Remove(p.dir+"/dbtofile_1.0.0_all.deb"))
	p.refuses("old@example.org", "no package in "+p.dir)
}

// gpg finds keys by a part of their names.
func TestTheKeyIsOne(t *testing.T) {
	p := newPublisher(t, "old-new@example.org", "new@example.org")
	p.pack("dbtofile", "1.0.0", "new@example.org")
	p.refuses("new@example.org", "several secret keys")
	p.publishes("<new@example.org>", "dbtofile_1.0.0_all.deb")
}

// A package has the key as it was when the package was built.
func TestThePackageHasTheKeyAsItIs(t *testing.T) {
	gpg := func(p *publisher, args ...string) string {
		out, err := p.run(append([]string{"gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		require.NoError(t, err, out)
		return out
	}
	for what, change := range map[string][2][]string{
		"a subkey signs": {{"--quick-generate-key", "a@example.org", "ed25519", "sign", "never"}, {"--quick-add-key", "FPR", "ed25519", "sign", "never"}},
		"the package has a key that has expired": {
			{"--faked-system-time", "20200101T000000", "--quick-generate-key", "a@example.org", "ed25519", "sign", "1d"}, {"--quick-set-expire", "FPR", "0"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPublisher(t)
			gpg(p, change[0]...)
			p.keys["a"] = gpg(p, "--armor", "--export", "a@example.org")
			var fingerprint string
			for line := range strings.Lines(gpg(p, "--with-colons", "--list-keys", "a@example.org")) {
				if rest, ok := strings.CutPrefix(line, "fpr:"); ok && fingerprint == "" {
					fingerprint = strings.Trim(rest, ":\n")
				}
			}
			for i, arg := range change[1] {
				change[1][i] = strings.Replace(arg, "FPR", fingerprint, 1)
			}
			gpg(p, change[1]...)
			p.pack("dbtofile", "1.0.0", "a")
			p.refuses("a@example.org", "dbtofile_1.0.0_all.deb does not trust the key")
			p.keys["a"] = gpg(p, "--armor", "--export", "a@example.org")
			p.pack("dbtofile", "1.0.0", "a")
			p.publishes("a@example.org", "dbtofile_1.0.0_all.deb")
		})
	}
}

// Two at once would mix their indexes.
func TestPublishWaitsForAnother(t *testing.T) {
	p := newPublisher(t, "a@example.org")
	p.pack("dbtofile", "1.0.0", "a@example.org")
	lock, err := os.Create(p.dir + "/.lock")
	require.NoError(t, err)
	defer lock.Close()
	require.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	info, err := lock.Stat()
	require.NoError(t, err)
	inode := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)
	ended := make(chan error)
	go func() {
		_, err := p.run("./publish", p.dir, "a@example.org")
		ended <- err
	}()
	for waits := false; !waits; {
		select {
		case err := <-ended:
			t.Fatal("it did not wait", err)
		case <-time.After(10 * time.Millisecond):
		}
		locks, err := os.ReadFile("/proc/locks")
		require.NoError(t, err)
		for line := range strings.Lines(string(locks)) {
			waits = waits || strings.Contains(line, "->") && strings.Contains(line, inode)
		}
	}
	assert.NoFileExists(t, p.dir+"/InRelease")
	require.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_UN))
	require.NoError(t, <-ended)
	assert.FileExists(t, p.dir+"/InRelease")
}

// The program, the package and dbtofile-update must agree on how a version is written.
func TestBuildTakesVersionsThatTheGateKnows(t *testing.T) {
	deploytest.Program(t, "realpath", "coreutils")
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(bin+"/go", []byte("#!/bin/sh\n"), 0o755)) // the build itself is not tested here
	for version, accepted := range map[string]bool{
		"1.2.3": true, "v1.2.3": true, "1.3.0-rc.1": true, "1.2.3+b4": true, "1.3.0-rc.1+b-4": true,
		"1.2": false, "1.2.3.4": false, "1.3.0~rc1": false, "1:1.0.0": false, "01.2.3": false, "1.2.3-": false, "1.2.3+": false, "dev": false, "1.2.3 ": false,
	} {
		cmd := exec.Command("../package/build", version, t.TempDir())
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "NFPM=true")
		out, err := cmd.CombinedOutput()
		assert.Equal(t, accepted, err == nil, "%s: %s", version, out)
		assert.Equal(t, !accepted, strings.Contains(string(out), "is not a version"), version)
	}
}
