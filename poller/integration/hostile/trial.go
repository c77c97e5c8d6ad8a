package hostile

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
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

	// Background, if not nil, runs while the writers write, for example to restart the
	// server. Its context ends when the writers are done. The readers continue until it has
	// returned. An error from it ends the trial.
	Background func(ctx context.Context) error
}

// Reader is a source under test.
type Reader struct {
	Name   string
	Source source.Source[row.Row]
	Key    []string // integer columns by which rows must be in order; nil: the order is not checked
	Copy   Store    // gets the rows and the cursor, too, to be compared with the table; nil: nothing
}

// Store is a sink that stores the cursor with the rows.
type Store interface {
	sink.Sink[row.Row]
	poller.Checkpointer
}

// Run runs the trial, and returns the results in the order of Readers. An error means that
// the trial did not finish, as when a reader gets no new row for a minute after the writers
// are done. Lost rows are not an error: see [Result].
func (t *Trial) Run(ctx context.Context) (*Ledger, []Result, error) {
	w, err := t.Writers.start(ctx)
	if err != nil {
		return nil, nil, err
	}
	var pollers []*poller.Poller[row.Row]
	var recorders []*Recorder
	for _, r := range t.Readers {
		rec := &Recorder{Token: unquoted([]string{w.Table.Token})[0], Key: r.Key}
		recorders = append(recorders, rec)
		p := &poller.Poller[row.Row]{Name: r.Name, Source: r.Source, Sink: rec, Checkpointer: &pollertest.Checkpointer{},
			Interval: 20 * time.Millisecond, DrainWait: time.Minute, Logger: slog.New(slog.DiscardHandler)}
		if r.Copy != nil {
			p.Checkpointer = r.Copy
			p.Sink = sink.Func[row.Row](func(ctx context.Context, b source.Batch[row.Row]) error {
				if err := r.Copy.Write(ctx, b); err != nil {
					return err
				}
				return rec.Write(ctx, b)
			})
		}
		pollers = append(pollers, p)
	}
	if err := t.run(ctx, w, pollers); err != nil {
		return w.ledger, nil, fmt.Errorf("hostile: the trial did not finish: %w", err)
	}
	var results []Result
	for i, r := range t.Readers {
		results = append(results, w.ledger.Judge(r.Name, recorders[i], recorders[0]))
	}
	return w.ledger, results, nil
}

// run runs the pollers while the writers write, and then drains them. The first error ends
// all of them.
func (t *Trial) run(ctx context.Context, w *run, pollers []*poller.Poller[row.Row]) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	note := func(err error) {
		if err != nil {
			fail(err)
		}
	}
	reading, stop := context.WithCancel(ctx)
	writing, done := context.WithCancel(ctx)
	defer stop()
	defer done()
	var readers, background sync.WaitGroup
	for _, p := range pollers {
		readers.Go(func() { note(p.Run(reading)) })
	}
	if t.Background != nil {
		background.Go(func() { note(t.Background(writing)) })
	}
	note(w.run(ctx))
	done()
	background.Wait()
	stop()
	readers.Wait()
	for _, p := range pollers {
		readers.Go(func() { note(p.Drain(ctx)) })
	}
	readers.Wait()
	return context.Cause(ctx)
}
