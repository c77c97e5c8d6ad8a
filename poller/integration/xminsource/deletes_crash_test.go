package xminsource_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

// A delete that a crash of the server takes back is not delivered: the row would not come again.
func TestAsynchronousDelete(t *testing.T) {
	t.Parallel()
	server, db := private(t, dbtest.Args("-c", "wal_writer_delay=10s", "-c", "autovacuum=off", "-c", "checkpoint_timeout=1h"))
	db.MustExec(`INSERT INTO t VALUES (1, 0), (2, 0)`)
	dir := t.TempDir()
	s := withDeletes(t, db, dir, "t", "id")
	_, at := changesOf(t, s, "", 10)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	for _, statement := range []string{`SET synchronous_commit = off`, `DELETE FROM t WHERE id = 1`} {
		_, err := conn.ExecContext(context.Background(), statement)
		require.NoError(t, err)
	}
	var b source.Batch[row.Change]
	for range 2 { // the key pass, and the look at the missing key
		b, err = s.Fetch(t.Context(), at, 10)
		require.NoError(t, err)
		require.Empty(t, b.Records)
		at = b.To
	}
	require.True(t, lab.Unflushed(b.Held), "the delete is not on disk")
	conn.Close()
	require.NoError(t, server.Kill())
	require.NoError(t, server.Start())
	got, at := changesOf(t, s, at, 10)
	assert.Empty(t, got, "the crash has taken back the delete")
	db.MustExec(`DELETE FROM t WHERE id = 1`)
	got, _ = changesOf(t, s, at, 10)
	assert.Equal(t, []string{"delete 1"}, got)
}

// A key that is missing in the read of the keys is there again before it is looked up.
func insertedBeforeLookUp(t *testing.T, db *sqlx.DB) {
	db.MustExec(`INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)`)
	s := withDeletes(t, db, t.TempDir(), "t", "id")
	_, at := changesOf(t, s, "", 10)
	db.MustExec(`DELETE FROM t WHERE id < 3`)
	swept, err := s.Fetch(t.Context(), at, 10)
	require.NoError(t, err)
	require.Contains(t, swept.Position, "looking for deletes: 0 of 2 keys")
	db.MustExec(`INSERT INTO t VALUES (1, 1)`)
	got, at := changesOf(t, s, swept.To, 10)
	assert.Equal(t, []string{"delete 2", "upsert 1 1"}, got)
	db.MustExec(`DELETE FROM t WHERE id = 1`)
	got, _ = changesOf(t, s, at, 10)
	assert.Equal(t, []string{"delete 1"}, got, "the key is known after it was looked up")
}

// A process dies when the sink has stored a batch and its cursor is not saved. Then the row is deleted.
func storedWithoutCursor(t *testing.T, db *sqlx.DB) {
	dir := t.TempDir()
	s := withDeletes(t, db, dir, "t", "id")
	db.MustExec(`INSERT INTO t VALUES (1, 0)`)
	_, at := changesOf(t, s, "", 10)
	for range 2 {
		db.MustExec(`INSERT INTO t VALUES (2, 0), (3, 0)`)
		begun, err := lab.Fetch(t, s, at, 10)
		require.NoError(t, err)
		got, _ := changesOf(t, s, begun.To, 10)
		require.Equal(t, []string{"upsert 2 0", "upsert 3 0"}, got)
		db.MustExec(`DELETE FROM t WHERE id > 1`)
		require.NoError(t, s.Close())
		s = withDeletes(t, db, dir, "t", "id")
		at = begun.To
	}
	got, at := changesOf(t, s, at, 10)
	assert.Equal(t, []string{"delete 2", "delete 3"}, got)
	got, _ = changesOf(t, s, at, 10)
	assert.Empty(t, got)
}

func conformance(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE orders (id numeric PRIMARY KEY, note text); INSERT INTO orders SELECT n, 'note ' || n FROM generate_series(1, 12) AS n`)
	dir := t.TempDir()
	s := withDeletes(t, db, dir, "orders", "id")
	_, loaded := keysOf(t, s, "", row.Upsert)
	db.MustExec(`DELETE FROM orders WHERE id % 2 = 0; UPDATE orders SET id = 3.0 WHERE id = 3; INSERT INTO orders VALUES (20, '')`)
	_, foreign := keysOf(t, withDeletes(t, db, t.TempDir(), "orders", "note"), "", row.Upsert)
	require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Change]{
		Open: func(context.Context) (source.Source[row.Change], error) {
			if err := s.Close(); err != nil {
				return nil, err
			}
			s = withDeletes(t, db, dir, "orders", "id")
			return s, nil
		},
		Start: loaded, AtLeast: 7, Text: text, Foreign: []source.Cursor{foreign, "2;x;;i7;00000000"},
	}))
}

// A cursor whose list of keys is lost, older or damaged is refused, and says what to do.
func lostKeys(t *testing.T, db *sqlx.DB) {
	db.MustExec(`INSERT INTO t SELECT n, 0 FROM generate_series(1, 100) AS n`)
	dir := t.TempDir()
	s := withDeletes(t, db, dir, "t", "id")
	_, older := changesOf(t, s, "", 10)
	saved := readDir(t, dir)
	db.MustExec(`UPDATE t SET v = 1`)
	_, at := changesOf(t, s, older, 10)
	refused := func(at source.Cursor) {
		t.Helper()
		require.NoError(t, s.Close())
		s = withDeletes(t, db, dir, "t", "id")
		_, err := s.Fetch(t.Context(), at, 10)
		require.ErrorIs(t, err, xminsource.ErrKeys)
		lab.RequirePermanent(t, err, "put its files back", "empty checkpoint")
	}
	now := readDir(t, dir)
	write := func(files map[string]string) {
		for name := range readDir(t, dir) {
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
		}
		for name, text := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
		}
	}
	write(nil)
	refused(at)
	write(saved) // a backup from before
	refused(at)
	got, _ := changesOf(t, s, older, 1000)
	assert.Len(t, got, 100, "the backup is of this cursor")
	for name, text := range now {
		now[name] = strings.Replace(text, "i50;", "i51;", 1)
	}
	write(now)
	require.NoError(t, s.Close())
	s = withDeletes(t, db, dir, "t", "id")
	_, err := s.Fetch(t.Context(), at, 10)
	lab.RequirePermanent(t, err, "it is damaged")
	without := sourceOf(db, "t", "id")
	_, plain, _ := poll(t, without, "")
	refused(plain)
}

// readDir returns the files of a directory, without the lock.
func readDir(t *testing.T, dir string) map[string]string {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	files := map[string]string{}
	for _, e := range entries {
		if e.Name() != "lock" {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
			files[e.Name()] = string(text)
		}
	}
	return files
}
