package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// secretError is an error of a driver. Its text contains a value of a row.
type secretError struct{}

func (secretError) Error() string    { return "duplicate key: bob@example.org" }
func (secretError) SQLState() string { return "23505" }

// world is a traced pipeline over fakes. A fetch takes 3 s, a write 5 s, a save 1 s.
type world struct {
	src      sourcetest.Fake[int]
	out      sinktest.Fake[int]
	at       pollertest.Checkpointer
	dead     sinktest.Fake[poller.Rejected[int]]
	recorder *tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
	traces   *Traces
	began    time.Time
}

func newWorld(n int) *world {
	w := &world{recorder: tracetest.NewSpanRecorder(), began: time.Now()}
	w.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(w.recorder))
	w.traces = NewTraces(w.provider)
	w.src.Delay(3 * time.Second)
	w.out.Delay(5 * time.Second)
	w.at.Delay(time.Second)
	for i := range n {
		w.src.Append(i + 1)
	}
	return w
}

func (w *world) poller() *poller.Poller[int] {
	return &poller.Poller[int]{
		Name:         "shop",
		Source:       &w.src,
		Sink:         &w.out,
		Checkpointer: &w.at,
		DeadLetter:   &w.dead,
		BatchSize:    2,
		Retry:        retry.Policy{Base: 1, Cap: 1},
		Hooks:        w.traces.Hooks(),
		Logger:       slog.New(slog.DiscardHandler),
	}
}

// spans closes the traces and returns a line for each span, in the order in which
// they began. Children are indented below their root. Times are whole seconds, so
// the waits of a nanosecond between attempts do not matter.
func (w *world) spans(t *testing.T) []string {
	t.Helper()
	w.traces.Close()
	ended := w.recorder.Ended()
	require.Len(t, ended, len(w.recorder.Started()), "every span has ended")
	slices.SortStableFunc(ended, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	text := func(s sdktrace.ReadOnlySpan) string {
		about := map[attribute.Key]attribute.Value{}
		for _, a := range s.Attributes() {
			about[a.Key] = a.Value
		}
		assert.Equal(t, "shop", about["devotion.pipeline"].AsString(), s.Name())
		at := func(of time.Time) time.Duration { return of.Sub(w.began).Truncate(time.Second) }
		line := fmt.Sprintf("%s %s-%s %v-%v", s.Name(), about["devotion.from"].AsString(), about["devotion.to"].AsString(), at(s.StartTime()), at(s.EndTime()))
		if v, is := about["devotion.outcome"]; is {
			line += " " + v.AsString()
		}
		if v := about["devotion.attempt"]; v.AsInt64() > 1 {
			line += fmt.Sprint(" attempt ", v.AsInt64())
		}
		if v := about["devotion.rows"]; v.AsInt64() > 0 {
			line += fmt.Sprint(" ", v.AsInt64(), " rows")
		}
		if s.Status().Code == codes.Error {
			line += " FAILED " + s.Status().Description
		}
		if v, is := about["error.type"]; is {
			line += ", " + v.AsString()
		}
		return line
	}
	var lines []string
	for _, root := range ended {
		if root.Parent().IsValid() {
			continue
		}
		lines = append(lines, text(root))
		for _, s := range ended {
			if s.Parent().SpanID() == root.SpanContext().SpanID() {
				require.Equal(t, root.SpanContext().TraceID(), s.SpanContext().TraceID())
				require.False(t, s.StartTime().Before(root.StartTime()) || s.EndTime().After(root.EndTime()), "%s is within its batch", s.Name())
				lines = append(lines, "  "+text(s))
			}
		}
	}
	require.Len(t, lines, len(ended), "a child of a child, or of nothing")
	return lines
}

func TestABatchIsATrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		p.Interval = time.Minute
		ctx, cancel := context.WithCancel(t.Context())
		ctx, outer := sdktrace.NewTracerProvider().Tracer("").Start(ctx, "the service, for weeks")
		defer outer.End()
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(22500 * time.Millisecond) // in the wait after the last batch
		cancel()
		require.NoError(t, <-ended)
		assert.Equal(t, []string{
			"load - 0s-1s",
			"batch -2 1s-10s rows 2 rows",
			"  fetch -2 1s-4s 2 rows",
			"  write -2 4s-9s 2 rows",
			"  save -2 9s-10s 2 rows",
			"batch 2-4 4s-16s rows 2 rows",
			"  fetch 2-4 4s-7s 2 rows",
			"  write 2-4 10s-15s 2 rows",
			"  save 2-4 15s-16s 2 rows",
			"batch 4-5 10s-22s rows 1 rows",
			"  fetch 4-5 10s-13s 1 rows",
			"  write 4-5 16s-21s 1 rows",
			"  save 4-5 21s-22s 1 rows",
		}, w.spans(t))
	})
}

