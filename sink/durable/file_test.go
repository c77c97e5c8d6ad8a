package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// memory is a directory whose nth call fails, before or after its effect.
type memory struct {
	files map[string]string
	calls []string
	fail  int
	after bool
}

var errMemory = errors.New("it failed")

func (m *memory) call(effect func() error, format string, args ...any) error {
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
	failing := len(m.calls) == m.fail
	if !failing || m.after {
		if err := effect(); err != nil {
			return err
		}
	}
	if failing {
		return errMemory
	}
	return nil
}

func none() error { return nil }

func (m *memory) Create(name string) (File, error) {
	err := m.call(func() error {
		if _, ok := m.files[name]; ok {
			return fs.ErrExist
		}
		m.files[name] = ""
		return nil
	}, "create %s", name)
	if err != nil {
		return nil, err
	}
	return &memoryFile{m, name}, nil
}

func (m *memory) Rename(from, to string) error {
	return m.call(func() error {
		m.files[to] = m.files[from]
		delete(m.files, from)
		return nil
	}, "rename %s %s", from, to)
}

func (m *memory) Remove(name string) error {
	return m.call(func() error { delete(m.files, name); return nil }, "remove %s", name)
}

func (m *memory) Sync() error { return m.call(none, "sync the directory") }

type memoryFile struct {
	*memory
	name string
}

func (f *memoryFile) Write(p []byte) (int, error) {
	return len(p), f.call(func() error { f.files[f.name] += string(p); return nil }, "write %s", f.name)
}
func (f *memoryFile) Sync() error  { return f.call(none, "sync %s", f.name) }
func (f *memoryFile) Close() error { return f.call(none, "close %s", f.name) }

func TestReplaceOrder(t *testing.T) {
	t.Parallel()
	m := &memory{files: map[string]string{"c": "old"}}
	require.NoError(t, Replace(m, "c", []byte("new")))
	require.Equal(t, map[string]string{"c": "new"}, m.files)
	require.Equal(t, []string{
		"create .c.0.tmp", "write .c.0.tmp", "sync .c.0.tmp", "close .c.0.tmp", "rename .c.0.tmp c", "sync the directory",
	}, m.calls)
}

// Each call of Replace fails in turn. The file has the old content or the new
// one, nothing is synced twice, and the temporary file is removed.
func TestReplaceFailsWhole(t *testing.T) {
	t.Parallel()
	for fail := 1; fail <= 6; fail++ {
		for _, after := range []bool{false, true} {
			m := &memory{files: map[string]string{"c": "old"}, fail: fail, after: after}
			require.ErrorIs(t, Replace(m, "c", []byte("new")), errMemory)
			renamed := fail == 6 || fail == 5 && after
			want := map[string]string{"c": map[bool]string{false: "old", true: "new"}[renamed]}
			if fail == 1 && after { // it cannot be told from a file of another call
				want[".c.0.tmp"] = ""
			}
			require.Equal(t, want, m.files, "%v", m.calls)
			syncs := slices.DeleteFunc(slices.Clone(m.calls), func(c string) bool { return !strings.HasPrefix(c, "sync .") })
			require.LessOrEqual(t, len(syncs), 1)

			m.fail = 0
			require.NoError(t, Replace(m, "c", []byte("new")))
			require.Equal(t, "new", m.files["c"])
		}
	}
}

// A call that cannot create its temporary file leaves that of another call alone.
func TestReplaceRemovesItsOwnFileOnly(t *testing.T) {
	t.Parallel()
	m := &memory{files: map[string]string{".c.0.tmp": "another call's"}, fail: 1}
	require.ErrorIs(t, Replace(m, "c", []byte("new")), errMemory)
	require.Equal(t, map[string]string{".c.0.tmp": "another call's"}, m.files)
}

func TestReplaceBesideLeftovers(t *testing.T) {
	t.Parallel()
	m := &memory{files: map[string]string{".c.0.tmp": "half", ".c.1.tmp": ""}}
	require.NoError(t, Replace(m, "c", []byte("new")))
	require.Equal(t, []string{".c.0.tmp", ".c.1.tmp", "c"}, slices.Sorted(maps.Keys(m.files)))
	for name := range m.files {
		require.Equal(t, name != "c", IsTemp(name, "c"), name)
	}
}

func TestIsTemp(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]bool{
		".c.0.tmp": true, ".c.123456789.tmp": true,
		"c": false, "c.0.tmp": false, ".c.tmp": false, ".c..tmp": false, ".c.x.tmp": false, ".c.0.tmp.x": false,
		".d.0.tmp": false, ".c.d.0.tmp": false, ".c.0.1.tmp": false, "": false,
	} {
		assert.Equal(t, want, IsTemp(entry, "c"), entry)
	}
	assert.True(t, IsTemp(".c.d.0.tmp", "c.d"))
}

func TestReplaceFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, text := range []string{"", "a", strings.Repeat("long ", 1000), "b"} {
		require.NoError(t, ReplaceFile(path, []byte(text), 0o600))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	if os.PathSeparator == '/' {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	}

	require.ErrorIs(t, ReplaceFile(filepath.Join(dir, "none", "x"), nil, 0o600), fs.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	require.Error(t, ReplaceFile(filepath.Join(dir, "sub"), nil, 0o600), "a directory")
	require.NoFileExists(t, filepath.Join(dir, ".sub.0.tmp"))
}

func TestRootKeepsItsDirectory(t *testing.T) {
	t.Parallel()
	if os.PathSeparator == '\\' {
		t.Skip("Windows keeps an open directory from being moved")
	}
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.Mkdir(dir, 0o700))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	require.NoError(t, os.Rename(dir, dir+".away"))
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, Replace(Root{root, 0o600}, "c", []byte("x")))
	require.FileExists(t, filepath.Join(dir+".away", "c"))
	require.NoFileExists(t, filepath.Join(dir, "c"))
}

func TestMkdirAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		require.NoError(t, MkdirAll(path, 0o700))
		require.DirExists(t, path)
	}
	if os.PathSeparator == '/' {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	}
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.EqualError(t, MkdirAll(file, 0o700), file+" is not a directory")
	require.Error(t, MkdirAll(filepath.Join(file, "x"), 0o700))
	require.NoError(t, SyncDir(path))
	require.ErrorIs(t, SyncDir(filepath.Join(dir, "none")), fs.ErrNotExist)
}
