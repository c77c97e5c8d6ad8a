package sdnotify

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

// heard is a systemd that records the messages and their times.
type heard struct {
	mu    sync.Mutex
	begin time.Time
	deaf  bool // refuses messages
	lines []string
	times []time.Duration
}

func (h *heard) send(text string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deaf {
		return errors.New("no buffer space available")
	}
	for _, line := range strings.Split(text, "\n") {
		h.lines = append(h.lines, line)
		h.times = append(h.times, time.Since(h.begin))
	}
	return nil
}

func (h *heard) setDeaf(deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf = deaf
}

// at returns when a line with a beginning was heard.
func (h *heard) at(beginning string) (times []time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, line := range h.lines {
		if strings.HasPrefix(line, beginning) {
			times = append(times, h.times[i])
		}
	}
	return times
}

// since returns how often a line was heard from a moment on.
func (h *heard) since(beginning string, from time.Duration) (n int) {
	for _, at := range h.at(beginning) {
		if at > from {
			n++
		}
	}
	return n
}

func listen(ctx context.Context, watchdog time.Duration, pipelines ...func() poller.Status) (*heard, func()) {
	h := &heard{begin: time.Now()}
	n := &notifier{pipelines: pipelines, watchdog: watchdog, loaded: make([]bool, len(pipelines)), send: h.send}
	return h, n.start(ctx)
}

// pipeline is a Poller whose parts a test bends.
type pipeline struct {
	poller.Poller[int]
	load, fetch, write func(context.Context) error
	at                 source.Cursor
	rows               atomic.Int64 // that come with the next batch
}

func newPipeline(name string) *pipeline {
	nothing := func(context.Context) error { return nil }
	p := &pipeline{load: nothing, fetch: nothing, write: nothing}
	p.Poller = poller.Poller[int]{Name: name, Source: p, Sink: p, Checkpointer: p, Logger: slog.New(slog.DiscardHandler)}
	return p
}

func (p *pipeline) Load(ctx context.Context) (source.Cursor, error) { return p.at, p.load(ctx) }
func (p *pipeline) Save(_ context.Context, _, to source.Cursor) error {
	p.at = to
	return nil
}
func (p *pipeline) Write(ctx context.Context, _ source.Batch[int]) error { return p.write(ctx) }
func (p *pipeline) Fetch(ctx context.Context, after source.Cursor, _ int) (source.Batch[int], error) {
	b := source.Batch[int]{From: after, To: after, AsOf: time.Now()}
	if rows := p.rows.Swap(0); rows > 0 {
		b.To, b.Records = after+"x", make([]int, rows)
	}
	return b, p.fetch(ctx)
}

// run runs the pipeline until the function it returns is called.
func (p *pipeline) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = p.Run(ctx) }()
	return func() { cancel(); <-ended }
}

func down(context.Context) error { return errors.New("connection refused") }

func TestReadyWhenEveryCheckpointIsLoadedAlthoughTheDatabaseIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipeline("a"), newPipeline("b")
		a.fetch = down
		store := time.Now().Add(10 * time.Minute)
		b.load = func(context.Context) error {
			if time.Now().Before(store) {
				return errors.New("the store is down")
			}
			return nil
		}
		h, stop := listen(t.Context(), 30*time.Second, a.Status, b.Status)
		defer stop()
		time.Sleep(15 * time.Second)
		assert.Empty(t, h.at("EXTEND"), "nothing runs: the unit's own timeout is what counts")
		defer a.run(t.Context())()
		defer b.run(t.Context())()
		time.Sleep(9 * time.Minute)
		assert.Empty(t, h.at("READY"))
		asked := h.at("EXTEND_TIMEOUT_USEC=30000000")
		for i, at := range asked[1:] {
			assert.Less(t, at-asked[i], 30*time.Second, "before the last extension is over")
			assert.GreaterOrEqual(t, at-asked[i], 10*time.Second, "and not each time it looks")
		}
		assert.Greater(t, asked[len(asked)-1], 8*time.Minute)

		time.Sleep(5 * time.Minute)
		require.Len(t, h.at("READY=1"), 1)
		assert.Zero(t, h.since("EXTEND", h.at("READY=1")[0]))
	})
}

func TestAHungLoadGetsNoMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline("p")
		release := make(chan struct{})
		p.load = func(context.Context) error { <-release; return nil }
		h, stop := listen(t.Context(), 0, p.Status)
		defer stop()
		end := p.run(t.Context())
		defer end()
		defer close(release)
		time.Sleep(time.Hour)
		assert.NotEmpty(t, h.at("EXTEND"))
		assert.Zero(t, h.since("EXTEND", 10*time.Minute))
		assert.Empty(t, h.at("READY"))
		assert.Empty(t, h.at("WATCHDOG"), "the unit has none")
	})
}

