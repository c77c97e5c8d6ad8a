package poller

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
)

// Pipeline is a [*Poller] of any type of record.
type Pipeline interface {
	Run(ctx context.Context) error
	Status() Status
	enter(state State, op Op, d time.Duration)
}

// Group runs several pipelines side by side in one process. A pipeline that ends
// with an error is started again after a wait, while the others go on. So what
// needs a person, such as a rejected record without a DeadLetter sink, stops one
// pipeline, and does not need a restart of the process afterwards.
//
// During the wait the pipeline is in state [Restarting]: it is alive, so a liveness
// check does not end the process, and with it the other pipelines. A panic in one
// pipeline ends the program, as it does without a Group.
//
// A restart goes on with a batch of which records are stored and whose cursor is not
// saved, see [Poller.Run].
//
// A pipeline that is misconfigured, or whose Poller already runs elsewhere, is not
// started again.
//
// A Group also starts a pipeline again that has ended with [ErrConflict], so that it
// goes on after a person has rewound it. Two replicas without a [Lease] therefore
// take the pipeline from each other for ever. Give each replica a Lease.
//
//	g := poller.Group{Pipelines: []poller.Pipeline{orders, payments}}
//	err := g.Run(ctx)
type Group struct {
	// Pipelines are the pipelines to run, each once. Their Names should differ.
	Pipelines []Pipeline

	// Restart determines the waits before a pipeline is started again. They start
	// at Base again after a run that lasted longer than Cap. Base defaults to 2 s
	// and Cap to 5 min. When the policy gives up, the pipeline stays stopped, and
	// Run returns its error once the others have ended.
	Restart retry.Policy

	// Logger receives a line for each restart. Defaults to slog.Default().
	Logger *slog.Logger
}

// Run runs all pipelines until each of them has returned nil, because ctx or its
// source has ended, and then returns nil. It returns the errors of pipelines that
// failed when ctx ended.
func (g Group) Run(ctx context.Context) error {
	g.Restart.Base = cmp.Or(g.Restart.Base, 2*time.Second)
	g.Restart.Cap = cmp.Or(g.Restart.Cap, 5*time.Minute)
	if err := g.Restart.Validate(); err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make([]error, len(g.Pipelines))
	for i, p := range g.Pipelines {
		all.Go(func() { errs[i] = g.keepRunning(ctx, p) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (g Group) keepRunning(ctx context.Context, p Pipeline) error {
	log := cmp.Or(g.Logger, slog.Default()).With("pipeline", p.Status().Name)
	waits := g.Restart.Backoff()
	for {
		began := time.Now()
		err := p.Run(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if time.Since(began) > g.Restart.Cap {
			waits = g.Restart.Backoff()
		}
		wait, giveUp := waits.Next()
		if giveUp || !errors.As(err, new(*Error)) { // misconfigured, or already running
			log.Error("will not restart", "err", err)
			return err
		}
		log.Warn("will restart", "wait", readable(wait))
		p.enter(Restarting, "", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			p.enter(Stopped, "", 0)
			return err
		}
	}
}
