package xminsource_test

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// replayed waits until the standby has replayed the primary's log.
func replayed(t *testing.T, primary, standby *sqlx.DB) {
	var lsn string
	require.NoError(t, primary.Get(&lsn, `SELECT pg_current_wal_flush_lsn()`))
	lab.WaitFor(t, func() bool {
		var done bool
		return standby.Get(&done, `SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn`, lsn) == nil && done
	})
}

func TestStandby(t *testing.T) {
	t.Parallel()
	server, db := private(t)
	server2 := dbtest.StartStandby(t, server)
	var name string
	require.NoError(t, db.Get(&name, `SELECT current_database()`))
	standby := server2.Database(name).Open(t, dbtest.PGX)
	primarys, standbys := sourceOf(db, "t", "id"), sourceOf(standby, "t", "id")
	replayed(t, db, standby)
	rows, at, _ := poll(t, standbys, "")
	assert.Empty(t, rows)

	open := lab.Begin(t, db, `INSERT INTO t VALUES (1, 0)`)
	for n := range 100 { // more subtransactions than a standby keeps
		_, err := open.Exec(fmt.Sprintf(`SAVEPOINT s%d; INSERT INTO t VALUES (%d, 0); RELEASE s%[1]d`, n, 100+n))
		require.NoError(t, err)
	}
	db.MustExec(`INSERT INTO t VALUES (2, 0)`)
	db.MustExec(`CHECKPOINT`) // it writes the running transactions into the log
	replayed(t, db, standby)
	rows, at, held := poll(t, standbys, at)
	assert.Empty(t, rows)
	require.NotNil(t, held)
	assert.Contains(t, held.By[0], "one of the primary, if this is a standby")
	require.NoError(t, open.Commit())
	replayed(t, db, standby)
	rows, at, held = poll(t, standbys, at)
	assert.Equal(t, pairs(append([]int{1, 2}, span(100, 199)...)...), rows)
	assert.Nil(t, held)

	db.MustExec(`BEGIN; INSERT INTO t VALUES (3, 0); PREPARE TRANSACTION 'p'`)
	db.MustExec(`INSERT INTO t VALUES (4, 0)`)
	replayed(t, db, standby)
	rows, at, _ = poll(t, standbys, at)
	assert.Empty(t, rows)

	// A cursor of the primary waits on a standby until it has replayed as much.
	lab.PauseReplay(t, standby)
	db.MustExec(`COMMIT PREPARED 'p'`)
	db.MustExec(`INSERT INTO t VALUES (5, 0)`)
	rows, ahead, _ := poll(t, primarys, at)
	assert.Equal(t, pairs(3, 4, 5), rows)
	db.MustExec(`UPDATE t SET v = 0 WHERE id < 6`)
	begun, err := lab.Fetch(t, primarys, ahead, 1)
	require.NoError(t, err)
	for _, c := range []source.Cursor{ahead, begun.To} {
		_, err = standbys.Fetch(t.Context(), c, 10)
		require.ErrorContains(t, err, "not yet replayed")
		assert.NotEqual(t, retry.Fatal, retry.Classify(err), "it passes")
	}
	standby.MustExec(`SELECT pg_wal_replay_resume()`)
	replayed(t, db, standby)
	rows, at, _ = poll(t, standbys, begun.To)
	assert.Equal(t, pairs(1, 2, 3, 4, 5), rows)
	deletesOnStandby(t, db, standby)
	promotion(t, db, standby, at, ahead)
}

