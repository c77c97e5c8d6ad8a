package lease_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/lease"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
)

var fleets = []int{2, 5}

func TestOneReplicaIsActive(t *testing.T) {
	for _, n := range fleets {
		inBubble(t, n, func(t *testing.T, f *fleet, all []*replica) {
			first := f.writer()
			time.Sleep(5 * time.Minute)
			assert.Equal(t, n-1, standbys(all))
			for _, e := range f.written() {
				require.Equal(t, first, e.by, "the lease stays where it is")
			}
			for _, r := range all {
				if s := r.p.Status(); r != first {
					assert.Equal(t, "standby", s.Summary(time.Now()))
					assert.Zero(t, s.Started)
					assert.False(t, s.Overdue)
				}
			}
		})
	}
}

func TestAStandbyTakesOverFromAKilledReplica(t *testing.T) {
	for _, n := range fleets {
		inBubble(t, n, func(t *testing.T, f *fleet, all []*replica) {
			old, since := f.writer(), time.Now()
			old.kill()
			took := f.takenOver(old, since)
			assert.LessOrEqual(t, took, ttl+2*time.Second)
			assert.Greater(t, took, ttl/2, "not before the beat is old")
			assert.Equal(t, n-2, standbys(all))
		})
	}
}

func TestAReplicaThatEndsGivesTheLeaseBack(t *testing.T) {
	for _, n := range fleets {
		inBubble(t, n, func(t *testing.T, f *fleet, all []*replica) {
			old, since := f.writer(), time.Now()
			old.stop()
			assert.LessOrEqual(t, f.takenOver(old, since), 1500*time.Millisecond)
			assert.Equal(t, n-2, standbys(all))
		})
	}
}

// A paused replica goes on with the write in which it was paused, after another has
// taken over. The compare-and-swap refuses it, and the replica stands by.
func TestAPausedReplicaIsRefusedByTheFence(t *testing.T) {
	for _, n := range fleets {
		inBubble(t, n, func(t *testing.T, f *fleet, all []*replica) {
			old, since := f.writer(), time.Now()
			old.pause()
			assert.LessOrEqual(t, f.takenOver(old, since), ttl+2*time.Second)
			time.Sleep(time.Minute)
			f.set(func() { f.journal = nil })
			old.resume()
			time.Sleep(time.Minute)
			for _, e := range f.written() {
				require.NotEqual(t, old, e.by)
			}
			assert.Equal(t, poller.Standby, old.p.Status().State, "it goes on as a standby")
			assert.Equal(t, n-1, standbys(all))
			refused := false
			for _, c := range old.out.Calls() {
				refused = refused || errors.Is(c.Err, poller.ErrConflict)
			}
			assert.True(t, refused, "its write was refused: the lease alone would have let it through")
		})
	}
}

// While the store does not answer, the active replica gives up when its lease ends,
// and nobody takes over. Afterwards the same replica goes on at once.
func TestAnOutageOfTheStore(t *testing.T) {
	for _, n := range fleets {
		for _, d := range []time.Duration{ttl / 2, ttl + time.Second, 10 * time.Minute} {
			inBubble(t, n, func(t *testing.T, f *fleet, all []*replica) {
				old := f.writer()
				f.set(func() { f.outage = errDown })
				time.Sleep(d)
				synctest.Wait()
				f.set(func() { f.journal, f.outage = nil, nil })
				if d > ttl {
					for _, r := range all {
						assert.Contains(t, r.p.Status().Summary(time.Now()), "failing")
					}
				}
				time.Sleep(2 * time.Second)
				assert.NotEmpty(t, f.written(), "two seconds after the outage rows are delivered")
				time.Sleep(time.Minute)
				for _, e := range f.written() {
					require.Equal(t, old, e.by, "a needless change")
				}
				for _, r := range all {
					assert.NotContains(t, r.p.Status().Summary(time.Now()), "failing")
				}
			})
		}
	}
}

// The active replica is killed during an outage of the store. The others do not know
// whether it is alive, and give it its time after the outage.
func TestAReplicaIsKilledDuringAnOutage(t *testing.T) {
	for _, n := range fleets {
		inBubble(t, n, func(t *testing.T, f *fleet, all []*replica) {
			old := f.writer()
			f.set(func() { f.outage = errDown })
			time.Sleep(10 * time.Minute)
			old.kill()
			f.set(func() { f.outage = nil })
			assert.LessOrEqual(t, f.takenOver(old, time.Now()), ttl+2*time.Second)
		})
	}
}

// Only the active replica loses its connection to the store. It gives up before
// another one takes over, although its sink would still accept its writes.
func TestTheActiveReplicaIsCutOff(t *testing.T) {
	for _, n := range fleets {
		inBubble(t, n, func(t *testing.T, f *fleet, all []*replica) {
			old, since := f.writer(), time.Now()
			f.set(func() { old.cutOff = true })
			assert.LessOrEqual(t, f.takenOver(old, since), ttl+2*time.Second)
			f.set(func() { old.cutOff = false })
			time.Sleep(time.Minute)
			assert.Equal(t, n-1, standbys(all))
			for _, c := range old.out.Calls() {
				assert.NotErrorIs(t, c.Err, poller.ErrConflict, "it stopped in time")
			}
		})
	}
}

