package dsn

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Package sqlsource finds the path of the file in the connector, and refuses the cursor when the
// path leads to another file.
func TestSQLiteLinkReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, rows := range map[string]int{"one.db": 5, "two.db": 9} {
		db, err := sqlx.Open(dbtest.NCruces.SQLName(), "file:"+file(name))
		require.NoError(t, err)
		db.MustExec(`create table ords (id integer primary key autoincrement, v text default (hex(randomblob(8))))`)
		for range rows {
			db.MustExec(`insert into ords default values`)
		}
		require.NoError(t, db.Close())
	}
	require.NoError(t, os.Symlink(file("one.db"), file("live.db")))
	db, err := Open(always("sqlite:" + file("live.db")))
	require.NoError(t, err)
	defer db.Close()
	table := &sqlsource.Table{DB: db, Name: "ords", Key: []string{"id"}, Logger: slog.New(slog.DiscardHandler)}
	b, err := table.Fetch(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, b.Records, 5)

	require.NoError(t, os.Symlink(file("two.db"), file("new.db")))
	require.NoError(t, os.Rename(file("new.db"), file("live.db")))
	for b.More = true; err == nil && b.More; {
		b, err = table.Fetch(t.Context(), b.To, 10)
		require.Empty(t, b.Records)
	}
	require.ErrorIs(t, err, sqlsource.ErrHistory)
}