// A standby shows deletes. One that lags does not show rows that the primary has delivered, and deletes none of them.
func deletesOnStandby(t *testing.T, db, standby *sqlx.DB) {
	s := withDeletes(t, standby, t.TempDir(), "t", "id")
	_, at := changesOf(t, s, "", 1000)
	db.MustExec(`DELETE FROM t WHERE id = 100`)
	replayed(t, db, standby)
	got, _ := changesOf(t, s, at, 1000)
	assert.Equal(t, []string{"delete 100"}, got)

	dir := t.TempDir()
	primary := withDeletes(t, db, dir, "t", "id")
	_, at = changesOf(t, primary, "", 1000)
	lab.PauseReplay(t, standby)
	db.MustExec(`INSERT INTO t VALUES (200, 0); DELETE FROM t WHERE id = 101`)
	got, at = changesOf(t, primary, at, 1000)
	assert.ElementsMatch(t, []string{"upsert 200 0", "delete 101"}, got)
	require.NoError(t, primary.Close())
	s = withDeletes(t, standby, dir, "t", "id")
	_, err := s.Fetch(t.Context(), at, 1000)
	require.ErrorContains(t, err, "not yet replayed")
	standby.MustExec(`SELECT pg_wal_replay_resume()`)
	replayed(t, db, standby)
	got, at = changesOf(t, s, at, 1000)
	assert.Empty(t, got)
	db.MustExec(`DELETE FROM t WHERE id = 200`)
	replayed(t, db, standby)
	got, at = changesOf(t, s, at, 1000)
	assert.Equal(t, []string{"delete 200"}, got)
	require.NoError(t, s.Close())

	// A key that a key pass on the primary has missed is not looked up on a standby that still has the row.
	primary = withDeletes(t, db, dir, "t", "id")
	lab.PauseReplay(t, standby)
	db.MustExec(`DELETE FROM t WHERE id = 102`)
	b, err := primary.Fetch(t.Context(), at, 1000)
	require.NoError(t, err)
	require.Equal(t, "looking for deletes: 0 of 1 keys", b.Position)
	require.NoError(t, primary.Close())
	s = withDeletes(t, standby, dir, "t", "id")
	_, err = s.Fetch(t.Context(), b.To, 1000)
	require.ErrorContains(t, err, "not yet replayed")
	standby.MustExec(`SELECT pg_wal_replay_resume()`)
	replayed(t, db, standby)
	got, _ = changesOf(t, s, b.To, 1000)
	assert.Equal(t, []string{"delete 102"}, got)
}

// The standby is promoted. It continues its own cursor, because it has those rows. A primary's cursor is refused.
func promotion(t *testing.T, db, standby *sqlx.DB, at, ofPrimary source.Cursor) {
	db.MustExec(`INSERT INTO t VALUES (6, 0)`)
	_, ofPrimary, _ = poll(t, sourceOf(db, "t", "id"), ofPrimary)
	replayed(t, db, standby)
	standby.MustExec(`SELECT pg_promote()`)
	standby.MustExec(`INSERT INTO t VALUES (7, 0)`)
	rows, at, _ := poll(t, sourceOf(standby, "t", "id"), at)
	assert.Equal(t, pairs(6, 7), rows)
	s := sourceOf(standby, "t", "id")
	err := lab.Refused(t, s, ofPrimary)
	require.ErrorIs(t, err, sqlsource.ErrHistory)
	lab.RequirePermanent(t, err, "timeline 1, this is the timeline 2", "Adopt")
	adopted, err := s.Adopt(ofPrimary)
	require.NoError(t, err)
	rows, _, _ = poll(t, s, adopted)
	assert.Equal(t, pairs(7), rows)
	standby.MustExec(`INSERT INTO t VALUES (8, 0)`)
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, pairs(8), rows)
}

// A table that was dropped and created again is another one.
func TestAnotherTable(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ)
	db.MustExec(`CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)`)
	_, at := await(t, sourceOf(db, "t", "id"), "", 1)
	db.MustExec(`CREATE TABLE older (LIKE t INCLUDING ALL); DROP TABLE t; ALTER TABLE older RENAME TO t`)
	lab.RequirePermanent(t, lab.Refused(t, sourceOf(db, "t", "id"), at), "dropped and recreated, or another table took its name")
}

func span(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}
