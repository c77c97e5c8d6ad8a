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

// Trial runs hostile writers on a table while readers poll it. Writers and Readers must be
// set. It must not be changed while Run runs.
type Trial struct {
	Writers Writers

	// Readers poll concurrently. Result.AddedDelay of the others is measured against the
	// first, so the first should be the one without a ceiling.
	Readers []Reader

	// Interval is how long a reader waits after it has read everything available. 0 means
	// 20 ms.
	Interval time.Duration

	// Background, if not nil, runs while the writers write, for example to restart the
	// server. Its context ends when the writers are done. The readers continue until it has
	// returned. An error from it ends the trial.
	Background func(ctx context.Context) error

	// DrainWait is how long a reader may receive no new row after the writers are done,
	// before the trial fails. 0 means one minute.
	DrainWait time.Duration

	Logger *slog.Logger // for the pollers; nil: they do not log
}

// Reader is a source under test.
type Reader struct {
	Name   string
	Source source.Source[row.Row]
	Key    []string // integer columns by which rows must be in order; nil: the order is not checked
}

// Run runs the trial, and returns the results in the order of Readers. An error means that
// the trial did not finish. Lost rows are not an error: see [Result].
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
			Interval: cmp.Or(t.Interval, 20*time.Millisecond), DrainWait: cmp.Or(t.DrainWait, time.Minute), Logger: log})
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

// write runs the pollers while the writers write. If one of them fails, all end.
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
	if t.Background != nil {
		wg.Go(func() {
			if meanwhile = t.Background(writing); meanwhile != nil {
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

// each calls f for all elements concurrently.
func each[T any](all []T, f func(T) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, x := range all {
		wg.Go(func() { errs[i] = f(x) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
