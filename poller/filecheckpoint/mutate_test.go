package filecheckpoint

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/disktest"
	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

// stored returns files that a handle has written.
func stored(t *testing.T) (files [][]byte) {
	path := filepath.Join(t.TempDir(), "c")
	f, err := Open(path, Options{History: 3})
	require.NoError(t, err)
	at, err := f.Load(t.Context())
	require.NoError(t, err)
	for i := range 6 {
		to := source.Cursor(fmt.Sprintf("v2:orders;id;%d;9f3a\"\\", 1000+i))
		if i == 4 {
			require.NoError(t, f.Rewind(to))
			_, err = f.Load(t.Context())
		} else {
			err = f.Save(t.Context(), at, to)
		}
		require.NoError(t, err)
		at = to
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		files = append(files, text)
	}
	return files
}

// A damaged file has the same cursor or is an error. It never has another cursor,
// and never panics.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	same := 0
	for i, text := range stored(t) {
		whole, err := parse(text)
		require.NoError(t, err)
		for seed := range uint64(10_000) {
			mutated := disktest.Mutate(rand.New(rand.NewPCG(seed, uint64(i))), text)
			c, err := parse(mutated)
			if err == nil {
				require.Equal(t, whole.Cursor, c.Cursor, "file %d, seed %d: %s", i, seed, mutated)
				same++
			}
		}
	}
	require.Less(t, same, 1_000)
	t.Logf("%d of 60,000 were not found, and have the same cursor", same)
}

// A file of a release before the checksum is read, and so is one edited by hand.
// The next Save adds the checksum.
func TestFileWithoutChecksum(t *testing.T) {
	t.Parallel()
	for _, writer := range []string{"ZT6JPPENTAMX", "rewind-VHJRRPY626T3", "anna", "anna, after the restore of a backup on Monday"} {
		path := filepath.Join(t.TempDir(), "c")
		text := fmt.Sprintf(`{"version":1,"cursor":"a","writer":%q,"time":"2026-11-26T00:50:17.812Z","seq":4,"history":[]}`, writer)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		f, err := Open(path, Options{})
		require.NoError(t, err)
		at, err := f.Load(t.Context())
		require.NoError(t, err)
		require.Equal(t, source.Cursor("a"), at)
		require.NoError(t, f.Save(t.Context(), "a", "b"))
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, durable.HasChecksum(after))
		c, err := parse(after)
		require.NoError(t, err)
		require.Equal(t, writer, c.History[0].Writer)

		// An edit under the checksum is refused, and one without it is taken.
		require.NoError(t, os.WriteFile(path, bytes.Replace(after, []byte(`"cursor": "b"`), []byte(`"cursor": "c"`), 1), 0o600))
		_, err = f.Load(t.Context())
		require.ErrorContains(t, err, "it does not match its checksum")
		require.NoError(t, os.WriteFile(path, []byte(`{"version":1,"cursor":"c","writer":"anna2"}`), 0o600))
		at, err = f.Load(t.Context())
		require.NoError(t, err)
		require.Equal(t, source.Cursor("c"), at)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"version":1,"cursor":"a","writer":"w","seq":-1}`:                                     `its "seq" is out of range`,
		`{"version":1,"cursor":"a","writer":"w","seq":9223372036854775807}`:                    `its "seq" is out of range`,
		`{"version":1,"cursor":"a","writer":"w","seq":1e400}`:                                  "cannot unmarshal",
		`{"version":1,"cursor":"a","writer":"w","history":[{"cursor":"\u0001","writer":"w"}]}`: "not printable",
	} {
		_, err := parse([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	require.NoError(t, checkpoint{}.next(durable.State{Cursor: "a", Writer: "ABCDEFGHIJKL", Seq: maxSeq}, 3).validate())

	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, nil, 0o600))
	require.NoError(t, os.Truncate(large, 1<<40))
	_, err := Open(large, Options{})
	require.ErrorContains(t, err, "it has 1099511627776 bytes, and no checkpoint has more than 33554432: name the file to keep the cursor in")
	_, err = Open(dir, Options{})
	require.ErrorContains(t, err, "it is not a regular file")
}

// The largest checkpoint that a handle writes can be read.
func TestLargestFile(t *testing.T) {
	t.Parallel()
	c := checkpoint{}
	cursor := source.Cursor(bytes.Repeat([]byte{'"'}, source.MaxCursor))
	for i := range 1001 {
		c = c.next(durable.State{Cursor: cursor, Writer: "ABCDEFGHIJKL", Seq: int64(i)}, 1000)
	}
	text, err := c.text()
	require.NoError(t, err)
	require.Less(t, len(text), maxFile)
	_, err = parse(text)
	require.NoError(t, err)
}

// The disk is full or fails at the start: an outage, not an end.
func TestOutageAtStart(t *testing.T) {
	t.Parallel()
	for _, outage := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE} {
		path, failures := filepath.Join(t.TempDir(), "sub", "c"), 5
		f := &File{path: path, history: 3, open: func(dir string, create bool) (directory, error) {
			if failures > 0 {
				failures--
				return nil, &fs.PathError{Op: "open", Path: dir, Err: outage}
			}
			return openDirectory(dir, create)
		}}
		require.True(t, durable.IsOutage(f.start()))
		for range 4 {
			_, err := f.Load(t.Context())
			require.ErrorIs(t, err, outage)
		}
		_, err := f.Load(t.Context())
		require.NoError(t, err)
		require.NoError(t, f.Save(t.Context(), "", "a"))
	}
}

// A mount point without its file system looks like a new start.
func TestMustExist(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	for _, path := range []string{filepath.Join(mount, "c"), filepath.Join(mount, "sub", "c")} {
		_, err := Open(path, Options{MustExist: true})
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "filecheckpoint: "+path+": the file does not exist: mount its file system, or put it back")
		entries, err := os.ReadDir(mount)
		require.NoError(t, err)
		require.Empty(t, entries, "nothing is created")
	}
	path := filepath.Join(mount, "c")
	f, err := Open(path, Options{})
	require.NoError(t, err)
	require.NoError(t, f.Rewind("a"))
	f, err = Open(path, Options{MustExist: true})
	require.NoError(t, err)
	at, err := f.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, source.Cursor("a"), at)
}
