package sdnotify_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/sdnotify"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// A service for a unit of Type=notify. On a terminal Start and stop do nothing.
func Example() {
	ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer restore()

	var orders sourcetest.Fake[string] // such as a sqlsource.Query
	orders.Append("a pot of ink", "a lamp", "three pears")
	orders.End() // with a source that has no end Run goes on until a signal
	p := &poller.Poller[string]{
		Name:         "orders",
		Source:       &orders,
		Sink:         &sinktest.Fake[string]{},
		Checkpointer: &pollertest.Checkpointer{},
		Logger:       slog.New(slog.DiscardHandler),
	}

	stop, err := sdnotify.Start(ctx, p.Status)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	if err := p.Run(ctx); err != nil {
		log.Print(err)
	}
	fmt.Println(p.Status().Records, "rows")
	// Output: 3 rows
}
