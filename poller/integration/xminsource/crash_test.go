package xminsource_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// A version that was overwritten by an asynchronous commit comes back if a crash takes that commit back. The cursor
// must not have passed it, nor the ids of transactions that the crash has taken back, which are given out again.
func TestAsynchronousCommit(t *testing.T) {
	t.Parallel()
	server, db := private(t, dbtest.Args("-c", "wal_writer_delay=10s", "-c", "autovacuum=off", "-c", "checkpoint_timeout=1h"))
	db.MustExec(`INSERT INTO t VALUES (1, 0), (2, 0)`)
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	db.MustExec(`UPDATE t SET v = 1 WHERE id = 1`)
	begun, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	require.True(t, begun.More)

	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	for _, statement := range []string{`SET synchronous_commit = off`, `UPDATE t SET v = 2 WHERE id = 1`} {
		_, err := conn.ExecContext(context.Background(), statement)
		require.NoError(t, err)
	}
	b, err := s.Fetch(t.Context(), begun.To, 10)
	require.NoError(t, err)
	require.NotNil(t, b.Held, "the version 1 is overwritten, but not for certain")
	assert.True(t, lab.Unflushed(b.Held))
	assert.Equal(t, begun.To, b.To)
	_, err = conn.ExecContext(context.Background(), `UPDATE t SET v = 3 WHERE id = 2`)
	require.NoError(t, err)
	idle, err := sourceOf(db, "t", "id").Fetch(t.Context(), at, 10)
	require.NoError(t, err)
	assert.True(t, lab.Unflushed(idle.Held), "the id of the update may be given out again")
	conn.Close()

	require.NoError(t, server.Kill())
	require.NoError(t, server.Start())
	rows, at, _ := poll(t, s, begun.To)
	assert.Equal(t, []string{`{"id":1,"v":1}`}, rows, "the crash has taken back the second update")
	db.MustExec(`UPDATE t SET v = 4 WHERE id = 2`)
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, []string{`{"id":2,"v":4}`}, rows)
}
