package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// versionOf returns the version of the release that a file belongs to.
func (u *updater) versionOf(exe string) (string, error) {
	root, err := filepath.EvalSymlinks(u.releases())
	if err != nil {
		return "", err
	}
	version := filepath.Base(filepath.Dir(exe))
	if filepath.Join(root, version, "dbtofile") != exe || !index.Valid(version) {
		return "", fmt.Errorf("it runs %s, which is no release in %s", exe, root)
	}
	return version, nil
}

// errUnwell is wrapped by an error that says why a release did not do well.
var errUnwell = errors.New("it does not do well")

// restart restarts the units that are not stopped, and waits until all of them have
// done well with a release for the settle time. If they do not, the error wraps
// errUnwell.
func (u *updater) restart(ctx context.Context, version string) error {
	u.failing = false
	g := gate{updater: u, version: version, begun: time.Now(), before: map[string]string{}, after: map[string]string{}}
	restarted := false
	for _, one := range u.units {
		s, err := u.machine.show(ctx, one.name)
		if err != nil {
			return err
		}
		g.before[one.name] = s.Invocation
		if s.stopped() {
			u.log.Info("stopped unit stays stopped", "unit", one.name)
			continue
		}
		restarted = true
		if err := u.do("restart", func() error { return u.machine.restart(ctx, one.name) }); err != nil {
			return err
		}
	}
	if !restarted && u.force {
		return nil
	}
	return g.wait(ctx)
}

// gate is what a release has to pass.
type gate struct {
	*updater
	version       string
	begun         time.Time
	before, after map[string]string // invocations
	well          time.Time         // since when all do well; zero if not all do
}

// errQuiet says that a pipeline has not polled for a while. That alone does not begin
// the settle time anew: a turn may take long, and end well.
var errQuiet = errors.New("does not poll any more")

// errEnded is wrapped by errors that no patience will mend.
var errEnded = errors.New("the process ended by itself")

func (g *gate) wait(ctx context.Context) error {
	tick := time.NewTicker(max(time.Millisecond, min(time.Second, g.settle/4)))
	defer tick.Stop()
	deadline := time.NewTimer(g.config.gate)
	defer deadline.Stop()
	for {
		err := g.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errStopped):
			return err
		case errors.Is(err, errEnded):
			return fmt.Errorf("%w: %w", errUnwell, err)
		case errors.Is(err, errQuiet):
		case err != nil:
			g.well = time.Time{}
		case g.well.IsZero():
			g.well = time.Now()
		case time.Since(g.well) >= g.settle:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			if err == nil {
				err = errors.New("well again, but not for long enough")
			}
			return fmt.Errorf("%w: after %v: %w", errUnwell, g.config.gate, err)
		}
	}
}

// errStopped says that somebody has stopped all units since the deploy began.
var errStopped = fmt.Errorf("%w: all units have been stopped", errDeferred)

// look returns an error if a unit does not do well now. One that is stopped does
// not count.
func (g *gate) look(ctx context.Context) error {
	running := 0
	for _, one := range g.units {
		s, err := g.machine.show(ctx, one.name)
		if err != nil {
			return err
		}
		if s.stopped() {
			continue
		}
		running++
		if err := g.one(ctx, one, s); err != nil {
			return fmt.Errorf("unit %s: %w", one.name, err)
		}
	}
	if running == 0 {
		return errStopped
	}
	return nil
}

func (g *gate) one(ctx context.Context, one unit, s unitState) error {
	if s.Invocation == g.before[one.name] {
		return errors.New("it has not been restarted yet")
	}
	seen, known := g.after[one.name]
	if s.dead() || s.Restarts > 0 || known && seen != s.Invocation {
		return errEnded
	}
	g.after[one.name] = s.Invocation
	if s.Active != "active" {
		return fmt.Errorf("it is %s", s.Active)
	}
	if version, err := g.versionOf(s.Exe); err != nil || version != g.version {
		return fmt.Errorf("it runs %s", s.Exe)
	}
	said, err := g.machine.status(ctx, one.url)
	switch {
	case err != nil:
		return err
	case said.Version != g.version:
		return fmt.Errorf("its address is answered by version %s", said.Version)
	}
	g.failing = g.failing || said.failing()
	if err := said.well(); err != nil {
		return err
	}
	for _, p := range said.Pipelines {
		// Both by the same clock, which may be set meanwhile.
		age := said.Now.Sub(p.LastPoll)
		if said.Now.IsZero() || p.LastPoll.IsZero() || age > time.Since(g.begun) {
			return fmt.Errorf("pipeline %s has not polled since the restart", p.Name)
		}
		if g.well.IsZero() || time.Since(g.well) < g.settle {
			continue
		}
		if late := time.Since(g.well) - g.settle/2; age > max(late, 3*time.Duration(p.Interval*float64(time.Second))) {
			return fmt.Errorf("pipeline %s %w", p.Name, errQuiet)
		}
	}
	return nil
}
