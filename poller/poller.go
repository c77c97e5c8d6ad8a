// Package poller runs a polling pipeline: it fetches what is new from a source,
// writes it to a sink, saves how far it got, and does so until it is stopped.
package poller

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Poller is a pipeline from one source to one sink. Set its fields, then call
// [Poller.Run] or [Poller.Drain]; do not change them while it runs. Name,
// Source, Sink and Checkpointer are required.
type Poller[T any] struct {
	Name         string
	Source       source.Source[T]
	Sink         sink.Sink[T]
	Checkpointer Checkpointer

	DeadLetter      sink.Sink[Refused[T]]
	DeadLetterLimit int

	BatchSize int
	Interval  time.Duration
	Wake      <-chan struct{}
	Deadline  time.Duration
	Grace     time.Duration
	DrainWait time.Duration
	Retry     retry.Policy
	Hooks     Hooks
	Logger    *slog.Logger
}

// Run works until ctx ends.
func (p *Poller[T]) Run(ctx context.Context) error { return errors.New("poller: not built yet") }

// Drain works until there is nothing more.
func (p *Poller[T]) Drain(ctx context.Context) error { return errors.New("poller: not built yet") }
