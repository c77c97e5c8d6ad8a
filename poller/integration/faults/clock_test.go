//go:build linux

package faults

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// ownClock starts a server with a clock that the test can move, by a library that is loaded
// into it. The clock of the copy cannot be moved this way, because Go programs load no
// libraries and read the time from the kernel's page.
func ownClock(t *testing.T) []dbtest.Option {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		missing(t, "install the package gcc, to build a library that moves a server's clock")
	}
	dir := lasting(t)
	library := filepath.Join(dir, filepath.Base(t.Name())+"-clock.so")
	out, err := exec.CommandContext(t.Context(), gcc, "-shared", "-fPIC", "-O2", "-o", library, "testdata/clock.c").CombinedOutput()
	require.NoError(t, err, string(out))
	setClock(t, 0)
	return []dbtest.Option{dbtest.Env("LD_PRELOAD="+library, "FAULTS_CLOCK="+clockFile(t))}
}

func clockFile(t *testing.T) string {
	return filepath.Join(lasting(t), filepath.Base(filepath.Dir(t.Name()))+filepath.Base(t.Name())+"-clock")
}

// setClock sets how many seconds the server's clock is ahead.
func setClock(t *testing.T, ahead time.Duration) {
	f, err := os.OpenFile(clockFile(t), os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(binary.NativeEndian.AppendUint64(nil, uint64(ahead/time.Second)))
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