// Each attempt is a span, and all attempts for a batch belong to one trace. Errors
// are shown by retry.Text.
func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		w.src.End()
		w.src.FailNext(1, errors.New("connection refused"))
		w.out.LoseNext(2, fmt.Errorf("insert: %w", secretError{}))
		p := w.poller()
		p.Interval = 1
		require.NoError(t, p.Run(t.Context()))
		assert.Equal(t, []string{
			"load - 0s-1s",
			"batch -2 1s-23s rows 2 rows",
			"  fetch - 1s-4s FAILED connection refused, transient",
			"  fetch -2 4s-7s attempt 2 2 rows",
			"  write -2 7s-12s 2 rows FAILED insert: SQLSTATE 23505: duplicate key, data",
			"  write -2 12s-17s attempt 2 2 rows FAILED insert: SQLSTATE 23505: duplicate key, data",
			"  write -2 17s-22s attempt 3 2 rows",
			"  save -2 22s-23s 2 rows",
			"batch 2- 23s-26s end",
			"  fetch 2-2 23s-26s",
		}, w.spans(t))
	})
}

// A row is rejected. The batch that was prefetched is discarded when the batch is halved,
// and its span ends. The batch that is prefetched while the row is rejected alone is delivered.
func TestDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.out.Refuse = func(i int) error {
			if i == 2 {
				return secretError{}
			}
			return nil
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		rejected := "FAILED rejected: SQLSTATE 23505: duplicate key, data"
		assert.Equal(t, []string{
			"load - 0s-1s",
			"batch -1 1s-18s rows 1 rows",
			"  fetch -2 1s-4s 2 rows",
			"  write -2 4s-9s 2 rows " + rejected,
			"  fetch -1 9s-12s 1 rows", // halved
			"  write -1 12s-17s 1 rows",
			"  save -1 17s-18s 1 rows",
			"batch 2- 4s-7s discarded",
			"  fetch 2-4 4s-7s 2 rows",
			"batch 1-2 12s-24s empty",
			"  fetch 1-2 12s-15s 1 rows",
			"  write 1-2 18s-23s 1 rows " + rejected,
			"  deadletter 1-2 23s-23s 1 rows",
			"  save 1-2 23s-24s 1 rows",
			"batch 2-4 18s-30s rows 2 rows",
			"  fetch 2-4 18s-21s 2 rows",
			"  write 2-4 24s-29s 2 rows",
			"  save 2-4 29s-30s 2 rows",
			"batch 4-5 24s-36s rows 1 rows",
			"  fetch 4-5 24s-27s 1 rows",
			"  write 4-5 30s-35s 1 rows",
			"  save 4-5 35s-36s 1 rows",
		}, w.spans(t))
	})
}

// A step interrupted by a stop is not a failure. A step that ends the run is.
func TestUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		p.Grace = -1
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		require.NoError(t, p.Run(ctx))
		assert.Equal(t, []string{
			"load - 0s-1s",
			"batch - 1s-6s unfinished",
			"  fetch -2 1s-4s 2 rows",
			"  write -2 4s-6s 2 rows",
			"batch 2- 4s-6s unfinished",
			"  fetch 2-2 4s-6s",
		}, w.spans(t))

		w = newWorld(1)
		w.at.FailFunc(func(c fault.Call, _ fault.Point) error {
			if c.Op == "Save" {
				return poller.ErrConflict
			}
			return nil
		})
		require.ErrorIs(t, w.poller().Run(t.Context()), poller.ErrConflict)
		assert.Equal(t, []string{
			"load - 0s-1s",
			"batch - 1s-10s unfinished FAILED checkpoint was moved by another writer",
			"  fetch -1 1s-4s 1 rows",
			"  write -1 4s-9s 1 rows",
			"  save -1 9s-10s 1 rows FAILED checkpoint was moved by another writer, transient",
		}, w.spans(t))
	})
}

func TestATimeoutIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		p := w.poller()
		p.Deadline = 4 * time.Second
		go func() { time.Sleep(8500 * time.Millisecond); w.out.Delay(0) }()
		require.NoError(t, p.Drain(t.Context()))
		assert.Contains(t, w.spans(t), "  write -1 4s-8s 1 rows FAILED no answer within the timeout of 4s: context deadline exceeded, transient")
	})
}

// The context of a step contains its span, even if other hooks create spans too.
func TestStepsHaveTheirSpanInTheContext(t *testing.T) {
	w := newWorld(1)
	p := w.poller()
	other := tracetest.NewSpanRecorder()
	others := NewTraces(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(other)))
	p.Hooks = poller.JoinHooks(others.Hooks(), p.Hooks)
	var found trace.SpanContext
	p.Sink = sink.Func[int](func(ctx context.Context, _ source.Batch[int]) error {
		found = trace.SpanContextFromContext(ctx)
		return nil
	})
	w.src.Delay(0)
	w.at.Delay(0)
	require.NoError(t, p.Drain(t.Context()))
	w.traces.Close()
	others.Close()
	require.Len(t, other.Ended(), len(w.recorder.Ended()))
	i := slices.IndexFunc(w.recorder.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() == "write" })
	assert.Equal(t, w.recorder.Ended()[i].SpanContext(), found)
}