func TestTheWatchdogIsFedThroughAnOutageOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline("p")
		p.fetch = down
		h, stop := listen(t.Context(), 30*time.Second, p.Status)
		defer stop()
		defer p.run(t.Context())()
		time.Sleep(24*time.Hour + time.Second)
		var want []time.Duration
		for at := 15 * time.Second; at <= 24*time.Hour; at += 15 * time.Second {
			want = append(want, at)
		}
		require.True(t, slices.Equal(want, h.at("WATCHDOG=1")), "at half of WatchdogSec")
		require.Len(t, h.at("READY=1"), 1)
	})
}

func TestTheWatchdogIsNotFedWhileAStepHangs(t *testing.T) {
	for name, hang := range map[string]func(*pipeline, func(context.Context) error){
		"fetch": func(p *pipeline, f func(context.Context) error) { p.fetch = f },
		"write": func(p *pipeline, f func(context.Context) error) { p.write = f; p.rows.Store(1) },
		"the loop itself": func(p *pipeline, f func(context.Context) error) {
			p.Hooks.Poll = func(poller.PollInfo) { _ = f(context.Background()) }
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			well, stuck := newPipeline("well"), newPipeline("stuck")
			release := make(chan struct{})
			hang(stuck, func(context.Context) error { <-release; return nil })
			h, stop := listen(context.Background(), 30*time.Second, well.Status, stuck.Status) // which never ends
			defer stop()
			defer well.run(t.Context())()
			end := stuck.run(t.Context())
			defer end()
			time.Sleep(time.Hour)
			assert.NotEmpty(t, h.at("WATCHDOG=1"), name)
			assert.Zero(t, h.since("WATCHDOG=1", 10*time.Minute), name)
			assert.True(t, strings.HasPrefix(h.last("STATUS="), "STATUS=stuck: stuck: no answer for "), "%s: the one in trouble comes first: %s", name, h.last("STATUS="))
			close(release)
			synctest.Wait()
			time.Sleep(time.Minute)
			assert.NotZero(t, h.since("WATCHDOG=1", time.Hour), "%s: it goes on", name)
		})
	}
}

func (h *heard) last(beginning string) (found string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.lines {
		if strings.HasPrefix(line, beginning) {
			found = line
		}
	}
	return found
}

func TestTheWatchdogIsNotFedWhenRunHasReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipeline("a"), newPipeline("b")
		h, stop := listen(t.Context(), 30*time.Second, a.Status, b.Status)
		defer stop()
		defer a.run(t.Context())()
		end := b.run(t.Context())
		time.Sleep(time.Minute)
		end()
		time.Sleep(time.Minute)
		assert.NotEmpty(t, h.at("WATCHDOG=1"))
		assert.Zero(t, h.since("WATCHDOG=1", time.Minute))
		assert.True(t, strings.HasPrefix(h.last("STATUS="), "STATUS=b: stopped"))
		end = b.run(t.Context())
		defer end()
		time.Sleep(time.Minute)
		assert.NotZero(t, h.since("WATCHDOG=1", 2*time.Minute), "it runs again")
	})
}

func TestAShortDrainIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline("p")
		h, stop := listen(t.Context(), 0, p.Status)
		require.NoError(t, p.Drain(t.Context()))
		time.Sleep(time.Second)
		stop()
		assert.Len(t, h.at("READY=1"), 1)
		assert.Empty(t, h.at("STOPPING"), "the program has not said that it stops")
	})
}

func TestStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipeline("p")
		h, stop := listen(ctx, 10*time.Second, p.Status)
		release := make(chan struct{})
		p.rows.Store(1)
		p.write = func(context.Context) error { <-release; return nil }
		end := p.run(ctx)
		time.Sleep(time.Second)
		cancel()
		time.Sleep(time.Minute)
		assert.Equal(t, []time.Duration{time.Second}, h.at("STOPPING=1"))
		assert.NotZero(t, h.since("WATCHDOG=1", 50*time.Second), "TimeoutStopSec is what limits a stop")
		close(release)
		end()
		stop()
		stop()
		lines := len(h.lines)
		time.Sleep(time.Hour)
		assert.Len(t, h.lines, lines, "said after stop")
	})
	for range 50 { // the end of ctx and stop come at once
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			h, stop := listen(ctx, 0)
			cancel()
			stop()
			require.Len(t, h.at("STOPPING=1"), 1)
		})
	}
}

func TestStatusIsSaidWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline("orders")
		h, stop := listen(t.Context(), 0, p.Status)
		defer stop()
		defer p.run(t.Context())()
		time.Sleep(time.Hour)
		assert.Len(t, h.at("STATUS="), 1, "it is idle all the time")
		assert.Equal(t, "STATUS=orders: up to date, 0 rows, lag under 5s", h.last("STATUS="))

		var said int
		for range 60 {
			p.rows.Add(7)
			time.Sleep(time.Second)
			said = len(h.at("STATUS="))
		}
		assert.LessOrEqual(t, said, 1+60/5+1, "at most every 5 s")
		time.Sleep(10 * time.Second)
		assert.Equal(t, "STATUS=orders: up to date, 420 rows, lag under 5s", h.last("STATUS="))
	})
}

func TestWhatCouldNotBeSaidIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline("p")
		h, stop := listen(t.Context(), 10*time.Second, p.Status)
		defer stop()
		h.setDeaf(true)
		defer p.run(t.Context())()
		time.Sleep(time.Minute)
		assert.Empty(t, h.lines)
		assert.Equal(t, poller.Idle, p.Status().State, "the pipeline does not mind")
		h.setDeaf(false)
		time.Sleep(time.Minute)
		assert.Len(t, h.at("READY=1"), 1)
		assert.NotEmpty(t, h.at("STATUS="))
		assert.NotEmpty(t, h.at("WATCHDOG=1"))
	})
}

func TestThatItStopsIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipeline("p")
		h, stop := listen(ctx, 0, p.Status)
		defer stop()
		h.setDeaf(true)
		cancel()
		time.Sleep(time.Minute)
		h.setDeaf(false)
		time.Sleep(time.Minute)
		assert.Len(t, h.at("STOPPING=1"), 1)
	})
}

func TestALostFeedIsRepeatedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline("p")
		h, stop := listen(t.Context(), 30*time.Second, p.Status)
		defer stop()
		defer p.run(t.Context())()
		time.Sleep(14 * time.Second)
		h.setDeaf(true)
		time.Sleep(10 * time.Second)
		h.setDeaf(false)
		time.Sleep(time.Minute)
		require.NotEmpty(t, h.at("WATCHDOG=1"))
		assert.Less(t, h.at("WATCHDOG=1")[0], 29*time.Second)
	})
}

// One that is stuck for a moment, by a call that returns late, recovers.
func TestOneThatIsStuckForAMomentIsFedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline("p")
		p.fetch = func(context.Context) error { time.Sleep(time.Minute + 16*time.Second); return nil } // overdue for 10 s
		h, stop := listen(t.Context(), 30*time.Second, p.Status)
		defer stop()
		defer p.run(t.Context())()
		time.Sleep(time.Hour)
		fed := h.at("WATCHDOG=1")
		require.Greater(t, len(fed), 100)
		for i, at := range fed[1:] {
			require.Less(t, at-fed[i], 28*time.Second, "at %v", at)
		}
	})
}

func TestWordsAreOneShortLine(t *testing.T) {
	now := time.Now()
	held := poller.Status{Name: "held", State: poller.Held, Started: now, Held: &source.Held{Since: now.Add(-time.Minute), By: []string{"a\nb\x1b[31m\xff"}}}
	assert.Equal(t, "held: held back for 1m0s by a b [31m?, 0 rows", words(given(held), now))

	var many []poller.Status
	for range 100 {
		many = append(many, poller.Status{Name: "päärynä", State: poller.Idle, Started: now, Records: 1 << 40, AsOf: now.Add(-time.Hour)})
	}
	many = append(many, poller.Status{Name: "last", State: poller.Working, Overdue: true, Since: now.Add(-time.Minute)})
	for cut := range 8 {
		many[0].Name = strings.Repeat("x", cut)
		text := words(given(many...), now)
		assert.LessOrEqual(t, len(text), wordsLimit)
		assert.True(t, utf8.ValidString(text))
		assert.True(t, strings.HasPrefix(text, "last: stuck: no answer for 1m0s, 0 rows; x"[:len("last: stuck: no answer for 1m0s, 0 rows; ")]), text)
		assert.True(t, strings.HasSuffix(text, "…"), text)
	}
}

func given(all ...poller.Status) (pipelines []func() poller.Status) {
	for _, s := range all {
		pipelines = append(pipelines, func() poller.Status { return s })
	}
	return pipelines
}
