package filesink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	goretry "github.com/sethvargo/go-retry"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
)

// maxPending is how many segments may wait for OnSeal. The checkpoint lists them,
// and is replaced for each batch.
const maxPending = 10_000

// announcer calls OnSeal for sealed segments, one at a time and in order,
// concurrently with the methods of the Dir.
type announcer struct {
	onSeal func(context.Context, Segment) error // may be nil
	dir    string
	limit  int // of the queue
	logger *slog.Logger

	mu       sync.Mutex
	queue    []sealed // those with durable names that are not announced, oldest first
	done     uint64   // number of the last segment that was announced
	attempts int      // failed, for the oldest one
	err      error    // of the last attempt
	changed  chan struct{}
}

// add queues the segments that are not announced yet.
func (a *announcer) add(published []sealed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.onSeal == nil && len(published) > 0 {
		a.done = published[len(published)-1].number()
	}
	a.queue = a.undoneLocked(published)
	a.notify()
}

// notify wakes who waits for a change of the queue.
func (a *announcer) notify() {
	if a.changed != nil {
		close(a.changed)
	}
	a.changed = make(chan struct{})
}

// undone returns the segments that are not announced.
func (a *announcer) undone(segments []sealed) []sealed {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.undoneLocked(segments)
}

func (a *announcer) undoneLocked(segments []sealed) []sealed {
	return slices.DeleteFunc(slices.Clone(segments), func(seg sealed) bool { return seg.number() <= a.done })
}

// oldest returns the segment to announce, and a channel that is closed when the
// queue changes.
func (a *announcer) oldest() (seg sealed, changed <-chan struct{}, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.notify()
	}
	if len(a.queue) == 0 {
		return seg, a.changed, false
	}
	return a.queue[0], a.changed, true
}

// announce calls OnSeal once.
func (a *announcer) announce(ctx context.Context, seg sealed) error {
	err := a.onSeal(ctx, Segment{filepath.Join(a.dir, seg.File), seg.Rows, seg.Bytes, seg.From, seg.To})
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.attempts, a.err = a.attempts+1, err
		if a.attempts == 1 && ctx.Err() == nil {
			a.logger.Warn("OnSeal failed, will retry", "op", "announce", "dir", a.dir, "segment", seg.File, "err", err)
		}
		return err
	}
	if a.attempts > 0 {
		a.logger.Info("OnSeal succeeded after retry", "op", "announce", "dir", a.dir, "segment", seg.File)
	}
	a.done, a.attempts, a.err = seg.number(), 0, nil
	a.queue = a.undoneLocked(a.queue)
	a.notify()
	return nil
}

// run announces segments until ctx ends.
func (a *announcer) run(ctx context.Context) {
	var waits goretry.Backoff
	for ctx.Err() == nil {
		seg, changed, ok := a.oldest()
		if !ok {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if a.announce(ctx, seg) == nil {
			waits = nil
			continue
		}
		if waits == nil {
			waits = retry.Policy{}.Backoff()
		}
		wait, _ := waits.Next() // without limit
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// wait returns nil once every segment is announced.
func (a *announcer) wait(ctx, closing context.Context) error {
	for {
		seg, changed, ok := a.oldest()
		if !ok {
			return nil
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		case <-closing.Done():
			ctx = closing
		}
		return fmt.Errorf("%s is sealed, but OnSeal has not returned nil: %w", seg.File, errors.Join(context.Cause(ctx), a.pending().Err))
	}
}

func (a *announcer) pending() sink.Pending {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := sink.Pending{Segments: len(a.queue), Attempts: a.attempts, Err: a.err}
	if len(a.queue) > 0 {
		p.Since = a.queue[0].Time
	}
	return p
}
