// Command several runs several pipelines in one process. It copies each table of a
// shop to a separate directory, until it is stopped.
//
//	go run ./examples/several shop.db /var/spool/shop
//
// The pipelines share only the connection pool. Each has its own cursor, so a slow
// or failing pipeline does not delay the others. A pipeline that ends with an
// error needs a human. The group then stops the other pipelines, and the process
// ends with that error. A supervisor notices and restarts a process that has
// ended; it would not notice one missing pipeline.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/jmoiron/sqlx"
	_ "github.com/ncruces/go-sqlite3/driver"
	"golang.org/x/sync/errgroup"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

var tables = []string{"customers", "orders", "payments"}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: several DATABASE DIRECTORY")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, database, dir string) error {
	db, err := sqlx.Open("sqlite3", database)
	if err != nil {
		return err
	}
	defer db.Close()

	group, ctx := errgroup.WithContext(ctx)
	for _, table := range tables {
		group.Go(func() error { return follow(ctx, db, table, filepath.Join(dir, table)) })
	}
	return group.Wait()
}

// follow runs one pipeline, from a table to a directory.
func follow(ctx context.Context, db *sqlx.DB, table, dir string) (err error) {
	files, err := filesink.Open(dir, filesink.Options[row.Row]{Name: table})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	p := &poller.Poller[row.Row]{
		Name:         table,
		Source:       &sqlsource.Table{DB: db, Name: table, Key: []string{"id"}},
		Sink:         files,
		Checkpointer: files,
	}
	return p.Run(ctx)
}
