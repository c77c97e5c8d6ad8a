package filesink_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/filesink"
)

// writerEnv names the directory to which the test binary, as a process of its test,
// writes batches until it is killed. It prints the last number of each.
const writerEnv = "FILESINK_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		fmt.Println(writeForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func writeForever(dir string) error {
	ctx := context.Background()
	f, err := filesink.Open(dir, filesink.Options[order]{SegmentRows: 500})
	if err != nil {
		return err
	}
	c, err := f.Load(ctx)
	if err != nil {
		return err
	}
	at, _ := strconv.Atoi(string(c))
	for n := 1; ; n = n*7%101 + 1 {
		if err := f.Write(ctx, batch(at, at+n)); err != nil {
			return err
		}
		at += n
		fmt.Println(at)
	}
}

type writer struct {
	*exec.Cmd
	out *bufio.Scanner
}

func startWriter(t *testing.T, dir string) writer {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return writer{cmd, bufio.NewScanner(out)}
}

// kill kills the writer during a batch, after some others, and returns the last
// number it printed.
func (w writer) kill(t *testing.T, batches int) (acknowledged int) {
	t.Helper()
	for said := 0; w.out.Scan(); said++ {
		n, err := strconv.Atoi(w.out.Text())
		require.NoError(t, err, w.out.Text())
		if acknowledged = n; said == batches {
			require.NoError(t, w.Process.Kill())
		}
	}
	require.Error(t, w.Wait(), "killed")
	return acknowledged
}

func TestKilledProcess(t *testing.T) {
	t.Parallel()
	kills := 30
	if testing.Short() {
		kills = 8
	}
	rng := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	acknowledged := 0
	for range kills {
		acknowledged = startWriter(t, dir).kill(t, rng.IntN(20))
	}
	ctx := context.Background()
	f := open(t, dir, filesink.Options[order]{})
	c, err := f.Load(ctx)
	require.NoError(t, err)
	at, err := strconv.Atoi(string(c))
	require.NoError(t, err)
	require.GreaterOrEqual(t, at, acknowledged)
	require.NoError(t, f.Seal(ctx))
	require.Equal(t, lines(0, at), content(t, dir))
	t.Logf("%d kills, %d records", kills, at)
}

func TestInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := startWriter(t, dir)
	require.True(t, w.out.Scan())
	host, err := os.Hostname()
	require.NoError(t, err)
	_, err = filesink.Open(dir, filesink.Options[order]{})
	require.ErrorIs(t, err, filesink.ErrInUse)
	require.Regexp(t, fmt.Sprintf(`^filesink: \Q%s\E: the directory is in use by process %d on host "\Q%s\E" since 20\S+Z: stop it first$`,
		dir, w.Process.Pid, host), err.Error())
	w.kill(t, 0)

	open(t, dir, filesink.Options[order]{})
	_, err = filesink.Open(dir, filesink.Options[order]{})
	require.ErrorIs(t, err, filesink.ErrInUse, "in one process, too")
	require.ErrorContains(t, err, fmt.Sprintf("by process %d ", os.Getpid()))
}

