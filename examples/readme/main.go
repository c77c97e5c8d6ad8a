package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	db := sqlx.MustOpen("pgx", os.Getenv("DSN"))
	files, err := filesink.Open("out", filesink.Options[row.Row]{Name: "orders"})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()

	p := &poller.Poller[row.Row]{
		Name:         "orders",
		Source:       &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}},
		Sink:         files,
		Checkpointer: files, // the same value: exactly once
	}
	if err := p.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
