package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// The program prints a span for each step of each batch.
func TestRun(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	count := map[string]int{}
	for spans := json.NewDecoder(strings.NewReader(out.String())); spans.More(); {
		var span struct{ Name string }
		require.NoError(t, spans.Decode(&span))
		count[span.Name]++
	}
	assert.Equal(t, map[string]int{"load": 1, "batch": 3, "fetch": 3, "write": 3, "save": 3}, count)
}

// Each request carries the span of its write.
func TestPostCarriesItsSpan(t *testing.T) {
	var carried []string
	status := http.StatusOK
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		carried = append(carried, r.Header.Get("traceparent"))
		w.WriteHeader(status)
	}))
	defer service.Close()
	recorder := tracetest.NewSpanRecorder()
	traces := NewTraces(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	var orders sourcetest.Fake[Order]
	orders.Append(Order{1, 100}, Order{2, 200})
	p := &poller.Poller[Order]{
		Name:         "orders",
		Source:       &orders,
		Sink:         Post(service.URL),
		Checkpointer: &pollertest.Checkpointer{},
		BatchSize:    1,
		Retry:        retry.Policy{MaxAttempts: 1},
		Hooks:        traces.Hooks(),
		Logger:       slog.New(slog.DiscardHandler),
	}
	require.NoError(t, p.Drain(t.Context()))
	status = http.StatusServiceUnavailable
	orders.Append(Order{3, 300})
	require.ErrorContains(t, p.Drain(t.Context()), "post: 503 Service Unavailable")
	traces.Close()

	var writes []string
	for _, s := range recorder.Ended() {
		if s.Name() == "write" {
			writes = append(writes, fmt.Sprintf("00-%s-%s-01", s.SpanContext().TraceID(), s.SpanContext().SpanID()))
		}
	}
	require.Len(t, writes, 3)
	assert.Equal(t, writes, carried)
}
