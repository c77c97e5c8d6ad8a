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

// Traces creates the traces of one pipeline. Each batch is a trace, from its fetch
// to its save. Its child spans are the attempts at its steps. A poll that finds no
// records is also a trace, and so is the load at the start.
//
// The next batch is prefetched while one is written, so two traces can be open. The
// cursor before a batch identifies its trace. The trace of a prefetched batch that
// is discarded ends with the next save, unless the batch is fetched again.
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
	return &Traces{tracer: provider.Tracer("github.com/artifactofdevotion/devotion"), open: map[source.Cursor]*batch{}}
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

// own is the context key for the span of a step: the current span may be of other hooks.
type own struct{ *Traces }

// begin puts the span of a step into its context, as the parent of what happens there.
func (t *Traces) begin(ctx context.Context, i poller.StepInfo) context.Context {
	about := trace.WithAttributes(attribute.String("devotion.pipeline", i.Pipeline), attribute.String("devotion.from", string(i.From)))
	ctx = trace.ContextWithSpan(ctx, nil) // otherwise all batches would be in the trace of the program
	if i.Op != poller.OpLoad {
		t.mu.Lock()
		if t.open[i.From] == nil {
			_, span := t.tracer.Start(ctx, "batch", about)
			t.open[i.From] = &batch{span: span}
		}
		ctx = trace.ContextWithSpan(ctx, t.open[i.From].span)
		t.mu.Unlock()
	}
	ctx, span := t.tracer.Start(ctx, string(i.Op), about, trace.WithAttributes(attribute.Int("devotion.attempt", i.Attempt)))
	return context.WithValue(ctx, own{t}, span)
}

func (t *Traces) end(ctx context.Context, i poller.StepInfo) {
	span, failed := ctx.Value(own{t}).(trace.Span), failure(ctx, i)
	describe(span, i.To, i.Records, i.Bytes)
	if failed != "" {
		span.SetStatus(codes.Error, failed)
		span.SetAttributes(attribute.String("error.type", retry.Classify(i.Err).String()))
	}
	span.End()

	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.open[i.From]; b != nil && i.Op != poller.OpLoad {
		b.until, b.failed = time.Now(), failed
		if errors.Is(i.Err, source.ErrEnd) {
			t.finish(i.From, "end")
		}
	}
}

func describe(span trace.Span, to source.Cursor, rows, bytes int) {
	span.SetAttributes(attribute.String("devotion.to", string(to)), attribute.Int("devotion.rows", rows), attribute.Int("devotion.bytes", bytes))
}

// failure returns the text of a step's error, empty if the step did not fail. It
// uses retry.Text, because the error itself can contain values of rows.
func failure(ctx context.Context, i poller.StepInfo) string {
	stopped := ctx.Err() != nil && !errors.Is(i.Err, poller.ErrTimeout) && i.Op != poller.OpSave
	if i.Err == nil || stopped || errors.Is(i.Err, source.ErrEnd) {
		return ""
	}
	return retry.Text(i.Err)
}

// poll ends the trace of the batch that was saved, and of discarded batches.
func (t *Traces) poll(i poller.PollInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for from, b := range t.open {
		switch {
		case from == i.From:
			describe(b.span, i.To, i.Records, i.Bytes)
			if i.Records > 0 {
				t.finish(from, "rows")
			} else {
				t.finish(from, "empty")
			}
		case from != i.To: // i.To is the next batch, prefetched
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
