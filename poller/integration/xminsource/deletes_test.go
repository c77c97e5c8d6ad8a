package xminsource_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

// withDeletes returns a source that looks for deletes at each poll.
func withDeletes(t *testing.T, db *sqlx.DB, dir, name string, key ...string) *xminsource.Source {
	s := sourceOf(db, name, key...)
	s.Deletes = &xminsource.Deletes{Dir: dir}
	t.Cleanup(func() { s.Close() })
	return s
}

// brief writes a change as an operation, its key and its last column.
func brief(c row.Change) string {
	words := []string{c.Op.String()}
	for i := range c.Key.Len() {
		words = append(words, c.Key.Text(i))
	}
	if n := c.Row.Len(); n > c.Key.Len() {
		words = append(words, c.Row.Text(n-1))
	}
	return strings.Join(words, " ")
}

// changesOf polls until nothing more is available.
func changesOf(t *testing.T, s *xminsource.Source, after source.Cursor, limit int) (all []string, to source.Cursor) {
	t.Helper()
	lab.WaitFor(t, func() bool {
		b, err := s.Fetch(t.Context(), after, limit)
		require.NoError(t, err)
		for _, c := range b.Records {
			all = append(all, brief(c))
		}
		to, after = b.To, b.To
		return !b.More && b.Held == nil
	})
	return all, to
}

func TestDeletes(t *testing.T) {
	t.Parallel()
	_, db := private(t)
	for name, test := range map[string]func(*testing.T, *sqlx.DB){
		"between two key passes": deletedBetween, "again": deletedAgain, "key": changedKey, "truncate": truncated, "partition": detached, "equal": equalKeys, "restart": deletedAtRestart, "slow key pass": slowKeyPass, "another type": anotherType, "another history": anotherHistory, "another type meanwhile": anotherTypeMeanwhile,
		"inserted before the look": insertedBeforeLookUp, "conformance": conformance, "lost keys": lostKeys, "stored without its cursor": storedWithoutCursor,
	} {
		t.Run(name, func(t *testing.T) {
			db.MustExec(`TRUNCATE t`)
			test(t, db)
		})
	}
}

// A row that is inserted, delivered and deleted between two key passes was never seen by one.
func deletedBetween(t *testing.T, db *sqlx.DB) {
	s := withDeletes(t, db, t.TempDir(), "t", "id")
	db.MustExec(`INSERT INTO t VALUES (1, 0)`)
	got, at := changesOf(t, s, "", 10)
	assert.Equal(t, []string{"upsert 1 0"}, got)
	db.MustExec(`INSERT INTO t VALUES (2, 0), (3, 0)`)
	got, at = changesOf(t, s, at, 10)
	assert.Equal(t, []string{"upsert 2 0", "upsert 3 0"}, got)
	db.MustExec(`DELETE FROM t WHERE id = 2`)
	got, at = changesOf(t, s, at, 10)
	assert.Equal(t, []string{"delete 2"}, got)
	got, again := changesOf(t, s, at, 10)
	assert.Empty(t, got)
	assert.Equal(t, at, again, "a key pass that finds nothing writes no checkpoint")
}

func deletedAgain(t *testing.T, db *sqlx.DB) {
	s := withDeletes(t, db, t.TempDir(), "t", "id")
	db.MustExec(`INSERT INTO t SELECT n, 0 FROM generate_series(1, 9) AS n`)
	_, at := changesOf(t, s, "", 4)
	db.MustExec(`DELETE FROM t WHERE id % 2 = 0; INSERT INTO t VALUES (4, 1)`)
	got, at := changesOf(t, s, at, 2)
	assert.Equal(t, []string{"delete 2", "delete 6", "delete 8", "upsert 4 1"}, got)
	db.MustExec(`INSERT INTO t VALUES (2, 2); DELETE FROM t WHERE id = 4`)
	got, at = changesOf(t, s, at, 1)
	assert.Equal(t, []string{"delete 4", "upsert 2 2"}, got)
	db.MustExec(`DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 3)`)
	got, _ = changesOf(t, s, at, 1)
	assert.Equal(t, []string{"upsert 2 3"}, got)
}

