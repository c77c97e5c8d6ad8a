// Command tracing sends the orders of a shop from a database to a web service, and
// traces this with OpenTelemetry. Each batch is one trace. Its spans are the
// attempts to fetch, write and save the batch.
//
//	go run ./examples/tracing
//
// The adapter is [Traces], about a hundred lines to copy. It uses the same hooks
// as the metrics. Use poller.JoinHooks to attach both to one pipeline. The context
// of each step contains the step's span. [Post], the sink, sends it to the service
// in the header traceparent, so the work of the service belongs to the trace of
// the batch.
//
// The program prints the spans as JSON. In your own program, use an exporter
// instead of stdouttrace, and a sampler: an idle pipeline creates a trace for
// every poll.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"
	_ "github.com/ncruces/go-sqlite3/driver"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Order is a row of the table orders.
type Order struct{ ID, Cents int64 }

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	exporter, err := stdouttrace.New(stdouttrace.WithWriter(out), stdouttrace.WithPrettyPrint())
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	defer provider.Shutdown(context.WithoutCancel(ctx)) //nolint:errcheck // losing the last spans is not worth an error

	service := httptest.NewServer(http.HandlerFunc(accept)) // instead of your own service
	defer service.Close()

	dir, err := os.MkdirTemp("", "tracing-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := shop(ctx, filepath.Join(dir, "shop.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	checkpoint, err := filecheckpoint.Open(filepath.Join(dir, "cursor"), filecheckpoint.Options{})
	if err != nil {
		return err
	}
	defer checkpoint.Close()

	p := &poller.Poller[Order]{
		Name:         "orders",
		Source:       &sqlsource.Query[Order]{DB: db, Select: "SELECT id, cents FROM orders", Key: []string{"id"}, Table: "orders"},
		Sink:         Post(service.URL),
		Checkpointer: checkpoint,
		BatchSize:    4,
	}
	traces := NewTraces(provider)
	defer traces.Close()
	p.Hooks = poller.JoinHooks(p.Hooks, traces.Hooks())
	return p.Drain(ctx) // a service would call Run
}

// Post returns a sink that posts each batch to a web service. Each request carries
// the span of its write.
func Post(url string) sink.Sink[Order] {
	return sink.Func[Order](func(ctx context.Context, b source.Batch[Order]) error {
		body, err := json.Marshal(b.Records)
		if err != nil {
			return err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(request.Header))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("post: %s", response.Status)
		}
		return nil
	})
}

// accept is the web service. It logs the trace that each batch belongs to.
func accept(w http.ResponseWriter, r *http.Request) {
	var orders []Order
	if err := json.NewDecoder(r.Body).Decode(&orders); err != nil {
		http.Error(w, "not a batch of orders", http.StatusBadRequest)
		return
	}
	log.Printf("%d orders arrived, traceparent %s", len(orders), r.Header.Get("traceparent"))
}

// shop creates a database with ten orders.
func shop(ctx context.Context, path string) (*sqlx.DB, error) {
	db, err := sqlx.Open("sqlite3", "file:"+path)
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, `CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) INSERT INTO orders SELECT i, 99 + 7 * i FROM n`)
	return db, err
}