// TestDirectoryGone moves, removes, empties and replaces the directory while it is
// open.
func TestDirectoryGone(t *testing.T) {
	t.Parallel()
	if os.PathSeparator == '\\' {
		t.Skip("Windows keeps an open directory from being moved")
	}
	ctx := context.Background()
	for name, test := range map[string]struct {
		harm func(dir string) error
		want string
		heal func(dir string) error // nil: it cannot be healed while it is open
	}{
		"moved": {
			func(dir string) error { return os.Rename(dir, dir+".away") }, "put them back",
			func(dir string) error { return os.Rename(dir+".away", dir) },
		},
		"replaced": {
			func(dir string) error { return errors.Join(os.Rename(dir, dir+".away"), os.Mkdir(dir, 0o700)) },
			"another directory has replaced the one that was opened",
			func(dir string) error { return errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)) },
		},
		"lock removed": {
			func(dir string) error { return os.Rename(filepath.Join(dir, "lock"), dir+".lock") },
			"the lock file was removed or replaced",
			func(dir string) error { return os.Rename(dir+".lock", filepath.Join(dir, "lock")) },
		},
		"removed":       {os.RemoveAll, "the directory or files in it no longer exist", nil},
		"created again": {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) }, "another directory", nil},
		"emptied":       {func(dir string) error { return removeFiles(dir) }, "the lock file was removed", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "out")
			f := open(t, dir, filesink.Options[order]{})
			require.NoError(t, f.Write(ctx, batch(0, 2)))
			require.NoError(t, test.harm(dir))
			for range 3 {
				err := f.Seal(ctx)
				require.ErrorContains(t, err, "filesink: "+dir+": ")
				require.ErrorContains(t, err, test.want)
				require.Error(t, f.Write(ctx, batch(2, 3)))
			}
			if test.heal == nil {
				if entries, err := os.ReadDir(dir); err == nil {
					require.Empty(t, entries, "never a new start")
				}
				return
			}
			require.NoError(t, test.heal(dir))
			require.NoError(t, f.Write(ctx, batch(2, 3)))
			require.NoError(t, f.Save(ctx, "2", "3"))
			require.NoError(t, f.Seal(ctx))
			require.Equal(t, lines(0, 3), content(t, dir))
		})
	}
}

// A checkpoint that vanished is not a new start, even if consumers have taken all
// segments.
func TestCheckpointGone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, reopened := range []bool{false, true} {
		dir := t.TempDir()
		f := open(t, dir, filesink.Options[order]{Name: "orders"})
		require.NoError(t, f.Write(ctx, batch(0, 2)))
		require.NoError(t, f.Seal(ctx))
		require.NoError(t, os.Remove(filepath.Join(dir, first)))
		if reopened {
			require.NoError(t, f.Close())
			f = open(t, dir, filesink.Options[order]{})
		}
		inTheWay := filepath.Join(dir, second+".open")
		require.NoError(t, os.WriteFile(inTheWay, nil, 0o600))
		require.ErrorIs(t, f.Write(ctx, batch(2, 3)), os.ErrExist) // the next call recovers
		require.NoError(t, os.Remove(inTheWay))
		path := filepath.Join(dir, "checkpoint")
		require.NoError(t, os.Rename(path, path+".away"))
		for range 2 {
			_, err := f.Load(ctx)
			require.ErrorContains(t, err, "the checkpoint no longer exists: stop the pipeline, then restore")
			require.NoFileExists(t, path)
		}
		require.NoError(t, os.Rename(path+".away", path))
		require.NoError(t, f.Write(ctx, batch(2, 3)))
		require.Equal(t, lines(2, 3), content(t, dir))
	}
}

func removeFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	return err
}

// A Dir that has lost its lock does not replace the checkpoint of its successor.
func TestCloseAfterAnotherTookOver(t *testing.T) {
	t.Parallel()
	if os.PathSeparator == '\\' {
		t.Skip("Windows keeps an open file from being removed")
	}
	ctx, dir := context.Background(), t.TempDir()
	robbed := open(t, dir, filesink.Options[order]{})
	require.NoError(t, robbed.Write(ctx, batch(0, 1)))
	require.NoError(t, robbed.Seal(ctx))
	require.NoError(t, os.Remove(filepath.Join(dir, "lock")))
	successor := open(t, dir, filesink.Options[order]{})
	require.NoError(t, successor.Write(ctx, batch(1, 2)))
	require.NoError(t, successor.Seal(ctx))
	require.NoError(t, successor.Write(ctx, batch(2, 3)))
	require.NoError(t, robbed.Close())
	require.NoError(t, successor.Close())
	f := open(t, dir, filesink.Options[order]{})
	require.NoError(t, f.Write(ctx, batch(3, 4)))
	require.Equal(t, lines(0, 4), content(t, dir))
}
