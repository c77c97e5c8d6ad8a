package status_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// A pipeline and its page. A program would use NewServer with an address, such as
// 127.0.0.1:9464.
func Example() {
	var numbers sourcetest.Fake[int]
	numbers.Append(1, 2, 3)
	p := &poller.Poller[int]{
		Name: "numbers", Source: &numbers, Sink: &sinktest.Fake[int]{}, Checkpointer: &pollertest.Checkpointer{},
		Logger: slog.New(slog.DiscardHandler),
	}
	page := &status.Page{Version: "1.2.3"}
	page.Attach(&p.Hooks, p.Status) // before Run

	server := httptest.NewServer(page)
	defer server.Close()
	probe := func() {
		answer, err := http.Get(server.URL + "/livez")
		if err != nil {
			fmt.Println(err)
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		fmt.Printf("%d %s", answer.StatusCode, body)
	}
	p.Hooks = poller.JoinHooks(p.Hooks, poller.Hooks{Poll: func(poller.PollInfo) { probe() }})
	if err := p.Drain(context.Background()); err != nil {
		fmt.Println(err)
	}
	probe()
	// Output:
	// 200 numbers: live: copying
	// 200 numbers: live: done
}

// A server for the page and for the metrics of package expvar. It stops with ctx,
// as the pipelines do.
func ExampleNewServer() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var page status.Page // Attach the pipelines
	mux := http.NewServeMux()
	mux.Handle("/", &page)
	mux.Handle("/debug/vars", expvar.Handler())

	server := status.NewServer(mux)
	server.Addr = "127.0.0.1:9464"
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
	}
}