// Kills, stops, pauses and outages, one after another, with new replicas in between.
func TestALongLife(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		n := fleets[seed%2]
		inBubble(t, n, func(t *testing.T, f *fleet, all []*replica) {
			random := rand.New(rand.NewPCG(3, seed))
			for range 30 {
				old, since := f.writer(), time.Now()
				switch random.IntN(5) {
				case 0:
					old.kill()
					f.start()
					assert.LessOrEqual(t, f.takenOver(old, since), ttl+2*time.Second)
				case 1:
					old.stop()
					f.start()
					assert.LessOrEqual(t, f.takenOver(old, since), 1500*time.Millisecond)
				case 2:
					old.pause()
					assert.LessOrEqual(t, f.takenOver(old, since), ttl+2*time.Second)
					old.resume()
				case 3:
					f.set(func() { f.outage = errDown })
					time.Sleep(time.Duration(random.Int64N(int64(2 * ttl))))
					f.set(func() { f.outage = nil })
				case 4:
					f.set(func() { old.cutOff = true })
					time.Sleep(time.Duration(random.Int64N(int64(2 * ttl))))
					f.set(func() { old.cutOff = false })
				}
				time.Sleep(time.Duration(random.Int64N(int64(ttl))))
			}
		})
	}
}

func TestHeartbeatIsConfigured(t *testing.T) {
	never := func(context.Context) error { t.Error("active"); return nil }
	for want, h := range map[string]*lease.Heartbeat{
		"Store is not set": {},
		"TTL is -1s":       {Store: &sinktest.Checkpoint{}, TTL: -time.Second},
		"TTL is 10ms":      {Store: &sinktest.Checkpoint{}, TTL: 10 * time.Millisecond},
	} {
		err := h.Hold(t.Context(), never)
		assert.ErrorContains(t, err, want)
		assert.Equal(t, retry.Fatal, retry.Classify(err))
	}
}

// The store shows people who has the lease, in a valid cursor, whatever the name.
func TestTheBeatNamesItsReplica(t *testing.T) {
	var store sinktest.Checkpoint
	h := &lease.Heartbeat{Store: store.Open(), Name: "web-2 ü\n" + strings.Repeat("x", 10_000)}
	err := h.Hold(t.Context(), func(ctx context.Context) error {
		require.NoError(t, store.Stored().Validate())
		assert.Contains(t, store.Stored(), ` beat 1 held by "web-2 \u00fc\nxxx`)
		assert.ErrorContains(t, (&lease.Heartbeat{Store: store.Open()}).Hold(ctx, nil), `another replica is active: "web-2 \u00fc`)
		return errDown
	})
	assert.Equal(t, errDown, err, "the result of active")
	assert.Contains(t, store.Stored(), ` beat 1 released by "web-2`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, h.Hold(ctx, nil), context.Canceled)
}

// The context of the active replica ends with the caller's, and the lease is kept
// until the replica has ended.
func TestTheLeaseIsKeptDuringGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store sinktest.Checkpoint
		ctx, cancel := context.WithCancelCause(t.Context())
		h := &lease.Heartbeat{Store: store.Open()}
		require.NoError(t, h.Hold(ctx, func(held context.Context) error {
			cancel(errDown)
			<-held.Done()
			assert.Equal(t, errDown, context.Cause(held))
			other := &lease.Heartbeat{Store: store.Open()}
			for range 60 {
				time.Sleep(time.Second)
				assert.ErrorIs(t, other.Hold(t.Context(), func(context.Context) error { return nil }), poller.ErrStandby)
			}
			return nil
		}))
		assert.Contains(t, store.Stored(), "released")
	})
}

func TestAPanicGivesTheLeaseBack(t *testing.T) {
	var store sinktest.Checkpoint
	h := &lease.Heartbeat{Store: store.Open()}
	assert.PanicsWithValue(t, "seven", func() { _ = h.Hold(t.Context(), func(context.Context) error { panic("seven") }) })
	assert.Contains(t, store.Stored(), "released")
}

// A replica that was paused for a moment can be refused by the fence before it
// notices that the lease is lost. Its Run does not end with the conflict.
func TestAConflictBecauseTheLeaseWasTakenIsALostLease(t *testing.T) {
	var store sinktest.Checkpoint
	h := &lease.Heartbeat{Store: store.Open()}
	var held context.Context
	assert.ErrorIs(t, h.Hold(t.Context(), func(ctx context.Context) error {
		held = ctx
		other := store.Open()
		at, err := other.Load(ctx)
		require.NoError(t, err)
		require.NoError(t, other.Save(ctx, at, "other beat 1"))
		return poller.ErrConflict
	}), poller.ErrConflict)
	assert.ErrorIs(t, context.Cause(held), poller.ErrLeaseLost)
	assert.Equal(t, "other beat 1", string(store.Stored()))

	h = &lease.Heartbeat{Store: new(sinktest.Checkpoint)}
	assert.ErrorIs(t, h.Hold(t.Context(), func(ctx context.Context) error { held = ctx; return poller.ErrConflict }), poller.ErrConflict)
	assert.NotErrorIs(t, context.Cause(held), poller.ErrLeaseLost, "someone has moved the cursor of the pipeline")
}
