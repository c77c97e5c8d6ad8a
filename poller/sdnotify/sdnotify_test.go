package sdnotify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
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

// pipeline is a Poller over fakes.
type pipeline struct {
	*poller.Poller[int]
	pollertest.Fakes[int]
}

func newPipeline(name string) *pipeline {
	p := &pipeline{}
	p.Poller = p.Fakes.Poller(name)
	return p
}

// run runs the pipeline until the function it returns is called.
func (p *pipeline) run(ctx context.Context) (stop func()) {
	end := pollertest.Start(ctx, p.Poller)
	return func() { _ = end() }
}

// hang makes calls wait for a channel, and ignore their context.
func hang(release chan struct{}) func(fault.Call, fault.Point) error {
	return func(fault.Call, fault.Point) error { <-release; return nil }
}

var errDown = errors.New("connection refused")

func TestReadyWhenEveryCheckpointIsLoadedAlthoughTheDatabaseIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipeline("a"), newPipeline("b")
		a.Fakes.Source.Fail(errDown)
		b.Checkpoint.Fail(errDown)
		time.AfterFunc(10*time.Minute, b.Checkpoint.Heal)
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
		p.Checkpoint.FailFunc(hang(release))
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
		p.Fakes.Source.Fail(errDown)
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
	for name, hangAt := range map[string]func(*pipeline, chan struct{}){
		"fetch": func(p *pipeline, release chan struct{}) { p.Fakes.Source.FailFunc(hang(release)) },
		"write": func(p *pipeline, release chan struct{}) {
			p.Fakes.Sink.FailFunc(hang(release))
			p.Fakes.Source.Append(1)
		},
		"the loop itself": func(p *pipeline, release chan struct{}) { p.Hooks.Poll = func(poller.PollInfo) { <-release } },
	} {
		synctest.Test(t, func(t *testing.T) {
			well, stuck := newPipeline("well"), newPipeline("stuck")
			release := make(chan struct{})
			hangAt(stuck, release)
			h, end := listen(context.Background(), 30*time.Second, well.Status, stuck.Status) // which never ends
			defer end()
			defer well.run(t.Context())()
			defer stuck.run(t.Context())()
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

func TestTheWatchdogIsNotFedWhenRunHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipeline("a"), newPipeline("b")
		h, stop := listen(t.Context(), 30*time.Second, a.Status, b.Status)
		defer stop()
		defer a.run(t.Context())()
		end := b.run(t.Context())
		time.Sleep(time.Minute)
		end()
		time.Sleep(time.Minute)
		assert.NotZero(t, h.since("WATCHDOG=1", time.Minute), "it is done, and needs nobody")
		assert.Contains(t, h.last("STATUS="), "b: done")
		b.Fakes.Checkpoint.Fail(retry.Permanent(errDown))
		require.Error(t, b.Run(t.Context()))
		time.Sleep(time.Minute)
		assert.Zero(t, h.since("WATCHDOG=1", 2*time.Minute))
		assert.True(t, strings.HasPrefix(h.last("STATUS="), "STATUS=b: stopped"))
		b.Fakes.Checkpoint.Heal()
		defer b.run(t.Context())()
		time.Sleep(time.Minute)
		assert.NotZero(t, h.since("WATCHDOG=1", 3*time.Minute), "it runs again")
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
		p.Fakes.Source.Append(1)
		p.Fakes.Sink.FailFunc(hang(release))
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
			p.Fakes.Source.Append(make([]int, 7)...)
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
		p.Fakes.Source.FailFunc(func(_ fault.Call, at fault.Point) error {
			if at == fault.Before {
				time.Sleep(time.Minute + 16*time.Second) // overdue for 10 s
			}
			return nil
		})
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
