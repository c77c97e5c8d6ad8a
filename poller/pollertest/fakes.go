package pollertest

import (
	"context"
	"log/slog"
	"sync"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// Fakes are the parts of a pipeline in memory. The zero value is ready to use. Fakes
// must not be copied after first use. Each part is safe for concurrent use.
type Fakes[T any] struct {
	Source     sourcetest.Fake[T]
	Sink       sinktest.Fake[T]
	Checkpoint Checkpointer
	DeadLetter sinktest.Fake[poller.Rejected[T]]
}

// Checkpointer is a checkpoint in memory, with fault points. The zero value is a
// handle on a new, empty store; Open returns further handles on the same store, like
// those of another process. It is safe for concurrent use.
type Checkpointer = sinktest.Checkpoint

// Poller returns a pipeline over these parts that logs nothing. Change its fields
// before it runs.
func (f *Fakes[T]) Poller(name string) *poller.Poller[T] {
	return &poller.Poller[T]{
		Name: name, Source: &f.Source, Sink: &f.Sink, Checkpointer: &f.Checkpoint, DeadLetter: &f.DeadLetter,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// Start calls Run in a new goroutine, with a context that is a child of ctx. The
// function it returns ends that context, waits, and returns the result of Run. It
// may be called again.
func Start[T any](ctx context.Context, p *poller.Poller[T]) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return sync.OnceValue(func() error { cancel(); return <-ended })
}
