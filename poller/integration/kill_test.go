package integration

import (
	"bytes"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	killRows  = flag.Int("kill.rows", 0, "rows to copy in TestKill; 0 is 100,000, or 20,000 with -short")
	killCount = flag.Int("kill.count", 0, "how often to kill in TestKill, of Postgres; the others get 3 in 10 of it; 0 is 20, or 5 with -short")
	killSeed  = flag.Uint64("kill.seed", 0, "seed of the moments to kill at in TestKill; 0 draws one")
)

// dbtofile is killed with SIGKILL at random moments, again and again, while it
// copies a table. What it wrote is the table, byte for byte.
func TestKill(t *testing.T) {
	t.Parallel()
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
	binary := dbtofile(t)
	for i, o := range databases {
		t.Run(o.name, func(t *testing.T) {
			count := count
			if i > 0 {
				count = max(5, count*3/10)
			}
			o, db := o.filled(t, rows)
			t.Logf("replay with: go test ./poller/integration -run TestKill/%s -kill.rows %d -kill.count %d -kill.seed %d", o.name, rows, *killCount, seed)
			dir := t.TempDir()
			args := []string{"-batch", "1000", "-segment-bytes", "1000000"}
			k := killer{t: t, random: rand.New(rand.NewPCG(seed, uint64(i))), window: 120 * time.Millisecond}
			began, amid, done := time.Now(), 0, 0.0
			for n := range count {
				k.life(o.service(t, binary, dir, append(args, "-interval", "10ms")...))
				done = float64(size(t, dir)) / float64(254*rows)
				if done < 0.97 {
					amid++
				}
				k.aim(done, float64(n+1)/float64(count+1))
			}
			took := time.Since(began)
			require.GreaterOrEqual(t, amid, count/2, "of %d kills too few came amid the copying", count)

			last := o.service(t, binary, dir, append(args, "-once")...)
			out, err := last.CombinedOutput()
			require.NoError(t, err, string(out))
			o.compare(t, db, dir, rows)
			t.Logf("%d kills, %d of them amid the copying, of which they left %.0f %% to do, %v a life", count, amid, 100*max(0, 1-done), (took / time.Duration(count)).Round(time.Millisecond))
		})
	}
}

// killer draws moments to kill at, so that the lives together copy about all
// of the table.
type killer struct {
	t      *testing.T
	random *rand.Rand
	window time.Duration // the longest life
}

// life runs a process and kills it at a random moment.
func (k *killer) life(cmd *exec.Cmd) {
	k.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	moment := time.Duration(k.random.Float64() * float64(k.window))
	require.NoError(k.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its state is looked at below
	}()
	select {
	case <-time.After(moment):
	case <-ended:
	}
	_ = cmd.Process.Kill() // it may have ended just now
	<-ended
	require.False(k.t, cmd.ProcessState.Exited(), "it ended by itself (%v):\n%s", cmd.ProcessState, &out)
}

// aim makes the next lives shorter if more was done than wanted, else longer.
func (k *killer) aim(done, wanted float64) {
	if done > wanted {
		k.window = max(k.window/2, 2*time.Millisecond)
	} else {
		k.window = min(k.window*5/4, 5*time.Second)
	}
}

// size returns how many bytes the files in dir have.
func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	}))
	return n
}
