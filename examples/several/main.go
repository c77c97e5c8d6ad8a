// Command several runs several pipelines in one process. It copies each table of a
// shop to a separate directory, until it is stopped.
//
//	go run ./examples/several shop.db /var/spool/shop
//
// The pipelines share only the connection pool. Each has its own cursor, so a slow
// or failing pipeline does not delay the others. A pipeline that ends with an error
// needs a person, for example because its table is missing. The group starts it
// again after a wait, and the others go on during that time.
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

func run(ctx context.Context, database, dir string) (err error) {
	db, err := sqlx.Open("sqlite3", database)
	if err != nil {
		return err
	}
	defer db.Close()

	var group poller.Group
	for _, table := range tables {
		files, failed := filesink.Open(filepath.Join(dir, table), filesink.Options[row.Row]{Name: table})
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, files.Close()) }()
		group.Pipelines = append(group.Pipelines, &poller.Poller[row.Row]{
			Name:         table,
			Source:       &sqlsource.Table{DB: db, Name: table, Key: []string{"id"}},
			Sink:         files,
			Checkpointer: files,
		})
	}
	return group.Run(ctx)
}
