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

// process is one life of a pipeline: its parts, wrapped so that faults strike.
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
	batch  int // the most records in a write

	cursor source.Cursor // last loaded or saved
	failed bool          // a call failed since
	moved  chan struct{} // closed when one of these changes
}

type parts[T any] struct {
	source       source.Source[T]
	sink         sink.Sink[T]
	deadLetter   sink.Sink[poller.Rejected[T]]
	checkpointer poller.Checkpointer
}

// do makes a call of a part, unless the process is dead or dies before it. If a
// fault is to strike, quiet, if not nil, first waits until no other call is in
// progress.
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
	if p.dead { // it died beside this call
		return errCrashed
	}
	if err != nil && op != poller.OpFetch {
		p.failed = true
		p.wake()
	}
	return err
}

// begin counts the call and returns what is to go wrong with it.
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

// at notes where the checkpoint is.
func (p *process[T]) at(c source.Cursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor, p.failed = c, false
	p.wake()
}

// quietFor is how long quiet waits. Writes and saves take less.
const quietFor = time.Second

// wake lets quiet look again. Callers hold p.mu.
func (p *process[T]) wake() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// quiet waits until the checkpoint is at c, so that no call is in progress. A
// fetch ahead runs beside the write of the batch before it, and a crash in it
// would find that done or not, as it happens; crashes at that write and its save
// show both. If one of those fails, the Poller may be waiting for the fetch, and
// one that never saves would wait for ever: then the crash comes beside the
// write, whose effect may or may not be.
func (p *process[T]) quiet(ctx context.Context, c source.Cursor) {
	enough := time.NewTimer(quietFor)
	defer enough.Stop()
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
		case <-enough.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (p *process[T]) fetch(ctx context.Context, after source.Cursor, max int) (b source.Batch[T], err error) {
	quiet := func() { p.quiet(ctx, after) }
	err = p.do(poller.OpFetch, quiet, func() (err error) {
		b, err = p.parts.source.Fetch(ctx, after, max)
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
