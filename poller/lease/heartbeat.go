package lease

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// Heartbeat is a lease in a store. The active replica stores a beat every third of
// TTL. A standby takes over when the beat has not changed for TTL, by its own
// clock, while the store answered. So the clocks of the machines need not agree,
// and an outage of the store makes no standby take over from a replica that could
// not reach the store either.
//
// The active replica gives up when it has stored no beat for TTL. If it is killed,
// another one takes over within TTL and two seconds. If it ends, it gives the lease
// back, and another one takes over within a second.
//
// Use one Heartbeat for one Poller. Do not change its fields while that runs.
type Heartbeat struct {
	// Store keeps the beat in place of a cursor. It must be another Checkpointer
	// than that of the pipeline, with another name, and the same in all replicas. If
	// it has a cursor, Hold returns an error and leaves the cursor alone. It is
	// required.
	Store poller.Checkpointer

	// TTL is for how long the lease is valid after a beat. It must be the same in
	// all replicas. Defaults to 15 s. The minimum is 1 s.
	TTL time.Duration

	// Name tells people which replica has the lease. Defaults to the name of the
	// host and the id of the process.
	Name string

	token   string
	beats   int
	mine    source.Cursor // the last beat that this replica stored
	renewed time.Time     // when the Save of mine began
	seen    source.Cursor // the beat of another replica that was loaded last
	since   time.Time     // when seen was first loaded; zero after an error
}

// margin is how much longer than TTL a standby waits. The active replica ends its
// steps in this time if it has lost the lease.
const margin = time.Second / 2

// storeTimeout is how long a standby waits for an answer of the store at most.
const storeTimeout = 15 * time.Second

// The store keeps, in place of a cursor, a token, which is unique, and these words.
const (
	heldBy     = " held by "
	releasedBy = " released by "
)

// isBeat matches what a Heartbeat stores. No source makes such a cursor.
var isBeat = regexp.MustCompile(`^[A-Z2-7]{12} beat \d+ (held|released) by "`)

// Hold implements [poller.Lease].
func (h *Heartbeat) Hold(ctx context.Context, active func(ctx context.Context) error) error {
	ttl := cmp.Or(h.TTL, 15*time.Second)
	switch {
	case h.Store == nil:
		return retry.Permanent(errors.New("lease: Heartbeat.Store is not set: it keeps the beat"))
	case ttl < time.Second:
		return retry.Permanent(fmt.Errorf("lease: Heartbeat.TTL is %v: set it to 1 s or more, or to 0 for 15 s", h.TTL))
	}
	if h.token == "" {
		h.token = rand.Text()[:12]
		if h.Name == "" {
			host, _ := os.Hostname()
			h.Name = fmt.Sprintf("%s pid %d", cmp.Or(host, "unknown host"), os.Getpid())
		}
	}
	if err := h.take(ctx, ttl); err != nil {
		return err
	}
	return h.keep(ctx, ttl, active)
}

// take tries to take the lease.
func (h *Heartbeat) take(ctx context.Context, ttl time.Duration) error {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, min(ttl, storeTimeout))
	defer cancel()
	stored, err := h.Store.Load(limited)
	switch {
	case err != nil:
		h.seen, h.since = "", time.Time{} // the active replica cannot store its beat either
		return fmt.Errorf("lease: %w", err)
	case stored != "" && !isBeat.MatchString(string(stored)):
		return retry.Permanent(fmt.Errorf("lease: Heartbeat.Store has the cursor %.100q, which is not a beat: it is the checkpoint of a pipeline. Give the Heartbeat a Checkpointer with another name", stored))
	}
	free := stored == "" || strings.Contains(string(stored), releasedBy) || h.isMine(stored)
	if !free && stored != h.seen {
		h.seen, h.since = stored, time.Now()
	}
	if left := h.since.Add(ttl + margin).Sub(began); !free && left > 0 {
		return h.standBy(ctx, min(time.Second, left))
	}
	err = h.beat(limited, stored, h.next())
	if errors.Is(err, poller.ErrConflict) { // another replica was faster
		return h.standBy(ctx, time.Second/10)
	}
	return err
}

