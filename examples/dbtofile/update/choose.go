package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

const again = 3 * time.Second

func (u *updater) openIndex(ctx context.Context) (file []byte, x index.Index, err error) {
	if file, err = read(ctx, u.from, index.Name, index.MaxIndex); err != nil {
		return nil, x, err
	}
	signature, err := read(ctx, u.from, index.Signature, index.MaxSignature)
	if err != nil {
		return nil, x, err
	}
	x, err = u.trusted.Open(file, signature)
	return file, x, err
}

// fetchIndex reads the index, and returns it if it may be believed: signed, not
// expired, not of a time to come, and not older than one seen before.
func (u *updater) fetchIndex(ctx context.Context) (index.Index, error) {
	file, x, err := u.openIndex(ctx)
	if errors.Is(err, index.ErrSignature) { // its two files may just be being replaced
		select {
		case <-time.After(again):
			file, x, err = u.openIndex(ctx)
		case <-ctx.Done():
		}
	}
	if err != nil {
		return index.Index{}, err
	}
	digest := sha256.Sum256(file)
	sum := hex.EncodeToString(digest[:])
	switch {
	case !time.Now().Before(x.Expires):
		return index.Index{}, fmt.Errorf("the index expired at %s: sign a new one, or look for who holds it back", x.Expires.Format(time.RFC3339))
	case x.Serial > time.Now().Add(index.MaxAhead).Unix(): // it is not to be remembered: all later ones would be older
		return index.Index{}, fmt.Errorf("the index has serial %d, which is of a time to come: set the clock, or look for who else signs", x.Serial)
	case x.Serial < u.memory.Serial:
		return index.Index{}, fmt.Errorf("the index has serial %d and is older than one seen before, which had %d: look for who plays it again", x.Serial, u.memory.Serial)
	case x.Serial == u.memory.Serial && sum != u.memory.IndexSHA256:
		return index.Index{}, fmt.Errorf("there are two indexes with serial %d: look for who signs beside you", x.Serial)
	}
	u.memory.Serial, u.memory.IndexSHA256 = x.Serial, sum
	u.memory.LastCheck = time.Now()
	return x, nil
}

// choose returns the newest release for this machine that may replace what runs
// and is not older than what is current. A release that cannot be reached in one
// step is reached by a later run, over others.
func (u *updater) choose(x index.Index, running, current string) (best index.Release, ok bool) {
	for _, r := range x.Releases {
		q, bad := u.memory.quarantined(r.Version)
		switch {
		case r.OS != u.os || r.Arch != u.arch:
		case bad:
			if q.SHA256 != r.SHA256 {
				u.log.Warn("release in quarantine has got other bytes: give them a new version", "version", r.Version)
			}
		case index.Compare(r.Version, running) <= 0 || index.Compare(r.Version, current) < 0:
		case r.MinFrom != "" && index.Compare(running, r.MinFrom) < 0:
		case !ok || index.Compare(r.Version, best.Version) > 0:
			best, ok = r, true
		}
	}
	return best, ok
}

var errDeferred = errors.New("deferred")

// view is what runs, before anything is done.
type view struct {
	current string
	running string   // the oldest version that a unit runs; current if none runs
	restart []string // the units that are to run the new release; those that are stopped stay so
	unwell  error    // why this is no time for a deploy
}

// look finds out what runs. A unit that has failed or crashes again and again has
// nothing to lose, and may get well by a new release.
func (u *updater) look(ctx context.Context) (v view, err error) {
	if v.current, err = u.current(); err != nil {
		return v, err
	}
	for _, one := range u.units {
		s, err := u.machine.show(ctx, one.name)
		if err != nil {
			return v, err
		}
		if s.stopped() {
			continue
		}
		v.restart = append(v.restart, one.name)
		if s.Exe != "" {
			version, err := u.versionOf(s.Exe)
			if err != nil {
				return v, fmt.Errorf("unit %s: %w", one.name, err)
			}
			if v.running == "" || index.Compare(version, v.running) < 0 {
				v.running = version
			}
		}
		if v.unwell == nil && !s.dead() {
			v.unwell = u.unwell(ctx, one, s)
		}
	}
	if v.running == "" {
		v.running = v.current
	}
	if len(v.restart) == 0 {
		v.unwell = errors.New("no unit is running, so nothing could show that a release does well")
	}
	return v, nil
}

func (u *updater) unwell(ctx context.Context, one unit, s unitState) error {
	if s.Active != "active" {
		return fmt.Errorf("unit %s is %s", one.name, s.Active)
	}
	said, err := u.machine.status(ctx, one.url)
	if err == nil {
		err = said.well()
	}
	if err != nil {
		return fmt.Errorf("unit %s: %w", one.name, err)
	}
	return nil
}
