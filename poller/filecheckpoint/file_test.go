package filecheckpoint_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/source"
)

// writerPath is set in a process that saves until it is killed.
const writerPath = "FILECHECKPOINT_WRITER_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerPath); path != "" {
		if err := write(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func write(path string) error {
	f, err := filecheckpoint.Open(path, filecheckpoint.Options{})
	if err != nil {
		return err
	}
	at, err := f.Load(context.Background())
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(at)) // "" is 0
	for ; ; n++ {
		to := source.Cursor(strconv.Itoa(n + 1))
		if err := f.Save(context.Background(), at, to); err != nil {
			return err
		}
		at = to
		fmt.Println(at)
	}
}

func open(t *testing.T, path string) *filecheckpoint.File {
	f, err := filecheckpoint.Open(path, filecheckpoint.Options{})
	require.NoError(t, err)
	return f
}

func TestConformance(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
		Open: func(context.Context) (pollertest.Opened, error) {
			f, err := filecheckpoint.Open(path, filecheckpoint.Options{})
			if err != nil {
				return pollertest.Opened{}, err
			}
			return pollertest.Opened{Checkpointer: f, Close: f.Close}, nil
		},
		Rewind: func(_ context.Context, to source.Cursor) error { return open(t, path).Rewind(to) },
	}))
}

// A writer that is killed at any moment leaves the last cursor it printed, or the
// one it was saving, and at most a temporary file, which the next Open removes.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	kills := 30
	if testing.Short() {
		kills = 8
	}
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	for kill := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerPath+"="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		printed, lines := 0, bufio.NewScanner(out)
		for range kill%7 + 1 {
			require.True(t, lines.Scan(), stderr.String())
		}
		require.NoError(t, cmd.Process.Kill())
		for ok := true; ok; ok = lines.Scan() { // also read the lines printed until it died
			printed, err = strconv.Atoi(lines.Text())
			require.NoError(t, err)
		}
		_ = cmd.Wait() // killed

		at, err := open(t, path).Load(t.Context())
		require.NoError(t, err)
		n, err := strconv.Atoi(string(at))
		require.NoError(t, err)
		require.True(t, n == printed || n == printed+1, "it printed %d, stored is %d", printed, n)
		temps, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.tmp"))
		require.NoError(t, err)
		require.Empty(t, temps)
	}
}

// Of two processes that save at the same time at least one ends with a conflict.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	f := open(t, path)
	_, err := f.Load(t.Context())
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), writerPath+"="+path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.True(t, bufio.NewScanner(out).Scan())
	require.ErrorIs(t, f.Save(t.Context(), "", "1"), poller.ErrConflict)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

func TestHistoryAndRewind(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b", "checkpoint.json")
	f, err := filecheckpoint.Open(path, filecheckpoint.Options{History: 3})
	require.NoError(t, err)
	entries, err := f.History()
	require.NoError(t, err)
	require.Empty(t, entries)
	_, err = f.Load(t.Context())
	require.NoError(t, err)
	for _, step := range [][2]source.Cursor{{"", "1"}, {"1", "2"}, {"2", "3"}, {"3", "4"}} {
		require.NoError(t, f.Save(t.Context(), step[0], step[1]))
		require.NoError(t, f.Save(t.Context(), step[0], step[1]), "a lost answer adds nothing to the history")
	}
	require.NoError(t, f.Rewind("2"))
	require.ErrorIs(t, f.Save(t.Context(), "4", "5"), poller.ErrConflict)
	entries, err = f.History()
	require.NoError(t, err)
	require.Len(t, entries, 3)
	for i, want := range []source.Cursor{"2", "4", "3"} {
		assert.Equal(t, want, entries[i].Cursor)
		assert.WithinDuration(t, time.Now(), entries[i].Time, time.Minute)
	}
	assert.Contains(t, entries[0].Writer, "rewind-")
	info, err := os.Stat(path)
	require.NoError(t, err)
	dir, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	if os.PathSeparator == '/' {
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		assert.Equal(t, os.FileMode(0o700), dir.Mode().Perm())
	}
}

