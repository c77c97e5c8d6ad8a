package sinktest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// Fake is an at-least-once sink in memory. It stores every batch it gets, also one
// that comes twice, so a test sees every delivery. The zero value is empty. A
// Fake must not be copied after first use and is safe for concurrent use.
//
// The methods of the embedded Injector make calls fail, before or after their
// effect.
type Fake[T any] struct {
	fault.Injector

	// Refuse, if set, returns why a record is refused for good, or nil. If it
	// refuses one, Write stores nothing and returns [sink.Reject] of its error.
	Refuse func(T) error

	// Limit, if above 0, is how many records a batch may have. If it has more, Write
	// stores nothing and returns [sink.TooLarge].
	Limit int

	mu      sync.Mutex
	batches []source.Batch[T]
}

// Write stores b. See [sink.Sink].
func (f *Fake[T]) Write(ctx context.Context, b source.Batch[T]) error {
	return f.Do(ctx, write(b), f.store(b))
}

// Store stores one record, as a batch without cursors. It is the function of a sink
// that stores records one by one, whose calls fail one by one:
//
//	out := sinktest.Fake[int]{}
//	p.Sink = sink.Each(1, out.Store)
func (f *Fake[T]) Store(ctx context.Context, record T) error {
	return f.Do(ctx, fault.Call{Op: "Store", Records: 1}, f.store(source.Batch[T]{Records: []T{record}}))
}

func (f *Fake[T]) store(b source.Batch[T]) func(*fault.Call) error {
	return func(*fault.Call) error {
		if err := refused(b, f.Limit, f.Refuse); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.batches = append(f.batches, own(b))
		return nil
	}
}

// Batches returns the stored batches, in order, including those without records.
func (f *Fake[T]) Batches() []source.Batch[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.batches)
}

// Records returns the stored records, in order.
func (f *Fake[T]) Records() []T { return records(f.Batches()) }

func write[T any](b source.Batch[T]) fault.Call {
	return fault.Call{Op: "Write", From: b.From, To: b.To, Records: len(b.Records)}
}

func refused[T any](b source.Batch[T], limit int, refuse func(T) error) error {
	if n := len(b.Records); limit > 0 && n > limit {
		return sink.TooLarge(fmt.Errorf("sinktest: %d records, the limit is %d", n, limit))
	}
	if refuse == nil {
		return nil
	}
	for _, r := range b.Records {
		if err := refuse(r); err != nil {
			return sink.Reject(err)
		}
	}
	return nil
}

func own[T any](b source.Batch[T]) source.Batch[T] {
	b.Records = slices.Clone(b.Records)
	return b
}

func records[T any](batches []source.Batch[T]) []T {
	var all []T
	for _, b := range batches {
		all = append(all, b.Records...)
	}
	return all
}
