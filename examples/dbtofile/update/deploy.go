package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

var errRolledBack = errors.New("rolled back")

// tries is how often a deploy is begun before a release is given up that never
// lets it come to an end, for example because it brings the machine down.
const tries = 3

// deploy lets a staged release take the place of what runs. What it is about is
// written down before anything is changed, so that the next run can bring it to an
// end if this one cannot.
func (u *updater) deploy(ctx context.Context, v view, r index.Release) error {
	u.memory.Pending = &pending{From: v.running, To: r.Version, SHA256: r.SHA256, Step: stepDeploy}
	u.log.Info("deploying", "from", v.running, "to", r.Version, "units", v.restart)
	return u.finish(ctx)
}

// resume brings a deploy to its end that an earlier run has begun.
func (u *updater) resume(ctx context.Context) error {
	p := u.memory.Pending
	if p == nil {
		return nil
	}
	u.log.Warn("an earlier run was ended in the middle of a deploy; going on", "from", p.From, "to", p.To, "step", p.Step)
	current, err := u.current()
	if err != nil {
		return err
	}
	if current != p.From && current != p.To {
		u.log.Warn("another release has been made current meanwhile; leaving it at that", "current", current)
		u.memory.Pending = nil
		return u.save()
	}
	if p.Step == stepDeploy && p.Tries >= tries {
		p.Step, p.Reason = stepRollback, fmt.Sprintf("it was ended %d times before its end", p.Tries)
	}
	return u.finish(ctx)
}

// finish brings the pending deploy to its end. Its steps may be done again.
func (u *updater) finish(ctx context.Context) error {
	p := u.memory.Pending
	if p.Step == stepDeploy {
		p.Tries++
		if err := u.save(); err != nil {
			return err
		}
		began := time.Now()
		err := u.run(ctx, p.To, p.SHA256)
		switch {
		case err == nil:
			u.log.Info("deployed", "from", p.From, "to", p.To, "took", time.Since(began).Round(time.Millisecond))
			return u.done(ctx, p)
		case !errors.Is(err, errUnwell): // no fault of the release: a full disk, or this process is to end
			p.Tries--
			return errors.Join(fmt.Errorf("in the middle of a deploy, the next run goes on: %w", err), u.save())
		}
		u.log.Error("release does not do well; going back", "from", p.From, "to", p.To, "err", err)
		p.Step, p.Reason, p.Failing = stepRollback, err.Error(), u.failing
	}
	return u.rollback(ctx, p)
}

// done writes down that a deploy has ended well, and tidies up.
func (u *updater) done(ctx context.Context, p *pending) error {
	u.memory.Pending, u.memory.LastDeploy = nil, time.Now()
	u.memory.Deploys++
	u.memory.Quarantined = slices.DeleteFunc(u.memory.Quarantined, func(q quarantine) bool {
		return index.Compare(q.Version, p.To) < 0 // never to be looked at again
	})
	if err := u.save(); err != nil {
		return err
	}
	if err := u.prune(ctx, p.From); err != nil {
		u.log.Warn("old releases cannot be removed", "err", err)
	}
	return nil
}

// rollback goes back to the release that ran before. If that does well again, it was
// the new one's fault. If it does not, then something else is broken.
func (u *updater) rollback(ctx context.Context, p *pending) error {
	if err := u.save(); err != nil { // the next run may try the release again, but this one goes back
		u.log.Error("the rollback cannot be written down", "err", err)
	}
	if _, err := os.Stat(u.binary(p.From)); errors.Is(err, fs.ErrNotExist) {
		u.memory.Pending = nil // only a newer release can help, so look for one
		return errors.Join(fmt.Errorf("release %s does not do well, and there is no way back: %s: %w", p.To, p.Reason, err), u.save())
	}
	err := u.run(ctx, p.From, "")
	if err != nil && !errors.Is(err, errUnwell) {
		return fmt.Errorf("in the middle of a rollback, the next run goes on: %w", err)
	}
	u.memory.Pending = nil
	if err != nil {
		return errors.Join(fmt.Errorf("%w: neither release %s nor %s does well, so the cause is another one: %s; now %w",
			errDeferred, p.To, p.From, p.Reason, err), u.save())
	}
	if p.Failing && u.failing { // such as an outage that ended only now
		return errors.Join(fmt.Errorf("%w: release %s failed at first too, so release %s may not be to blame: %s",
			errDeferred, p.From, p.To, p.Reason), u.save())
	}
	now := time.Now()
	u.memory.LastRollback = now
	u.memory.Rollbacks++
	if _, known := u.memory.quarantined(p.To); !known {
		u.memory.Quarantined = append(u.memory.Quarantined, quarantine{Version: p.To, SHA256: p.SHA256, Time: now, Reason: p.Reason})
	}
	return errors.Join(fmt.Errorf("%w from %s to %s: %s", errRolledBack, p.To, p.From, p.Reason), u.save())
}

// run makes a release current, restarts the units, and sees that they do well; if
// not, the error wraps errUnwell. A release with a sum runs only if its file still
// has it.
func (u *updater) run(ctx context.Context, version, sum string) error {
	switch is, err := u.sum(version); {
	case sum == "" && err != nil:
		return err
	case sum != "" && is != sum:
		return errors.Join(fmt.Errorf("%w: its file is not as it was", errUnwell), err)
	}
	if err := u.point(version); err != nil {
		return err
	}
	return u.restart(ctx, version)
}
