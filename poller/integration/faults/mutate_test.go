//go:build linux

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
)

// mutate changes text in one to three places.
func mutate(random *rand.Rand, text []byte) []byte {
	text = slices.Clone(text)
	for range 1 + random.IntN(3) {
		if len(text) == 0 {
			return text
		}
		i := random.IntN(len(text))
		switch random.IntN(7) {
		case 0:
			text[i] ^= 1 << random.IntN(8)
		case 1:
			text[i] = byte(random.IntN(256))
		case 2:
			text = slices.Delete(text, i, i+1)
		case 3:
			text = slices.Insert(text, i, text[i])
		case 4:
			text = slices.Insert(text, i, byte(' '+random.IntN(95)))
		case 5:
			text = text[:i] // torn
		case 6: // another number
			text[i] = byte('0' + random.IntN(10))
		}
	}
	return text
}

// mutations says how many of them were refused, led to the value that was stored, or to another.
type mutations struct{ refused, harmless, mistaken int }

// mutateAll lets read see mutations of text, 10,000 in the whole form. Read returns an error
// or the value that was stored: it never takes a mutation for another value.
func mutateAll(t *testing.T, what string, text []byte, stored source.Cursor, read func(mutation []byte) (source.Cursor, error)) {
	t.Helper()
	r := results.row(t, fault{part: "input", name: "mutations of " + what, how: "bits, bytes, digits and ends of it are changed"}, "library")
	random := rand.New(rand.NewPCG(1, 2))
	var m mutations
	for range inTurn(10_000, 500) {
		r.times++
		mutation := mutate(random, text)
		got, err := read(mutation)
		switch {
		case err != nil:
			m.refused++
		case got == stored:
			m.harmless++
		default:
			m.mistaken++
			assert.Equal(t, stored, got, "a mutation was taken for another cursor: %q", mutation)
		}
	}
	assert.NotZero(t, m.refused)
	r.note = fmt.Sprintf("%d refused, %d without effect, %d taken for another cursor", m.refused, m.harmless, m.mistaken)
}

func TestMutatedFileCheckpoint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cursor")
	stored := storedInFile(t, path)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	mutateAll(t, "filecheckpoint's file", text, stored, func(mutation []byte) (source.Cursor, error) {
		require.NoError(t, os.WriteFile(path, mutation, 0o600))
		f, err := filecheckpoint.Open(path, filecheckpoint.Options{})
		if err != nil {
			return "", err
		}
		defer f.Close()
		return f.Load(t.Context())
	})
}

// storedInFile stores three cursors and returns the last.
func storedInFile(t *testing.T, path string) source.Cursor {
	f, err := filecheckpoint.Open(path, filecheckpoint.Options{})
	require.NoError(t, err)
	defer f.Close()
	at, err := f.Load(t.Context())
	require.NoError(t, err)
	for _, to := range []source.Cursor{"2;5a0d0437;;i1000;f1905e52", "2;5a0d0437;;i2000;f1905e53", "2;5a0d0437;;i3000;f1905e54"} {
		require.NoError(t, f.Save(t.Context(), at, to))
		at = to
	}
	return at
}

func TestMutatedFileSink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := filesink.Open(dir, filesink.Options[line]{SegmentRows: 20, Name: "items"})
	require.NoError(t, err)
	at, err := f.Load(t.Context())
	require.NoError(t, err)
	for i := range int64(5) {
		to := source.Cursor(fmt.Sprintf("2;5a0d0437;;i%d;f1905e52", i))
		require.NoError(t, f.Write(t.Context(), source.Batch[line]{From: at, To: to, Records: []line{{i, "one"}, {i, "two"}, {i, "three"}}}))
		at = to
	}
	require.NoError(t, f.Close())
	path := filepath.Join(dir, "checkpoint")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before := contents(t, dir)
	mutateAll(t, "filesink's checkpoint", text, at, func(mutation []byte) (source.Cursor, error) {
		require.NoError(t, os.WriteFile(path, mutation, 0o600))
		c, err := openAndLoad(t.Context(), dir)
		assert.Equal(t, before, contents(t, dir), "the files changed")
		return c, err
	})
}

func openAndLoad(ctx context.Context, dir string) (source.Cursor, error) {
	f, err := filesink.Open(dir, filesink.Options[line]{SegmentRows: 20, Name: "items"})
	if err != nil {
		return "", err
	}
	defer f.Close()
	return f.Load(ctx)
}

// contents returns the segments in a directory.
func contents(t *testing.T, dir string) map[string]string {
	paths, err := filepath.Glob(filepath.Join(dir, "items-*"))
	require.NoError(t, err)
	found := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		found[filepath.Base(path)] = string(text)
	}
	return found
}

// A cursor that was changed, in a table of checkpoints or elsewhere, is refused by the source.
func TestMutatedCursor(t *testing.T) {
	t.Parallel()
	for _, e := range databases {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			db := lab.DatabaseFor(t, e.driver).Open(t, e.driver)
			db.MustExec(e.create)
			db.MustExec(`INSERT INTO items (note) VALUES ('one'), ('two'), ('three'), ('four')`)
			table := lab.Silent(db, "items", "id")
			b, err := lab.Fetch(t, table, "", 2)
			require.NoError(t, err)
			mutateAll(t, "a cursor of "+e.name, []byte(b.To), b.To, func(mutation []byte) (source.Cursor, error) {
				if string(mutation) == string(b.To) || len(mutation) == 0 { // empty is the start, as everywhere
					return b.To, nil
				}
				_, err := table.Fetch(t.Context(), source.Cursor(mutation), 1)
				return source.Cursor(mutation), err
			})
		})
	}
}

// A cursor that was changed in the table of checkpoints is refused, by the store or by the
// source.
func TestMutatedSQLCheckpoint(t *testing.T) {
	t.Parallel()
	for _, e := range databases {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			db := lab.DatabaseFor(t, e.driver).Open(t, e.driver)
			db.MustExec(e.create)
			db.MustExec(`INSERT INTO items (note) VALUES ('one'), ('two'), ('three'), ('four')`)
			table := lab.Silent(db, "items", "id")
			b, err := lab.Fetch(t, table, "", 2)
			require.NoError(t, err)
			store, err := sqlcheckpoint.New(db, "items", sqlcheckpoint.Options{})
			require.NoError(t, err)
			require.NoError(t, store.Rewind(t.Context(), b.To))
			mutateAll(t, "sqlcheckpoint's row in "+e.name, []byte(b.To), b.To, func(mutation []byte) (source.Cursor, error) {
				if len(mutation) == 0 { // the start, as everywhere
					return b.To, nil
				}
				_, err := db.Exec(db.Rebind(`UPDATE devotion_checkpoint SET cur = ?`), string(mutation))
				if err != nil {
					return "", err
				}
				changed, err := sqlcheckpoint.New(db, "items", sqlcheckpoint.Options{})
				require.NoError(t, err)
				got, err := changed.Load(t.Context())
				if err == nil && got != b.To {
					_, err = table.Fetch(t.Context(), got, 1)
				}
				return got, err
			})
		})
	}
}
