package prometheus_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

func Example() {
	var orders sourcetest.Fake[string] // such as a sqlsource.Query
	orders.Append("a pot of ink", "a lamp", "three pears")
	p := &poller.Poller[string]{
		Name:         "orders",
		Source:       &orders,
		Sink:         &sinktest.Fake[string]{},
		Checkpointer: &pollertest.Checkpointer{},
		Logger:       slog.New(slog.DiscardHandler),
	}

	metrics := prometheus.New()
	metrics.Version = "1.2.3"
	metrics.Attach(&p.Hooks, p.Status)
	registry := prom.NewRegistry()
	registry.MustRegister(metrics)
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()

	if err := p.Drain(context.Background()); err != nil {
		log.Fatal(err)
	}
	response, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	scraped, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Join(regexp.MustCompile(`(?m)^devotion_(rows|polls).*`).FindAllString(string(scraped), -1), "\n"))
	// Output:
	// devotion_polls_total{outcome="empty",pipeline="orders"} 0
	// devotion_polls_total{outcome="error",pipeline="orders"} 0
	// devotion_polls_total{outcome="held",pipeline="orders"} 0
	// devotion_polls_total{outcome="rows",pipeline="orders"} 1
	// devotion_rows_dead_lettered_total{pipeline="orders"} 0
	// devotion_rows_read_total{pipeline="orders"} 3
	// devotion_rows_written_total{pipeline="orders"} 3
}

// The lag of OnSeal, which uploads the segments of a filesink.
func Example_uploads() {
	dir, err := os.MkdirTemp("", "orders")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	files, err := filesink.Open(dir, filesink.Options[string]{
		OnSeal: func(context.Context, filesink.Segment) error { return nil }, // uploads it
	})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	p := &poller.Poller[string]{Name: "orders", Source: &sourcetest.Fake[string]{}, Sink: files, Checkpointer: files, Uploads: files.Pending}

	metrics := prometheus.New()
	metrics.Attach(&p.Hooks, p.Status)
	registry := prom.NewRegistry()
	registry.MustRegister(metrics)
	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		if strings.Contains(f.GetName(), "upload") {
			fmt.Println(f.GetName(), f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// Output:
	// devotion_pending_uploads 0
	// devotion_upload_lag_seconds 0
}
