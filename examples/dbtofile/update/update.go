package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// updater does one run.
type updater struct {
	config
	from    source
	trusted index.Keys
	machine machine
	log     *slog.Logger
	out     io.Writer // for -check and -dry-run
	step    func(name string, do func() error) error

	memory  state
	failing bool // a pipeline of the release that was started last has failed at a step
}

// errAvailable says that there is a release to be deployed.
var errAvailable = errors.New("a release is there to be deployed")

// update brings dbtofile up to date, if that is to be done now.
func (u *updater) update(ctx context.Context) (err error) {
	if u.jitter > 0 && !u.check && u.unquarantine == "" {
		select {
		case <-time.After(rand.N(u.jitter)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if u.check {
		if err := u.load(); err != nil {
			return err
		}
		return u.lookOnly(ctx)
	}
	unlock, err := u.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := u.load(); err != nil {
		return err
	}
	switch {
	case u.unquarantine != "":
		return u.forget(u.unquarantine)
	case u.dryRun:
		return u.rehearse(ctx)
	}
	err = u.sweep()
	if err == nil {
		err = u.resume(ctx)
	}
	if err == nil {
		err = u.advance(ctx)
	}
	return u.account(ctx, err)
}

// advance looks for a release, and deploys it.
func (u *updater) advance(ctx context.Context) error {
	v, r, ok, err := u.plan(ctx)
	if err != nil {
		return err
	}
	u.memory.Available = ""
	if !ok {
		u.log.Info("up to date", "version", v.running)
		if v.current != v.running {
			u.log.Warn("another release is current than runs; restart the units", "current", v.current)
		}
		return u.save()
	}
	u.memory.Available = r.Version
	if err := u.save(); err != nil { // an older index is refused from here on, whatever happens
		return err
	}
	limited, cancel := context.WithTimeout(ctx, u.timeout)
	err = u.stage(limited, r)
	cancel()
	if err != nil {
		return err
	}
	if v, err = u.look(ctx); err != nil { // a download takes its time
		return err
	}
	if v.unwell != nil && !u.force {
		return fmt.Errorf("%w: release %s waits: %w", errDeferred, r.Version, v.unwell)
	}
	return u.deploy(ctx, v, r)
}

// plan finds out what runs and which release is to follow, if one is.
func (u *updater) plan(ctx context.Context) (v view, r index.Release, ok bool, err error) {
	if v, err = u.look(ctx); err != nil {
		return v, r, false, err
	}
	limited, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	x, err := u.fetchIndex(limited)
	if err != nil {
		return v, r, false, err
	}
	r, ok = u.choose(x, v.running, v.current)
	return v, r, ok, nil
}

// account writes down how a run ended.
func (u *updater) account(ctx context.Context, err error) error {
	var running string
	if v, failed := u.look(context.WithoutCancel(ctx)); failed == nil {
		running = v.running
		if u.memory.Available != "" && index.Valid(running) && index.Compare(u.memory.Available, running) <= 0 {
			u.memory.Available = ""
		}
	}
	if _, bad := u.memory.quarantined(u.memory.Available); bad {
		u.memory.Available = ""
	}
	switch {
	case err == nil || errors.Is(err, errRolledBack):
	case errors.Is(err, errDeferred):
		u.memory.Deferrals++
	default:
		u.memory.Failures++
	}
	return errors.Join(err, u.save(), u.report(running))
}

// lookOnly prints what runs and what would be done.
func (u *updater) lookOnly(ctx context.Context) error {
	v, r, ok, err := u.plan(ctx)
	fmt.Fprintf(u.out, "running    %s\n", v.running)
	if v.current != v.running {
		fmt.Fprintf(u.out, "current    %s\n", v.current)
	}
	if p := u.memory.Pending; p != nil {
		fmt.Fprintf(u.out, "unfinished %s from %s to %s: the next run goes on with it\n", p.Step, p.From, p.To)
	}
	for _, q := range u.memory.Quarantined {
		fmt.Fprintf(u.out, "quarantine %s since %s: %s\n", q.Version, q.Time.Format(time.RFC3339), q.Reason)
	}
	switch {
	case err != nil:
		return err
	case !ok:
		fmt.Fprintln(u.out, "available  nothing newer")
		return nil
	}
	fmt.Fprintf(u.out, "available  %s\n", r.Version)
	if v.unwell != nil {
		fmt.Fprintf(u.out, "deferred   %v\n", v.unwell)
		return errDeferred
	}
	fmt.Fprintf(u.out, "to do      deploy %s, restart %v\n", r.Version, v.restart)
	return errAvailable
}

// rehearse does all but deploy.
func (u *updater) rehearse(ctx context.Context) error {
	v, r, ok, err := u.plan(ctx)
	if err != nil {
		return err
	}
	if !ok {
		fmt.Fprintf(u.out, "nothing newer than %s\n", v.running)
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	dir, err := u.download(limited, r)
	defer u.discard(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(u.out, "release %s is complete, signed, and runs here\n", r.Version)
	if v.unwell != nil {
		return fmt.Errorf("%w: it would wait: %w", errDeferred, v.unwell)
	}
	return nil
}

// forget takes a release out of quarantine.
func (u *updater) forget(version string) error {
	if _, there := u.memory.quarantined(version); !there {
		return fmt.Errorf("release %s is not in quarantine", version)
	}
	u.memory.Quarantined = slices.DeleteFunc(u.memory.Quarantined, func(q quarantine) bool { return q.Version == version })
	return u.save()
}
