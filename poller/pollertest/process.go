package pollertest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

var (
	errCrashed = retry.Permanent(errors.New("pollertest: the process has crashed"))
	errLost    = errors.New("pollertest: the answer was lost")
)

// process is one process that runs the pipeline, with its parts wrapped so that
// faults happen.
type process[T any] struct {
	number int
	faults scenario
	cancel context.CancelFunc
	parts  parts[T]

	mu     sync.Mutex
	counts map[poller.Op]int
	calls  []call
	fired  int
	dead   bool
	batch  int // the most records in one write

	cursor source.Cursor // last loaded or saved
	failed bool          // a call has failed since then
	moved  chan struct{} // closed when cursor or failed changes
}

type parts[T any] struct {
	source       source.Source[T]
	sink         sink.Sink[T]
	deadLetter   sink.Sink[poller.Rejected[T]]
	checkpointer poller.Checkpointer
}

// do makes a call of a part, unless the process is dead or dies before it. If the
// call has a fault, do first calls quiet, if not nil, which waits until no other
// call is in progress.
func (p *process[T]) do(op poller.Op, quiet func(), effect func() error) error {
	f, err := p.begin(op)
	if err != nil {
		return err
	}
	if f != "" && quiet != nil {
		quiet()
	}
	if f == crashBefore {
		return p.die()
	}
	err = effect()
	switch {
	case f == crashAfter:
		return p.die()
	case f == answerLost && err == nil:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fired++
		return errLost
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead { // by another call at the same time
		return errCrashed
	}
	if err != nil && op != poller.OpFetch {
		p.failed = true
		p.wake()
	}
	return err
}

// begin counts the call and returns its fault.
func (p *process[T]) begin(op poller.Op) (kind, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return "", errCrashed
	}
	if p.counts == nil {
		p.counts = make(map[poller.Op]int)
	}
	p.counts[op]++
	c := call{p.number, op, p.counts[op]}
	p.calls = append(p.calls, c)
	for _, f := range p.faults {
		if f.call == c {
			return f.kind, nil
		}
	}
	return "", nil
}

func (p *process[T]) die() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		p.dead = true
		p.fired++
		p.cancel()
	}
	return errCrashed
}

// at records the cursor of the checkpoint.
func (p *process[T]) at(c source.Cursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor, p.failed = c, false
	p.wake()
}

// quietFor is how long quiet waits. Writes and saves take less time.
const quietFor = time.Second

// wake makes quiet check again. Callers hold p.mu.
func (p *process[T]) wake() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// quiet waits until the checkpoint is at c, so that no call is in progress. The
// Poller fetches ahead, concurrently with the write of the batch before. A crash
// of such a fetch would find that write done or not, at random; crashes at the
// write and its save cover both cases. quiet gives up if one of those calls fails,
// because the Poller may be waiting for the fetch, and after quietFor, because a
// pipeline may never save. Then the crash happens during the write, with or
// without its effect.
func (p *process[T]) quiet(ctx context.Context, c source.Cursor) {
	enough := time.After(quietFor)
	for {
		p.mu.Lock()
		if p.cursor == c || p.failed || p.dead {
			p.mu.Unlock()
			return
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-enough:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (p *process[T]) fetch(ctx context.Context, after source.Cursor, limit int) (b source.Batch[T], err error) {
	quiet := func() { p.quiet(ctx, after) }
	err = p.do(poller.OpFetch, quiet, func() (err error) {
		b, err = p.parts.source.Fetch(ctx, after, limit)
		return err
	})
	return b, err
}

func (p *process[T]) write(ctx context.Context, b source.Batch[T]) error {
	p.mu.Lock()
	p.batch = max(p.batch, len(b.Records))
	p.mu.Unlock()
	return p.do(poller.OpWrite, nil, func() error { return p.parts.sink.Write(ctx, b) })
}

func (p *process[T]) deadLetter(ctx context.Context, b source.Batch[poller.Rejected[T]]) error {
	return p.do(poller.OpDeadLetter, nil, func() error { return p.parts.deadLetter.Write(ctx, b) })
}

type checkpointer[T any] struct{ p *process[T] }

func (c checkpointer[T]) Load(ctx context.Context) (at source.Cursor, err error) {
	err = c.p.do(poller.OpLoad, nil, func() (err error) {
		if at, err = c.p.parts.checkpointer.Load(ctx); err == nil {
			c.p.at(at)
		}
		return err
	})
	return at, err
}

func (c checkpointer[T]) Save(ctx context.Context, from, to source.Cursor) error {
	return c.p.do(poller.OpSave, nil, func() error {
		err := c.p.parts.checkpointer.Save(ctx, from, to)
		if err == nil {
			c.p.at(to)
		}
		return err
	})
}
