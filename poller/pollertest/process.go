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
	errWithin  = errors.New("pollertest: the sink failed within the batch")
	errMany    = sink.TooLarge(errors.New("pollertest: too many records"))
)

// process is one process that runs the pipeline, with its parts wrapped so that
// faults happen.
type process struct {
	number int
	faults scenario
	cancel context.CancelFunc

	mu    sync.Mutex
	calls []call
	fired int
	dead  bool
	batch int // the most records in one write

	cursor source.Cursor // last loaded or saved
	failed bool          // a call has failed since then
	moved  chan struct{} // closed when cursor or failed changes
}

// do makes a call of a part, unless the process is dead or dies before it. If the
// call has a fault, do first calls quiet, if not nil, which waits until no other
// call is in progress.
func (p *process) do(op poller.Op, quiet func(), effect func() error) error {
	f, err := p.begin(op, false)
	if err != nil {
		return err
	}
	if f != "" && quiet != nil {
		quiet()
	}
	return p.end(op, f, effect)
}

// write makes a write of n records. Effect writes the first of them, as many as it is
// told.
func (p *process) write(n int, effect func(n int) error) error {
	f, err := p.begin(poller.OpWrite, n > 1)
	if err != nil {
		return err
	}
	switch f {
	case tooLarge:
		return p.fire(errMany)
	case crashWithin:
		f, n = crashAfter, n/2
	case partly:
		if err := p.end(poller.OpWrite, "", func() error { return effect(n / 2) }); err != nil {
			return err
		}
		return p.fire(sink.Stored(n/2, errWithin))
	}
	return p.end(poller.OpWrite, f, func() error { return effect(n) })
}

// fire counts a fault and returns its error.
func (p *process) fire(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fired++
	p.failed = true
	p.wake()
	return err
}

// end makes the call that has begun.
func (p *process) end(op poller.Op, f kind, effect func() error) error {
	if f == crashBefore {
		return p.die()
	}
	err := effect()
	if f == crashAfter {
		return p.die()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f == answerLost && err == nil:
		p.fired++
		return errLost
	case p.dead: // by another call at the same time
		return errCrashed
	case err != nil && op != poller.OpFetch:
		p.failed = true
		p.wake()
	}
	return err
}

// begin counts the call and returns its fault.
func (p *process) begin(op poller.Op, several bool) (kind, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return "", errCrashed
	}
	c := call{p.number, op, 1, several}
	for _, before := range p.calls {
		if before.op == op {
			c.n++
		}
	}
	p.calls = append(p.calls, c)
	for _, f := range p.faults {
		if f.call == c {
			return f.kind, nil
		}
	}
	return "", nil
}

func (p *process) die() error {
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
func (p *process) at(c source.Cursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor, p.failed = c, false
	p.wake()
}

// quietFor is how long quiet waits. Writes and saves take less time.
const quietFor = time.Second

// wake makes quiet check again. Callers hold p.mu.
func (p *process) wake() {
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
func (p *process) quiet(ctx context.Context, c source.Cursor) {
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

// wrap puts the process between the pipeline and its parts. A part that is not set
// stays nil, so that the Poller reports it.
func wrap[T any](p *process, pipeline *poller.Poller[T]) {
	if src := pipeline.Source; src != nil {
		pipeline.Source = source.Func[T](func(ctx context.Context, after source.Cursor, limit int) (b source.Batch[T], err error) {
			quiet := func() { p.quiet(ctx, after) }
			err = p.do(poller.OpFetch, quiet, func() (err error) {
				b, err = src.Fetch(ctx, after, limit)
				return err
			})
			return b, err
		})
	}
	if to := pipeline.Sink; to != nil {
		pipeline.Sink = sink.Func[T](func(ctx context.Context, b source.Batch[T]) error {
			p.mu.Lock()
			p.batch = max(p.batch, len(b.Records))
			p.mu.Unlock()
			all := b.Records
			return p.write(len(all), func(n int) error {
				b.Records = all[:n]
				return to.Write(ctx, b)
			})
		})
	}
	if to := pipeline.DeadLetter; to != nil {
		pipeline.DeadLetter = sink.Func[poller.Rejected[T]](func(ctx context.Context, b source.Batch[poller.Rejected[T]]) error {
			return p.do(poller.OpDeadLetter, nil, func() error { return to.Write(ctx, b) })
		})
	}
	if pipeline.Checkpointer != nil {
		pipeline.Checkpointer = checkpointer{p, pipeline.Checkpointer}
	}
}

type checkpointer struct {
	p    *process
	real poller.Checkpointer
}

func (c checkpointer) Load(ctx context.Context) (at source.Cursor, err error) {
	err = c.p.do(poller.OpLoad, nil, func() (err error) {
		if at, err = c.real.Load(ctx); err == nil {
			c.p.at(at)
		}
		return err
	})
	return at, err
}

func (c checkpointer) Save(ctx context.Context, from, to source.Cursor) error {
	return c.p.do(poller.OpSave, nil, func() error {
		err := c.real.Save(ctx, from, to)
		if err == nil {
			c.p.at(to)
		}
		return err
	})
}
