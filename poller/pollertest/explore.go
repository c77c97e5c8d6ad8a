package pollertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/artifactofdevotion/devotion/internal/conform"
	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
)

// Machine is storage that outlives a process, and a way to start the process that
// runs a pipeline on it.
type Machine[T any] struct {
	// Start starts the process: it opens the parts on the storage and returns the
	// pipeline, configured as in production. It is called again after each crash.
	Start func(ctx context.Context) (*poller.Poller[T], error)

	// Kill is called after the process has ended, with or without a crash, and
	// before the next Start. It releases what the kernel would release, such as
	// file locks, and must store nothing. It may also add records that appear
	// while the process is down. May be nil.
	Kill func() error

	// Delivered returns the records in the sink, in order.
	Delivered func(ctx context.Context) ([]T, error)

	// Remove is called at the end. May be nil.
	Remove func() error
}

// Exploration says what [Explore] explores.
type Exploration[T any] struct {
	// New returns a machine with new storage, in the same state at each call.
	New func(ctx context.Context) (Machine[T], error)

	// Expected holds the records that must be in the sink at the end, in order. No
	// two may be the same.
	Expected []T

	// ExactlyOnce says that the pipeline promises exactly once. Otherwise each
	// fault may cause one batch to be delivered twice.
	ExactlyOnce bool

	// Reports says that the Sink reports with [sink.Stored] how much it has stored of a
	// batch, as one of [sink.Each] does. Then scenarios are added in which it stores
	// half of a batch and says so.
	Reports bool

	// Text renders a record. Two records are the same if their texts are equal.
	// Defaults to JSON; fields that encoding/json leaves out are not compared.
	Text func(T) string

	// Depth is the largest number of faults in a scenario. With 2, recovery from a
	// crash is crashed too. Defaults to 2.
	Depth int

	// Limit is how many scenarios are run at each depth. If there are more, an
	// evenly spread selection is run. Defaults to 1,000.
	Limit int
}

// Explore runs a pipeline many times, each time in another scenario: it crashes
// before or after the effect of one call of Load, Fetch, Write, Save or the
// dead-letter sink, or the answer of a write or save is lost, or the sink refuses
// a batch with [sink.TooLarge], or two of these happen. If exactly once is not
// promised, the sink also stores half of a batch, and then the process crashes. If the
// sink reports its progress, it also stores half of a batch and reports that. After a
// crash the process starts again on the same storage. At the end the pipeline must
// have drained its source twice in a row, and the sink must have the expected records:
// none lost, none out of order, and none twice, except one batch per fault if exactly
// once is not promised.
//
// Explore returns how many scenarios were run, and an error that names those that
// failed, at most ten. Scenarios with fewer faults run first. If one of them
// fails, no scenario with more faults is run.
//
// A crash is more than an error: the call that crashes and all calls after it have
// no effect, and the process is abandoned. Explore does not look inside a call;
// the suites of the parts do that. It wraps the Poller's Source, Sink, DeadLetter
// and Checkpointer, replaces its Retry by one that waits a millisecond and gives
// up after ten attempts, and a nil Logger by a silent one.
//
// The scenarios are the same in every run if the pipeline makes the same calls. A
// scenario with a fault at a call that was not made in this run is not counted.
func Explore[T any](ctx context.Context, e Exploration[T]) (scenarios int, err error) {
	if e.Text == nil {
		e.Text = conform.JSON[T]
	}
	e.Depth, e.Limit = cmp.Or(e.Depth, 2), cmp.Or(e.Limit, 1000)
	switch {
	case e.New == nil:
		return 0, errors.New("pollertest: Exploration.New is not set")
	case len(e.Expected) == 0:
		return 0, errors.New("pollertest: Exploration.Expected is empty, so nothing could be lost")
	case e.ExactlyOnce && e.Reports:
		return 0, errors.New("pollertest: Exploration.ExactlyOnce and Reports are set: an exactly-once sink stores all of a batch or none")
	case e.Depth < 0 || e.Limit < 0:
		return 0, fmt.Errorf("pollertest: Exploration.Depth (%d) and Limit (%d) must not be negative", e.Depth, e.Limit)
	}
	x := &explorer[T]{Exploration: e, want: make(map[string]int)}
	for i, r := range e.Expected {
		text := e.Text(r)
		if j, ok := x.want[text]; ok {
			return 0, fmt.Errorf("pollertest: Expected[%d] and [%d] are the same, %s: the records must differ", j, i, text)
		}
		x.want[text] = i
		x.texts = append(x.texts, text)
	}
	level := []scenario{nil}
	for depth := 0; depth <= e.Depth; depth++ {
		level = spread(level, e.Limit)
		var next []scenario
		var failed []error
		for _, s := range level {
			more, reached, err := x.run(ctx, s)
			if cause := context.Cause(ctx); cause != nil {
				return scenarios, fmt.Errorf("pollertest: %s: %w", s, cause)
			}
			if reached {
				scenarios++
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("pollertest: %s: %w", s, err))
			}
			if len(failed) == 10 {
				break
			}
			next = append(next, more...)
		}
		if len(failed) > 0 {
			return scenarios, errors.Join(failed...)
		}
		level = next
	}
	return scenarios, nil
}

// spread selects n of all, evenly.
func spread(all []scenario, n int) []scenario {
	if len(all) <= n {
		return all
	}
	some := make([]scenario, n)
	for i := range some {
		some[i] = all[i*len(all)/n]
	}
	return some
}

type explorer[T any] struct {
	Exploration[T]
	texts []string       // of Expected
	want  map[string]int // the index of each text
}

// stuckAfter is how long a process may run. One that runs longer is stuck.
const stuckAfter = time.Minute

// run runs one scenario on a new machine. It returns the scenarios with one more
// fault, and whether all faults of this one happened.
func (x *explorer[T]) run(ctx context.Context, s scenario) (more []scenario, reached bool, err error) {
	m, err := x.New(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("New: %w", err)
	}
	if m.Remove != nil {
		defer func() { err = errors.Join(err, m.Remove()) }()
	}
	var calls []call
	fired, batch := 0, 0
	for number, clean := 0, 0; clean < 2; number++ {
		p := &process{number: number, faults: s}
		if err := x.live(ctx, m, p); err != nil {
			return nil, false, err
		}
		if clean++; p.dead {
			clean = 0
		}
		fired, batch = fired+p.fired, max(batch, p.batch)
		calls = append(calls, p.calls...)
	}
	delivered, err := m.Delivered(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("Delivered: %w", err)
	}
	return s.extend(calls, x.ExactlyOnce, x.Reports), fired == len(s), x.judge(delivered, fired, batch)
}

// live runs one process from start to end.
func (x *explorer[T]) live(ctx context.Context, m Machine[T], p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stuckAfter, fmt.Errorf("stuck: not drained after %v", stuckAfter))
	defer cancel()
	pipeline, err := m.Start(ctx)
	if err != nil {
		return fmt.Errorf("Start: %w", err)
	}
	if pipeline == nil {
		return errors.New("Start returned neither a pipeline nor an error")
	}
	p.cancel = cancel
	wrap(p, pipeline)
	pipeline.Retry = retry.Policy{Base: time.Millisecond, MaxAttempts: 10}
	if pipeline.Logger == nil {
		pipeline.Logger = slog.New(slog.DiscardHandler)
	}
	err = pipeline.Drain(ctx)
	if m.Kill != nil {
		if err := m.Kill(); err != nil {
			return fmt.Errorf("Kill: %w", err)
		}
	}
	if err != nil && !p.dead {
		return fmt.Errorf("process %d ends with an error: %w", p.number+1, err)
	}
	return nil
}
