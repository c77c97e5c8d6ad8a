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
	create(t, path, tables...)
	return path
}

func create(t *testing.T, path string, tables ...string) {
	db, err := sqlx.Open("sqlite3", path)
	require.NoError(t, err)
	defer db.Close()
	for _, table := range tables {
		db.MustExec(`CREATE TABLE ` + table + ` (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)`)
		db.MustExec(`INSERT INTO ` + table + ` (name) VALUES ('first of ` + table + `')`)
	}
}

// copied waits until the first row of a table is in its directory.
func copied(t *testing.T, dir, table string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got, err := os.ReadFile(filepath.Join(dir, table, table+"-0000000001.jsonl.open"))
		assert.NoError(c, err)
		assert.Equal(c, `{"id":1,"name":"first of `+table+`"}`+"\n", string(got))
	}, 5*time.Minute, 20*time.Millisecond)
}

func start(t *testing.T, database, dir string) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, database, dir) }()
	return func() error { cancel(); return <-ended }
}

func TestEveryTableHasItsPipeline(t *testing.T) {
	database, dir := shop(t, tables...), t.TempDir()
	stop := start(t, database, dir)
	for _, table := range tables {
		copied(t, dir, table)
	}
	require.NoError(t, stop())
}

// The pipeline of a missing table fails. The others go on, and it goes on too once
// the table is there.
func TestOneFailedPipelineIsRestarted(t *testing.T) {
	database, dir := shop(t, "customers", "orders"), t.TempDir()
	stop := start(t, database, dir)
	copied(t, dir, "customers")
	copied(t, dir, "orders")
	create(t, database, "payments")
	copied(t, dir, "payments")
	require.NoError(t, stop())
}
