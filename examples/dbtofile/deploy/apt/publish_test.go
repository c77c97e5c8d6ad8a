//go:build linux

// Package apt_test publishes repositories of small packages, and runs the gate of dbtofile-update with a simulated clock.
package apt_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
		"apt-ftparchive": "apt-utils", "gpg": "gpg", "gpg-agent": "gpg-agent", "dpkg-deb": "dpkg", "flock": "util-linux",
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
	p.refuses("nobody@example.org", "No secret key")
	require.NoError(t, os.Remove(p.dir+"/dbtofile_1.0.0_all.deb"))
	p.refuses("old@example.org", "no package in "+p.dir)
}
