// Command tracing sends the orders of a shop from a database to a web service, and
// traces this with OpenTelemetry. Each batch is one trace.
//
//	go run ./examples/tracing
//
// Copy [Traces]. poller.JoinHooks joins its hooks with those of metrics. [Post],
// the sink, sends the span of each write in the header traceparent, so the work of
// the service belongs to the trace of the batch.
//
// The program prints the spans as JSON. In your program, use an exporter instead of
// stdouttrace, and a sampler: an idle pipeline creates a trace for every poll.
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

	"github.com/jmoiron/sqlx"
	_ "github.com/ncruces/go-sqlite3/driver"
	_ "github.com/ncruces/go-sqlite3/vfs/memdb"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
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

	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		log.Print("a batch arrived, traceparent ", r.Header.Get("traceparent"))
	}))
	defer service.Close()

	db, err := sqlx.Open("sqlite3", "file:/shop.db?vfs=memdb") // in memory, with ten orders
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) INSERT INTO orders SELECT i, 99 + 7 * i FROM n`); err != nil {
		return err
	}
	checkpoint, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
	if err != nil {
		return err
	}
	traces := NewTraces(provider)
	defer traces.Close()
	p := &poller.Poller[Order]{
		Name:         "orders",
		Source:       &sqlsource.Query[Order]{DB: db, Select: "SELECT id, cents FROM orders", Key: []string{"id"}, Table: "orders"},
		Sink:         Post(service.URL),
		Checkpointer: checkpoint,
		BatchSize:    4,
		Hooks:        traces.Hooks(),
	}
	return p.Drain(ctx) // a service would call Run
}

// Post is a sink that posts each batch to a web service, whose URL it is. Each
// request carries the span of its write.
type Post string

// Write implements sink.Sink.
func (url Post) Write(ctx context.Context, b source.Batch[Order]) error {
	body, err := json.Marshal(b.Records)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, string(url), bytes.NewReader(body))
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
}
