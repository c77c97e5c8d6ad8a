//go:build linux

package faults

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// ownClock starts a server with a clock that the test can move, by a library that is loaded
// into it.
func ownClock(t *testing.T) []dbtest.Option {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		missing(t, "install the package gcc, to build a library that moves a server's clock")
	}
	library := clockFile(t) + ".so"
	out, err := exec.CommandContext(t.Context(), gcc, "-shared", "-fPIC", "-O2", "-o", library, "testdata/clock.c").CombinedOutput()
	require.NoError(t, err, string(out))
	setClock(t, 0)
	return []dbtest.Option{dbtest.Env("LD_PRELOAD="+library, "FAULTS_CLOCK="+clockFile(t))}
}

// clockFile returns the file of the clock that a test moves.
func clockFile(t *testing.T) string {
	return filepath.Join(lasting(t), strings.ReplaceAll(t.Name(), "/", "-")+"-clock")
}

// setClock sets how many seconds the server's clock is ahead.
func setClock(t *testing.T, ahead time.Duration) {
	f, err := os.OpenFile(clockFile(t), os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(binary.LittleEndian.AppendUint64(nil, uint64(ahead/time.Second)))
	require.NoError(t, err)
}

// jump moves the server's clock, until the returned function moves it back.
func jump(by time.Duration) func(w *world) func() {
	return func(w *world) func() {
		set := func(by time.Duration) {
			setClock(w.t, by)
			var now int64
			query := "SELECT extract(epoch FROM clock_timestamp())::bigint"
			if w.engine.name == "MariaDB" {
				query = "SELECT unix_timestamp(sysdate())"
			}
			require.NoError(w.t, w.db.Get(&now, query))
			assert.InDelta(w.t, time.Now().Add(by).Unix(), now, 600, "the server's clock does not follow")
		}
		set(by)
		return func() { set(0) }
	}
}

// moved builds dbtofile once with a package time that adds what a file says to the time of day. Go
// programs load no libraries, and read the time from a page of the kernel.
var moved struct {
	once sync.Once
	path string
}

// ownTime lets the copy run with a clock that the test can move.
func ownTime(w *world) {
	moved.once.Do(func() { moved.path = buildMoved(w.t) })
	setClock(w.t, 0)
	w.copy.path, w.copy.env = moved.path, []string{"FAULTS_CLOCK=" + clockFile(w.t)}
}

func buildMoved(t *testing.T) string {
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	require.NoError(t, err)
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	require.NoError(t, err)
	const reads = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	require.Contains(t, string(text), reads, "Go reads the clock in another way")
	changed := filepath.Join(lasting(t), "time.go")
	require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(text), reads, reads+"\tsec += ahead()\n", 1)), 0o600))
	added, err := filepath.Abs("testdata/clock.go.txt")
	require.NoError(t, err)
	return buildOverlay(t, "dbtofile-moved", map[string]string{original: changed, filepath.Join(filepath.Dir(original), "ahead.go"): added})
}

// buildOverlay builds dbtofile with some files in place of others, and returns its path.
func buildOverlay(t *testing.T, name string, replace map[string]string) string {
	t.Helper()
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	path := filepath.Join(lasting(t), name)
	require.NoError(t, os.WriteFile(path+".json", overlay, 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", path+".json", "-o", path, "./dbtofile")
	build.Dir = filepath.Join(lab.RepositoryRoot(t), "examples")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// jumpOwn moves the clock of the copy, until the returned function moves it back.
func jumpOwn(by time.Duration) func(w *world) func() {
	return func(w *world) func() {
		setClock(w.t, by)
		w.eventually("the copy has another time", func() bool {
			s, ok := w.copy.status()
			return ok && s.Now.Sub(time.Now().Add(by)).Abs() < 10*time.Minute
		})
		return func() { setClock(w.t, 0) }
	}
}
