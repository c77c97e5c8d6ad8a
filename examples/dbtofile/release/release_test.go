package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// workshop is a directory with a key and a program to release: to build dbtofile
// itself would take long.
type workshop struct {
	t   *testing.T
	dir string
}

func newWorkshop(t *testing.T) workshop {
	w := workshop{t, t.TempDir()}
	w.write("src/go.mod", "module example.org/program\n\ngo 1.25\n")
	w.write("src/main.go", "package main\n\nvar release string\n\nfunc main() { println(\"dbtofile\", release) }\n")
	w.does("-keygen", w.path("one"))
	return w
}

func (w workshop) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w workshop) write(name, text string) {
	require.NoError(w.t, os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	require.NoError(w.t, os.WriteFile(w.path(name), []byte(text), 0o600))
}

func (w workshop) run(password string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	w.t.Chdir(w.path("src"))
	code = run(w.t.Context(), args, password, &o, &e)
	return code, o.String(), e.String()
}

func (w workshop) does(args ...string) string {
	w.t.Helper()
	code, out, errs := w.run("", args...)
	require.Equal(w.t, 0, code, "%s", errs)
	return out
}

func (w workshop) fails(want string, args ...string) {
	w.t.Helper()
	code, _, errs := w.run("", args...)
	require.NotEqual(w.t, 0, code)
	require.Contains(w.t, errs, want)
}

func (w workshop) publishes(args ...string) string {
	w.t.Helper()
	return w.does(append([]string{"-dir", w.path("public"), "-key", w.path("one.key"), "-package", ".", "-platforms", "linux/amd64"}, args...)...)
}

func (w workshop) index(key string) index.Index {
	w.t.Helper()
	require.NoError(w.t, os.MkdirAll(w.path(key+"-keys"), 0o755))
	text, err := os.ReadFile(w.path(key + ".pub"))
	require.NoError(w.t, err)
	w.write(key+"-keys/it.pub", string(text))
	keys, err := index.ReadKeys(w.path(key + "-keys"))
	require.NoError(w.t, err)
	x, err := present(w.path("public"), keys)
	require.NoError(w.t, err)
	return x
}

func TestPublish(t *testing.T) {
	w := newWorkshop(t)
	both := "linux/amd64,linux/arm64"
	out := w.publishes("-version", "1.0.0", "-platforms", both)
	assert.Contains(t, out, "1.0.0        linux/amd64")
	first := w.index("one")
	require.Len(t, first.Releases, 2)
	assert.InDelta(t, time.Now().Unix(), first.Serial, 600)
	assert.WithinDuration(t, time.Now().Add(30*24*time.Hour), first.Expires, 10*time.Minute)

	w.publishes("-version", "1.1.0", "-min-from", "1.0.0", "-expires", "1h", "-platforms", both)
	second := w.index("one")
	require.Len(t, second.Releases, 4)
	assert.Greater(t, second.Serial, first.Serial)
	assert.Equal(t, first.Releases, second.Releases[:2])
	assert.Equal(t, "1.0.0", second.Releases[2].MinFrom)
	assert.WithinDuration(t, time.Now().Add(time.Hour), second.Expires, 10*time.Minute)

	w.publishes()
	again := w.index("one")
	assert.Greater(t, again.Serial, second.Serial)
	assert.Equal(t, second.Releases, again.Releases)

	w.publishes("-withdraw", "1.1.0")
	assert.Equal(t, first.Releases, w.index("one").Releases)

	entries, err := os.ReadDir(w.path("public"))
	require.NoError(t, err)
	require.Len(t, entries, 6, "four binaries, the index and its signature")
	if runtime.GOOS == "linux" && runtime.GOARCH == "amd64" {
		text, err := exec.Command(w.path("public/dbtofile-1.0.0-linux-amd64")).CombinedOutput()
		require.NoError(t, err)
		assert.Equal(t, "dbtofile 1.0.0\n", string(text))
	}
}

// TestBuildsAreReproducible builds the same source in two directories.
func TestBuildsAreReproducible(t *testing.T) {
	var sums [2][]index.Release
	for i := range sums {
		w := newWorkshop(t)
		w.publishes("-version", "1.0.0")
		sums[i] = w.index("one").Releases
	}
	assert.Equal(t, sums[0], sums[1])
	w := newWorkshop(t)
	w.publishes("-version", "1.0.1")
	assert.NotEqual(t, sums[0][0].SHA256, w.index("one").Releases[0].SHA256)

	// Neither a clone that has changed nor the settings of a machine make a difference.
	w = newWorkshop(t)
	w.write("env", "GOAMD64=v3\nGOFLAGS=-buildvcs=true -tags=other\n")
	t.Setenv("GOENV", w.path("env"))
	git(t, w.path("src"), "init")
	git(t, w.path("src"), "-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "commit", "--allow-empty", "--message=x")
	w.publishes("-version", "1.0.0")
	assert.Equal(t, sums[0], w.index("one").Releases)
}

func git(t *testing.T, dir string, args ...string) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
}

func TestAVersionIsPublishedOnce(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	args := []string{"-dir", w.path("public"), "-key", w.path("one.key"), "-package", "."}
	w.fails("1.0.0 has been published", append(args, "-version", "1.0.0")...)
	w.fails("1.2.0 is not in the index", append(args, "-withdraw", "1.2.0")...)
	w.fails("is not like linux/amd64", append(args, "-version", "1.2.0", "-platforms", "linux")...)
	w.fails("go build for linux/amd64", append(args, "-version", "1.2.0", "-package", "./none")...)

	binary := w.path("public/dbtofile-1.0.0-linux-amd64")
	require.NoError(t, os.WriteFile(binary, []byte("other"), 0o600))
	before := w.index("one")
	w.fails("is not as it was when it was published", args...)
	require.Equal(t, before, w.index("one"), "nothing is published that an updater would refuse")
	require.NoError(t, os.WriteFile(w.path("public/"+index.Name), []byte("{}"), 0o600))
	w.fails("not signed by a trusted key", args...)
}

// A version that was withdrawn is on machines already, which would refuse other
// bytes. What a publish has left that was killed, or of which one build failed, may be
// replaced by the same bytes.
func TestAWithdrawnVersionIsNotPublishedAgainWithOtherBytes(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	w.publishes("-withdraw", "1.0.0")
	w.publishes("-version", "1.0.0")
	w.publishes("-withdraw", "1.0.0")
	w.write("src/main.go", "package main\n\nvar release string\n\nfunc main() { println(release) }\n")
	w.fails("is there with other bytes", "-dir", w.path("public"), "-key", w.path("one.key"), "-package", ".", "-platforms", "linux/amd64", "-version", "1.0.0")

	w.fails("go build for none/amd64", "-dir", w.path("public"), "-key", w.path("one.key"), "-package", ".", "-platforms", "linux/amd64,none/amd64", "-version", "1.1.0")
	w.write("src/main.go", "package main\n\nvar release string\n\nfunc main() { println(release, 2) }\n")
	w.publishes("-version", "1.1.0")
}

// TestKilledInTheMiddle leaves the directory as a publish does that is killed between
// the two files of the index, and publishes again.
func TestKilledInTheMiddle(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	old, err := os.ReadFile(w.path("public/" + index.Name))
	require.NoError(t, err)
	w.publishes("-version", "1.1.0")
	require.NoError(t, os.Rename(w.path("public/"+index.Name), w.path("public/"+next)))
	w.write("public/"+index.Name, string(old))
	w.publishes("-version", "1.2.0")
	require.Len(t, w.index("one").Releases, 3)
	_, err = os.Stat(w.path("public/" + next))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Updaters do not believe it, so nothing is to be built upon it.
func TestAnIndexOfATimeToComeIsNotExtended(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	key, err := readKey(w.path("one.key"), "")
	require.NoError(t, err)
	x := w.index("one")
	x.Serial = math.MaxInt64
	file, signature, err := index.Sign(x, key)
	require.NoError(t, err)
	w.write("public/"+index.Name, string(file))
	w.write("public/"+index.Signature, string(signature))
	w.fails("of a time to come", "-dir", w.path("public"), "-key", w.path("one.key"))
}

func TestGoingOverToAnotherKey(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	w.does("-keygen", w.path("two"))
	args := []string{"-dir", w.path("public"), "-key", w.path("two.key")}
	w.fails("not signed by a trusted key", args...)
	w.index("one")
	w.does(append(args, "-keys", w.path("one-keys"))...)
	require.Len(t, w.index("two").Releases, 1)
	w.does(args...)
}

func TestKeysAreNotReplaced(t *testing.T) {
	w := newWorkshop(t)
	w.fails("exists", "-keygen", w.path("one"))
	info, err := os.Stat(w.path("one.key"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(w.path("two.pub"), nil, 0o600))
	w.fails("exists", "-keygen", w.path("two"))
	_, err = os.Stat(w.path("two.key"))
	require.ErrorIs(t, err, os.ErrNotExist, "no half of a pair is left")
	if runtime.GOOS != "windows" {
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
}

func TestWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "-dir is missing",
		"-dir x":                        "-key is missing",
		"-dir x -key y more":            `"more" is not the value of a flag`,
		"-dir x -key y -version v1":     "-version is",
		"-dir x -key y -min-from 1.0.0": "-min-from is",
		"-dir x -key y -expires 0s":     "-expires is",
		"-dir x -key y -nonsense":       "-nonsense",
	} {
		var errs bytes.Buffer
		require.Equal(t, 2, run(context.Background(), strings.Fields(args), "", &errs, &errs), args)
		require.Contains(t, errs.String(), want)
	}
	var errs bytes.Buffer
	require.Equal(t, 0, run(context.Background(), []string{"-h"}, "", &errs, &errs))
	require.Contains(t, errs.String(), "-withdraw")
}

// TestIndexIsPlainJSON: it is to be read by people and other programs too.
func TestIndexIsPlainJSON(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	text, err := os.ReadFile(w.path("public/" + index.Name))
	require.NoError(t, err)
	var x map[string]any
	require.NoError(t, json.Unmarshal(text, &x))
	require.Equal(t, index.Format, x["format"])
}