func TestEditedByHand(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	f := open(t, path)
	_, err := f.Load(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.Save(t.Context(), "", "b"))
	require.NoError(t, os.WriteFile(path, []byte(`{"version": 1, "cursor": "a", "writer": "anna"}`), 0o600))
	require.ErrorIs(t, f.Save(t.Context(), "b", "c"), poller.ErrConflict)
	at, err := f.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, source.Cursor("a"), at)
	require.NoError(t, f.Save(t.Context(), "a", "b"))
}

func TestNewerVersion(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	for _, text := range []string{`{"version": 2, "writer": "w"}`, `{"version": 2, "writer": ["w"], "shard": 7}`} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := filecheckpoint.Open(path, filecheckpoint.Options{})
		require.ErrorContains(t, err, "the file has format version 2, and this program reads version 1 only: run the release that wrote it, or a later one; or stop the pipeline")
		require.NotContains(t, err.Error(), "damaged")
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"empty":       {``, "it is empty"},
		"cut":         {`{"version": 1, "cursor": "a`, "unexpected EOF"},
		"two":         {`{"version": 1, "writer": "w"} {}`, "more text after"},
		"misspelt":    {`{"version": 1, "curser": "a", "writer": "w"}`, `"curser"`},
		"no cursor":   {`{"version": 1, "writer": "w"}`, `no "cursor"`},
		"null cursor": {`{"version": 1, "cursor": null, "writer": "w"}`, `no "cursor"`},
		"no writer":   {`{"version": 1, "cursor": "a"}`, `no "writer"`},
		"odd cursor":  {`{"version": 1, "cursor": "\u0000", "writer": "w"}`, "not printable"},
		"no version":  {`{"cursor": "a", "writer": "w"}`, "no \"version\""},
		"other thing": {`hello`, "invalid character"},
	} {
		path := filepath.Join(t.TempDir(), "checkpoint.json")
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		_, err := filecheckpoint.Open(path, filecheckpoint.Options{})
		require.ErrorContains(t, err, c.want, name)
		entries, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		require.Len(t, entries, 1, "a refusal changes nothing, not even by a lock file")

		require.NoError(t, os.Remove(path))
		f := open(t, path)
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		_, err = filecheckpoint.Open(path, filecheckpoint.Options{})
		require.ErrorContains(t, err, c.want, name)
		require.ErrorContains(t, err, "stop the pipeline, then restore it from a backup", name)
		_, err = f.Load(t.Context())
		require.ErrorContains(t, err, c.want, name)
		require.Error(t, f.Rewind("x"), name)
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, c.text, string(left), "nothing is written over a damaged file")
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sub", "checkpoint.json")
	f := open(t, path)
	_, err := f.Load(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.Save(t.Context(), "", "a"))
	away := filepath.Dir(path) + ".away"
	require.NoError(t, os.Rename(filepath.Dir(path), away))
	_, err = f.Load(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Rename(away, filepath.Dir(path)))
	require.NoError(t, f.Save(t.Context(), "a", "b"), "as after an outage")

	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.ErrorContains(t, f.Rewind("b"), "is damaged")
	require.NoError(t, os.Remove(path))
	_, err = f.Load(t.Context())
	require.ErrorContains(t, err, "no longer exists, which is not a new start: stop the pipeline, then put it back")
	err = f.Save(t.Context(), "b", "c")
	require.ErrorContains(t, err, "no longer exists")
	require.NotErrorIs(t, err, poller.ErrConflict, "it may come back")
	require.NoError(t, f.Rewind("b"))
	at, err := f.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, source.Cursor("b"), at)
}

