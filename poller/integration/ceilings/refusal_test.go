package ceilings

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// A refusal is said once in a line, although the cursor contains it, and no line contains a whole
// cursor.
func TestARefusalIsSaidOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, rows := range map[string]int{"one": 50, "two": 60} {
		db := sqlx.MustOpen(dbtest.Modernc.SQLName(), file(name))
		db.MustExec(`create table ords (id integer primary key autoincrement, v text default (hex(randomblob(8))), w text default (hex(randomblob(8))))`)
		for range rows {
			db.MustExec(`insert into ords default values`)
		}
		require.NoError(t, db.Close())
	}
	var lines bytes.Buffer
	log := slog.New(slog.NewTextHandler(&lines, nil))
	var saved pollertest.Checkpointer
	drain := func() error {
		db := sqlx.MustOpen(dbtest.Modernc.SQLName(), file("one"))
		defer db.Close()
		table := &sqlsource.Table{DB: db, Name: "ords", Key: []string{"id"}, Logger: log}
		p := &poller.Poller[row.Row]{Name: "ords", Source: table, Sink: new(sinktest.Fake[row.Row]), Checkpointer: &saved, Logger: log}
		return p.Drain(t.Context())
	}
	require.NoError(t, drain())
	require.NoError(t, os.Rename(file("two"), file("one")))
	for range 2 {
		err := drain()
		require.ErrorIs(t, err, sqlsource.ErrHistory)
		require.Equal(t, 1, strings.Count(err.Error(), sqlsource.ErrHistory.Error()), err.Error())
		require.Equal(t, 1, strings.Count(err.Error(), "rewind to where"), err.Error())
		require.Contains(t, err.Error(), ";i50;", "the key is seen")
	}
	whole, err := saved.Load(t.Context())
	require.NoError(t, err)
	require.Greater(t, len(whole), 200)
	for line := range strings.Lines(lines.String()) {
		require.NotContains(t, line, string(whole))
		require.NotContains(t, line, "AAAA", "anchors are of no use to people")
		require.LessOrEqual(t, strings.Count(line, sqlsource.ErrHistory.Error()), 1, line)
	}
	require.Contains(t, lines.String(), "stopped")
}
