package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Traces creates the traces of one pipeline. Each batch is a trace. It begins with
// the fetch and ends when the batch is saved. Its child spans are the attempts to
// fetch, write, deadletter and save the batch. A poll that finds no records is also
// a trace, and so is the load at the start.
//
// The next batch is prefetched while one is written, so two traces can be open at
// the same time. The cursor before the batch identifies its trace. If a batch has
// to be split, the prefetched batch after it is discarded. Its trace continues if
// it is fetched again next. Otherwise its trace ends when the next batch is saved.
type Traces struct {
	tracer trace.Tracer

	mu   sync.Mutex
	open map[source.Cursor]*batch // by From: the current batch, the prefetched one, and those discarded since the last save
}

// batch is a trace that has not ended.
type batch struct {
	span   trace.Span
	until  time.Time // the end of its last step
	failed string    // the error of its last step, empty if it succeeded
}

// NewTraces returns traces for one pipeline.
func NewTraces(provider trace.TracerProvider) *Traces {
	return &Traces{
		tracer: provider.Tracer("github.com/artifactofdevotion/devotion"),
		open:   map[source.Cursor]*batch{},
	}
}

// Hooks returns the hooks for the pipeline.
func (t *Traces) Hooks() poller.Hooks {
	return poller.Hooks{StepBegin: t.begin, StepEnd: t.end, Poll: t.poll}
}

// Close ends the spans of batches that were not saved. Call it after Run has
// returned, and before the provider is shut down.
func (t *Traces) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for from := range t.open {
		t.finish(from, "unfinished")
	}
}

// own is the context key for the span of a step. The current span of the context
// may belong to other hooks.
type own struct{ *Traces }

// begin begins the span of a step. The span is in the context of the step, so
// spans and requests made there become its children.
func (t *Traces) begin(ctx context.Context, i poller.StepInfo) context.Context {
	about := trace.WithAttributes(attribute.String("devotion.pipeline", i.Pipeline), attribute.String("devotion.from", string(i.From)))
	options := []trace.SpanStartOption{about, trace.WithTimestamp(i.Start), trace.WithAttributes(attribute.Int("devotion.attempt", i.Attempt))}
	if i.Op == poller.OpLoad {
		options = append(options, trace.WithNewRoot())
	} else {
		t.mu.Lock()
		b := t.open[i.From]
		if b == nil {
			// A new root: otherwise all batches would be in the trace of the program.
			_, span := t.tracer.Start(ctx, "batch", about, trace.WithTimestamp(i.Start), trace.WithNewRoot())
			b = &batch{span: span, until: i.Start}
			t.open[i.From] = b
		}
		t.mu.Unlock()
		ctx = trace.ContextWithSpan(ctx, b.span)
	}
	ctx, span := t.tracer.Start(ctx, string(i.Op), options...)
	return context.WithValue(ctx, own{t}, span)
}

func (t *Traces) end(ctx context.Context, i poller.StepInfo) {
	span, until := ctx.Value(own{t}).(trace.Span), i.Start.Add(i.Duration)
	span.SetAttributes(attribute.String("devotion.to", string(i.To)), attribute.Int("devotion.rows", i.Records), attribute.Int("devotion.bytes", i.Bytes))
	failed, class := failure(ctx, i)
	if failed != "" {
		span.SetStatus(codes.Error, failed)
		span.SetAttributes(attribute.String("error.type", class))
	}
	span.End(trace.WithTimestamp(until))

	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.open[i.From]; b != nil && i.Op != poller.OpLoad {
		b.until, b.failed = until, failed
		if errors.Is(i.Err, source.ErrEnd) {
			t.finish(i.From, "end")
		}
	}
}

// failure returns the text and the class of a step's error, or empty strings. It
// uses retry.Text, because the error itself can contain values of rows.
func failure(ctx context.Context, i poller.StepInfo) (text, class string) {
	stopped := ctx.Err() != nil && !errors.Is(i.Err, poller.ErrTimeout) && i.Op != poller.OpSave
	if i.Err == nil || stopped || errors.Is(i.Err, source.ErrEnd) {
		return "", ""
	}
	return retry.Text(i.Err), retry.Classify(i.Err).String()
}

// poll ends the trace of the batch that was saved, and of discarded batches.
func (t *Traces) poll(i poller.PollInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for from, b := range t.open {
		switch from {
		case i.From:
			b.span.SetAttributes(attribute.String("devotion.to", string(i.To)), attribute.Int("devotion.rows", i.Records), attribute.Int("devotion.bytes", i.Bytes))
			b.until, b.failed = i.Start.Add(i.Duration), ""
			outcome := "rows"
			if i.Records == 0 {
				outcome = "empty"
			}
			t.finish(from, outcome)
		case i.To: // prefetched: it is the next batch
		default:
			t.finish(from, "discarded")
		}
	}
}

// finish ends the trace of a batch.
func (t *Traces) finish(from source.Cursor, outcome string) {
	b := t.open[from]
	delete(t.open, from)
	b.span.SetAttributes(attribute.String("devotion.outcome", outcome))
	if b.failed != "" {
		b.span.SetStatus(codes.Error, b.failed)
	}
	b.span.End(trace.WithTimestamp(b.until))
}
