package lease_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/lease"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// hole is a store that does not answer before its time.
type hole struct {
	sinktest.Checkpoint
	until time.Time
	deaf  bool // to its context
}

func (h *hole) Load(ctx context.Context) (source.Cursor, error) {
	if wait := time.Until(h.until); wait > 0 {
		ended := ctx.Done()
		if h.deaf {
			ended = nil
		}
		select {
		case <-time.After(wait):
		case <-ended:
			return "", ctx.Err()
		}
	}
	return h.Checkpoint.Load(ctx)
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A replica whose store does not answer is not a standby: it does not know whether
// another replica is active. The log says so within 10 s, whatever TTL is. A driver that
// ignores its context makes the pipeline overdue.
func TestAStoreInABlackHole(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		for _, ttl := range []time.Duration{time.Second, time.Minute, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				var src sourcetest.Fake[int]
				var out sinktest.Transactional[int]
				var log lockedBuffer
				src.Append(1, 2, 3)
				p := poller.Poller[int]{
					Name: "test", Source: &src, Sink: &out, Checkpointer: &out, Logger: slog.New(slog.NewTextHandler(&log, nil)),
					Lease: &lease.Heartbeat{Store: &hole{until: time.Now().Add(30 * time.Minute), deaf: deaf}, TTL: ttl},
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := make(chan error, 1)
				go func() { ended <- p.Run(ctx) }()
				time.Sleep(9 * time.Second)
				assert.NotEqual(t, poller.Standby, p.Status().State)
				assert.Contains(t, log.String(), "op=lease", "within 10 s")
				assert.Contains(t, p.Status().Summary(time.Now()), map[bool]string{true: "waiting for an answer for 9s (lease)", false: ""}[deaf || ttl > 9*time.Second])
				time.Sleep(20 * time.Minute)
				assert.NotEqual(t, poller.Standby, p.Status().State)
				assert.Equal(t, deaf, p.Status().Overdue, "only then a restart can help")
				if !deaf {
					assert.Contains(t, p.Status().Summary(time.Now()), "failing")
				}
				time.Sleep(15 * time.Minute)
				assert.Equal(t, []int{1, 2, 3}, out.Records(), "the store answers again")
				assert.False(t, p.Status().Overdue)
				cancel()
				require.NoError(t, <-ended)
				assert.Contains(t, log.String(), "msg=recovered")
				assert.Equal(t, deaf, strings.Contains(log.String(), "no longer overdue"))
			})
		}
	}
}

// A Heartbeat that is given the checkpoint of a pipeline refuses it, and changes
// nothing, however often the process is started again.
func TestAHeartbeatLeavesTheCheckpointOfAPipelineAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var src sourcetest.Fake[int]
		var out sinktest.Fake[int]
		var store sinktest.Checkpoint
		src.Append(1, 2, 3)
		p := poller.Poller[int]{Name: "orders", Source: &src, Sink: &out, Checkpointer: store.Open(), Logger: slog.New(slog.DiscardHandler)}
		require.NoError(t, p.Drain(t.Context()))
		for _, cursor := range []source.Cursor{store.Stored(), "v1 held by 4", "ABCDEFGHIJKL", "ABCDEFGHIJKL beat 1 held by x", "token held by \"web-1\""} {
			store.Rewind(cursor)
			history := store.History()
			for range 3 {
				p.Lease = &lease.Heartbeat{Store: store.Open(), TTL: time.Second}
				err := p.Run(t.Context())
				require.ErrorContains(t, err, "which is not a beat: it is the checkpoint of a pipeline")
				assert.Equal(t, retry.Fatal, retry.Classify(err))
				time.Sleep(time.Minute)
			}
			assert.Equal(t, cursor, store.Stored())
			assert.Equal(t, history, store.History())
		}
	})
}
