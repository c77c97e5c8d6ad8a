package checkpoints

import (
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/orders"
	"github.com/stretchr/testify/require"
)

var (
	killRows  = flag.Int("kill.rows", 0, "rows to copy in TestKill; 0 is 100,000, or 20,000 with -short")
	killCount = flag.Int("kill.count", 0, "how often to kill in TestKill, of Postgres; the others get 3 in 10 of it; 0 is 20, or 5 with -short")
	killSeed  = flag.Uint64("kill.seed", 0, "seed of the moments to kill at in TestKill; 0 draws one")
)

// dbtofile is killed with SIGKILL at random moments, again and again, while it
// copies a table. Its files equal the table, byte for byte.
func TestKill(t *testing.T) {
	t.Parallel()
	if raceDetector {
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
			n, lives, amid := 0, 0, 0
			for ; n < count || amid < count/3; n++ {
				require.Less(t, n, 20*count, "only %d kills came amid the copying", amid)
				// Every other life ends early: as it starts, recovers, reads its
				// first rows. The others end when another part of all is copied.
				limit := time.Minute
				if n%2 == 1 {
					limit = time.Duration(k.random.IntN(int(30 * time.Millisecond)))
				}
				k.life(o.Service(t, binary, k.dir, append(args, "-interval", "10ms")...), limit, int64(whole*(float64(lives)+k.random.Float64())/float64(count+1)))
				if lives++; float64(size(t, k.dir)) < 0.97*whole {
					amid++
					continue
				}
				finish() // the copy ended before the kill came, on a busy machine: start again
				k.dir, lives = t.TempDir(), 0
			}
			took := time.Since(began)
			finish()
			t.Logf("%d kills, %d of them amid the copying, %v a life", n, amid, (took / time.Duration(n)).Round(time.Millisecond))
		})
	}
}

// killer ends processes that copy into a directory.
type killer struct {
	t      *testing.T
	random *rand.Rand
	dir    string
}

// life runs a process and kills it after a time, or when so many bytes are in
// the directory.
func (k *killer) life(cmd *exec.Cmd, limit time.Duration, bytes int64) {
	k.t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(k.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its state is looked at below
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
	_ = cmd.Process.Kill() // it may have ended just now
	<-ended
	require.False(k.t, cmd.ProcessState.Exited(), "it ended by itself (%v):\n%s", cmd.ProcessState, &out)
}

// size returns how many bytes the files in dir have. Some come and go.
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
