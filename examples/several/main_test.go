package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func shop(t *testing.T, tables ...string) (path string) {
	path = filepath.Join(t.TempDir(), "shop.db")
	db, err := sqlx.Open("sqlite3", path)
	require.NoError(t, err)
	defer db.Close()
	for _, table := range tables {
		db.MustExec(`CREATE TABLE ` + table + ` (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)`)
		db.MustExec(`INSERT INTO ` + table + ` (name) VALUES ('first of ` + table + `')`)
	}
	return path
}

func TestEveryTableHasItsPipeline(t *testing.T) {
	database, dir := shop(t, tables...), t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, database, dir) }()
	for _, table := range tables {
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			got, err := os.ReadFile(filepath.Join(dir, table, table+"-0000000001.jsonl.open"))
			assert.NoError(c, err)
			assert.Equal(c, `{"id":1,"name":"first of `+table+`"}`+"\n", string(got))
		}, 30*time.Second, 20*time.Millisecond)
	}
	stop()
	require.NoError(t, <-ended)
}

func TestOneFailedPipelineStopsAll(t *testing.T) {
	err := run(t.Context(), shop(t, "customers", "orders"), t.TempDir())
	require.ErrorContains(t, err, "poller: payments: fetch: ")
	require.ErrorContains(t, err, "payments")
}