func (h *Heartbeat) isMine(beat source.Cursor) bool { return strings.HasPrefix(string(beat), h.token) }

// next returns a beat that was never stored.
func (h *Heartbeat) next() source.Cursor {
	h.beats++
	return h.text(heldBy)
}

func (h *Heartbeat) text(word string) source.Cursor {
	return source.Cursor(fmt.Sprintf("%s beat %d%s%+.100q", h.token, h.beats, word, h.Name))
}

// beat stores a beat.
func (h *Heartbeat) beat(ctx context.Context, from, to source.Cursor) error {
	began := time.Now()
	if err := h.Store.Save(ctx, from, to); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	h.mine, h.renewed = to, began
	return nil
}

func (h *Heartbeat) standBy(ctx context.Context, d time.Duration) error {
	_, name, _ := strings.Cut(string(h.seen), heldBy)
	sleep(ctx, d)
	return fmt.Errorf("lease: %w: %s", poller.ErrStandby, cmp.Or(name, "it has just taken the lease"))
}

// keep calls active and stores beats until it returns.
func (h *Heartbeat) keep(ctx context.Context, ttl time.Duration, active func(ctx context.Context) error) error {
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	beating, stop := context.WithCancel(context.WithoutCancel(ctx)) // a write in progress may outlast ctx
	var beats sync.WaitGroup
	beats.Go(func() { h.renew(beating, ttl, lose) })
	defer func() { // deferred, so that the goroutine also ends if active panics
		stop()
		beats.Wait()
		if !errors.Is(context.Cause(held), poller.ErrLeaseLost) && h.release(context.WithoutCancel(ctx), ttl) {
			lose(fmt.Errorf("%w: another replica has taken it", poller.ErrLeaseLost)) // before the next beat was due
		}
	}()
	return active(held)
}

// renew stores beats until ctx ends or the lease is lost.
func (h *Heartbeat) renew(ctx context.Context, ttl time.Duration, lose context.CancelCauseFunc) {
	for {
		if sleep(ctx, ttl/3-time.Since(h.renewed)); ctx.Err() != nil {
			return
		}
		// The timer does not rely on Save to honour its context.
		expired := time.AfterFunc(time.Until(h.renewed.Add(ttl)), func() {
			lose(fmt.Errorf("%w: no beat was stored for %v", poller.ErrLeaseLost, ttl))
		})
		err := h.persist(ctx, h.next(), h.renewed.Add(ttl))
		switch {
		case !expired.Stop() || ctx.Err() != nil:
			return
		case err != nil:
			lose(fmt.Errorf("%w: %w", poller.ErrLeaseLost, err))
			return
		}
	}
}

// persist tries to store a beat until it succeeds, another replica has the lease, or
// it is too late.
func (h *Heartbeat) persist(ctx context.Context, to source.Cursor, limit time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	for {
		err := h.beat(ctx, h.mine, to)
		if err == nil || ctx.Err() != nil || errors.Is(err, poller.ErrConflict) {
			return err
		}
		sleep(ctx, time.Second/5)
	}
}

// release gives the lease back, unless another replica has taken it already. If that
// fails, the others wait for TTL.
func (h *Heartbeat) release(ctx context.Context, ttl time.Duration) (taken bool) {
	ctx, cancel := context.WithTimeout(ctx, min(ttl, 5*time.Second))
	defer cancel()
	// A beat may have been stored although its answer was not waited for.
	stored, err := h.Store.Load(ctx)
	if err == nil && h.isMine(stored) {
		_ = h.Store.Save(ctx, stored, h.text(releasedBy))
	}
	return err == nil && !h.isMine(stored)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