func changedKey(t *testing.T, db *sqlx.DB) {
	s := withDeletes(t, db, t.TempDir(), "t", "id")
	db.MustExec(`INSERT INTO t VALUES (1, 0), (2, 0)`)
	_, at := changesOf(t, s, "", 10)
	db.MustExec(`UPDATE t SET id = 3 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2`)
	got, at := changesOf(t, s, at, 10)
	assert.Equal(t, []string{"delete 2", "upsert 1 0", "upsert 3 0"}, got)
	got, _ = changesOf(t, s, at, 10)
	assert.Empty(t, got)
}

func truncated(t *testing.T, db *sqlx.DB) {
	s := withDeletes(t, db, t.TempDir(), "t", "id")
	db.MustExec(`INSERT INTO t SELECT n, 0 FROM generate_series(1, 2500) AS n`)
	_, at := changesOf(t, s, "", 1000)
	db.MustExec(`TRUNCATE t`)
	got, at := changesOf(t, s, at, 700)
	require.Len(t, got, 2500)
	for i, c := range got {
		require.Equal(t, fmt.Sprint("delete ", i+1), c)
	}
	got, at = changesOf(t, s, at, 700)
	assert.Empty(t, got)
	db.MustExec(`INSERT INTO t VALUES (5, 5)`)
	got, at = changesOf(t, s, at, 700)
	assert.Equal(t, []string{"upsert 5 5"}, got)
	db.MustExec(`ALTER TABLE t ALTER v TYPE bigint`)
	got, _ = changesOf(t, s, at, 700)
	assert.Equal(t, []string{"upsert 5 5"}, got)
	db.MustExec(`ALTER TABLE t ALTER v TYPE int`)
}

func detached(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)`)
	db.MustExec(`INSERT INTO p VALUES (1, 0), (11, 0), (12, 0)`)
	s := withDeletes(t, db, t.TempDir(), "p", "id")
	_, at := changesOf(t, s, "", 10)
	db.MustExec(`ALTER TABLE p DETACH PARTITION p2`)
	got, at := changesOf(t, s, at, 10)
	assert.Equal(t, []string{"delete 11", "delete 12"}, got)
	db.MustExec(`DELETE FROM p2 WHERE id = 11; ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)`)
	got, _ = changesOf(t, s, at, 10)
	assert.Equal(t, []string{"upsert 12 0"}, got)
}

// A key that the database takes for equal replaces another one.
func equalKeys(t *testing.T, db *sqlx.DB) {
	db.MustExec(`DROP TABLE IF EXISTS n; CREATE TABLE n (id numeric PRIMARY KEY, v int); INSERT INTO n VALUES (1.0, 0), (2.0, 0), (3, 0)`)
	s := withDeletes(t, db, t.TempDir(), "n", "id")
	_, at := changesOf(t, s, "", 10)
	db.MustExec(`UPDATE n SET id = 2.00, v = 1 WHERE id = 2; DELETE FROM n WHERE id IN (1, 3); INSERT INTO n VALUES (1.00, 1)`)
	got, at := changesOf(t, s, at, 10)
	assert.Equal(t, []string{"delete 1.0", "upsert 1.00 1", "delete 2.0", "upsert 2.00 1", "delete 3", "upsert 1.00 1", "upsert 2.00 1"}, got)
	got, at = changesOf(t, s, at, 10)
	assert.Empty(t, got)
	db.MustExec(`DELETE FROM n`)
	got, _ = changesOf(t, s, at, 10)
	assert.Equal(t, []string{"delete 1.00", "delete 2.00"}, got)
}

func deletedAtRestart(t *testing.T, db *sqlx.DB) {
	dir := t.TempDir()
	db.MustExec(`INSERT INTO t SELECT n, 0 FROM generate_series(1, 20) AS n`)
	var at source.Cursor
	var got []string
	once := func() (more bool) {
		s := withDeletes(t, db, dir, "t", "id")
		b, err := s.Fetch(t.Context(), at, 3)
		require.NoError(t, err)
		for _, c := range b.Records {
			got = append(got, brief(c))
		}
		at = b.To
		require.NoError(t, s.Close())
		return b.More || b.Held != nil
	}
	for once() {
	}
	require.Len(t, got, 20)
	db.MustExec(`DELETE FROM t WHERE id BETWEEN 5 AND 11; UPDATE t SET v = 1 WHERE id = 1`)
	got = nil
	for once() {
	}
	assert.Equal(t, []string{"delete 5", "delete 6", "delete 7", "delete 8", "delete 9", "delete 10", "delete 11", "upsert 1 1"}, got)
}