// A handle that has only loaded, or saved once, has seen the file.
func TestGoneAfterOneCall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	saved := open(t, path)
	_, err := saved.Load(t.Context())
	require.NoError(t, err)
	loaded := open(t, path) // the file does not exist yet
	require.NoError(t, saved.Save(t.Context(), "", "a"))
	_, err = loaded.Load(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	for _, f := range []*filecheckpoint.File{saved, loaded} {
		_, err = f.Load(t.Context())
		require.ErrorContains(t, err, "no longer exists, which is not a new start")
	}
}

// Open refuses a temporary file that is a directory before it removes another one.
func TestLeftoverThatIsNotAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	leftover, odd := filepath.Join(dir, ".c.0.tmp"), filepath.Join(dir, ".c.1.tmp")
	require.NoError(t, os.WriteFile(leftover, nil, 0o600))
	require.NoError(t, os.Mkdir(odd, 0o700))
	_, err := filecheckpoint.Open(filepath.Join(dir, "c"), filecheckpoint.Options{})
	require.ErrorContains(t, err, ".c.1.tmp has the name of a temporary file and is not a regular file: move it away")
	require.FileExists(t, leftover)
	require.DirExists(t, odd)
	require.NoError(t, os.Remove(odd))
	open(t, filepath.Join(dir, "c"))
	require.NoFileExists(t, leftover)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := filecheckpoint.Open("", filecheckpoint.Options{})
	require.ErrorContains(t, err, "path is empty")
	_, err = filecheckpoint.Open(filepath.Join(dir, "c"), filecheckpoint.Options{History: -1})
	require.ErrorContains(t, err, "Options.History is -1")
	_, err = filecheckpoint.Open(dir, filecheckpoint.Options{})
	require.Error(t, err, "a directory")
	require.NoFileExists(t, dir+".lock")
	_, err = filecheckpoint.Open(filepath.Join(dir, "c.lock"), filecheckpoint.Options{})
	require.ErrorContains(t, err, "the name ends in .lock")
	_, err = filecheckpoint.Open(filepath.Join(dir, strings.Repeat("c", 201)), filecheckpoint.Options{})
	require.ErrorContains(t, err, "the name has 201 bytes")
	f := open(t, filepath.Join(dir, "c"))
	require.ErrorIs(t, f.Save(t.Context(), "", "a"), poller.ErrConflict, "not loaded")
	_, err = f.Load(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, f.Save(t.Context(), "", "ä"), "fix the source")
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Save(t.Context(), "", "a"), filecheckpoint.ErrClosed)

	// Another checkpoint's temporary file is left alone.
	other := filepath.Join(dir, ".c.d.123.tmp")
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	open(t, filepath.Join(dir, "c"))
	require.FileExists(t, other)
	open(t, filepath.Join(dir, "c.d"))
	require.NoFileExists(t, other)
}

// Handles on a file and on a link to it conflict like any others.
func TestSymbolicLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "sub", "file"), filepath.Join(dir, "link")
	err := os.Symlink(file, link)
	if err != nil && runtime.GOOS == "windows" {
		t.Skipf("symbolic links take a privilege here: %v", err)
	}
	require.NoError(t, err)
	_, err = filecheckpoint.Open(link, filecheckpoint.Options{})
	require.ErrorContains(t, err, link+" is a link that leads to no file")
	f := open(t, file)
	_, err = f.Load(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.Save(t.Context(), "", "a"))
	linked := open(t, link)
	_, err = linked.Load(t.Context())
	require.NoError(t, err)
	require.NoError(t, linked.Save(t.Context(), "a", "b"))
	require.ErrorIs(t, f.Save(t.Context(), "a", "b"), poller.ErrConflict)
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink, "it is still one")

	require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "lock"), filepath.Join(dir, "c.lock")))
	_, err = filecheckpoint.Open(filepath.Join(dir, "c"), filecheckpoint.Options{})
	require.ErrorContains(t, err, "open the lock file, which must not be a link out of its directory: ")
}
