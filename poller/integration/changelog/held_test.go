package changelog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A load goes on after a batch that is held back, because commits are not on the server's disk yet.
func TestHeldLoad(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "fsync=off", "-c", "wal_writer_delay=10s"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	table := orders(t, dbtest.PGX, db)
	table.Load = true
	db.MustExec(`create table other (id int)`)
	var b source.Batch[row.Change]
	for i := 0; b.Held == nil; i++ { // the log is written in between now and then
		require.Less(t, i, 10)
		db.MustExec(`begin; set local synchronous_commit = off; insert into other values (1); commit`)
		var err error
		b, err = table.Fetch(t.Context(), "", 10)
		require.NoError(t, err)
	}
	require.Empty(t, b.Records)
	db.MustExec(`insert into other values (2)`)
	copied := replica{}
	copied.follow(t, table, b.To)
	require.Len(t, copied, 3)
}
