package hostile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// Trial lets readers poll a table while hostile writers write to it.
type Trial struct {
	Writers Writers

	// Readers are judged side by side. The delay of the others is measured
	// against the first: let that be the one that knows no ceiling.
	Readers []Reader

	// Interval is how long a reader waits when it has read all there is. 0 is
	// 20 ms.
	Interval time.Duration

	// Meanwhile runs while the writers write, if it is not nil. Its context ends
	// when they are done, and the readers go on until it has returned.
	Meanwhile func(ctx context.Context) error

	// Patience is how long a reader may go without anything new when the writers
	// have ended before the trial fails. 0 is a minute.
	Patience time.Duration

	Logger *slog.Logger // of the pollers; nil: silent
}

// Reader is a source under test.
type Reader struct {
	Name   string
	Source source.Source[row.Row]
	Key    []string // as of Recorder: integers by which the rows are in order
}

// Run writes, reads, and judges. The results are in the order of Readers. An
// error means that the trial did not come to its end; that rows were lost is in
// the results.
func (t *Trial) Run(ctx context.Context) (*Ledger, []Result, error) {
	w, err := t.Writers.start(ctx)
	if err != nil {
		return nil, nil, err
	}
	var pollers []*poller.Poller[row.Row]
	var recorders []*Recorder
	for _, r := range t.Readers {
		rec := &Recorder{Token: unquoted([]string{w.Table.Token})[0], Key: r.Key}
		log := t.Logger
		if log == nil {
			log = slog.New(slog.DiscardHandler)
		}
		recorders = append(recorders, rec)
		pollers = append(pollers, &poller.Poller[row.Row]{Name: r.Name, Source: r.Source, Sink: rec, Checkpointer: &pollertest.Checkpointer{},
			Interval: cmp.Or(t.Interval, 20*time.Millisecond), DrainWait: cmp.Or(t.Patience, time.Minute), Logger: log})
	}
	if err := t.write(ctx, w, pollers); err != nil {
		return w.ledger, nil, err
	}
	if err := each(pollers, func(p *poller.Poller[row.Row]) error { return p.Drain(ctx) }); err != nil {
		return w.ledger, nil, err
	}
	var results []Result
	for i, r := range t.Readers {
		results = append(results, w.ledger.Judge(r.Name, recorders[i], recorders[0]))
	}
	return w.ledger, results, nil
}

// write lets the pollers run while the writers write. If one of them ends, all do.
func (t *Trial) write(ctx context.Context, w *run, pollers []*poller.Poller[row.Row]) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	running, stop := context.WithCancel(ctx)
	defer stop()
	polled := make(chan error, 1)
	go func() {
		polled <- each(pollers, func(p *poller.Poller[row.Row]) error {
			err := p.Run(running)
			if err != nil {
				fail(err)
			}
			return err
		})
	}()
	writing, done := context.WithCancel(ctx)
	var meanwhile error
	var wg sync.WaitGroup
	if t.Meanwhile != nil {
		wg.Go(func() {
			if meanwhile = t.Meanwhile(writing); meanwhile != nil {
				fail(meanwhile)
			}
		})
	}
	wrote := w.run(ctx)
	done()
	wg.Wait()
	stop()
	err := <-polled
	if err == nil {
		err = meanwhile
	}
	if err == nil {
		err = wrote
	}
	if err != nil {
		return fmt.Errorf("hostile: the trial ended early: %w", err)
	}
	return nil
}

// each calls f for all at once.
func each[T any](all []T, f func(T) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, x := range all {
		wg.Go(func() { errs[i] = f(x) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
