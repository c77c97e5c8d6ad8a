package sdnotify_test

import (
	"context"
	"log"
	"os/signal"
	"syscall"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/sdnotify"
)

// A service for a unit of Type=notify. On a terminal the two lines do nothing.
func Example() {
	ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer restore()

	p := &poller.Poller[string]{Name: "orders" /* Source, Sink, Checkpointer */}

	stop, err := sdnotify.Start(ctx, p.Status)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	if err := p.Run(ctx); err != nil {
		log.Print(err)
	}
}
