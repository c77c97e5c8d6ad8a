package checkpoints

import (
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/orders"
	"github.com/stretchr/testify/require"
)

var (
	killRows  = flag.Int("kill.rows", 0, "rows to copy in TestKill; 0 is 100,000, or 20,000 with -short")
	killCount = flag.Int("kill.count", 0, "kills in TestKill with Postgres, other databases get 3 of 10 of them; 0 is 20, or 5 with -short")
	killSeed  = flag.Uint64("kill.seed", 0, "seed of the times at which TestKill kills; 0 draws one")
)

// dbtofile is killed with SIGKILL at random times while it copies a table, and started
// again. The files then equal the table, byte for byte.
func TestKill(t *testing.T) {
	t.Parallel()
	if lab.Race() {
		t.Skip("the program that is killed is not built with the race detector")
	}
	rows, count := 100_000, 20
	if testing.Short() {
		rows, count = 20_000, 5
	}
	if *killRows > 0 {
		rows = *killRows
	}
	if *killCount > 0 {
		count = *killCount
	}
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	binary := orders.Build(t)
	for i, o := range orders.Tables {
		t.Run(o.Name, func(t *testing.T) {
			count := count
			if i > 0 {
				count = max(5, count*3/10)
			}
			o, db := o.Filled(t, rows)
			t.Logf("replay with: go test ./poller/integration/checkpoints -run TestKill/%s -kill.rows %d -kill.count %d -kill.seed %d", o.Name, rows, *killCount, seed)
			k := killer{t: t, random: rand.New(rand.NewPCG(seed, uint64(i))), dir: t.TempDir()}
			args := []string{"-batch", "1000", "-segment-bytes", "1000000"}
			finish := func() {
				out, err := o.Service(t, binary, k.dir, append(args, "-once")...).CombinedOutput()
				require.NoError(t, err, string(out))
				o.Compare(t, db, k.dir, rows)
			}
			began, whole := time.Now(), float64(254*rows)
			n, processes, midCopy := 0, 0, 0
			for ; n < count || midCopy < count/3; n++ {
				require.Less(t, n, 20*count, "only %d kills happened during the copy", midCopy)
				// Every second process is killed early: while it starts, recovers or reads
				// its first rows. The others are killed when they have copied some more of
				// the table.
				limit := lab.WaitLimit
				if n%2 == 1 {
					limit = time.Duration(k.random.IntN(int(30 * time.Millisecond)))
				}
				k.runUntilKilled(o.Service(t, binary, k.dir, append(args, "-interval", "10ms")...), limit, int64(whole*(float64(processes)+k.random.Float64())/float64(count+1)))
				if processes++; float64(size(t, k.dir)) < 0.97*whole {
					midCopy++
					continue
				}
				finish() // the copy was complete before the kill: start over in a new directory
				k.dir, processes = t.TempDir(), 0
			}
			took := time.Since(began)
			finish()
			t.Logf("%d kills, %d of them during the copy, %v per process", n, midCopy, (took / time.Duration(n)).Round(time.Millisecond))
		})
	}
}

// killer kills processes that copy into a directory.
type killer struct {
	t      *testing.T
	random *rand.Rand
	dir    string
}

// runUntilKilled runs a process, and kills it after the limit or when the directory has the
// given number of bytes.
func (k *killer) runUntilKilled(cmd *exec.Cmd, limit time.Duration, bytes int64) {
	k.t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(k.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // ProcessState is checked below
	}()
	over := time.After(limit)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for alive := true; alive && size(k.t, k.dir) < bytes; {
		select {
		case <-tick.C:
		case <-over:
			alive = false
		case <-ended:
			alive = false
		}
	}
	_ = cmd.Process.Kill() // it may have ended already
	<-ended
	require.False(k.t, cmd.ProcessState.Exited(), "the process ended without being killed (%v):\n%s", cmd.ProcessState, &out)
}

// size returns the total size of the files in dir. Files may appear and vanish during the
// call.
func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}
