package asynclog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/asynclog"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// plain writes text lines without time.
func plain(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

// gate is a writer that blocks while it is shut.
type gate struct {
	open chan struct{}
	buf  bytes.Buffer
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.buf.Write(p)
}

func (g *gate) lines() []string { return strings.Split(strings.TrimSuffix(g.buf.String(), "\n"), "\n") }

func Example() {
	logs := asynclog.New(plain(os.Stdout))
	log := slog.New(logs).With("pipeline", "orders")
	log.Info("started")
	log.WithGroup("batch").Info("saved", "records", 3)
	fmt.Println(logs.Close())
	// Output:
	// level=INFO msg=started pipeline=orders
	// level=INFO msg=saved pipeline=orders batch.records=3
	// <nil>
}

func TestLinesOfOneGoroutineKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // on a slow machine no time passes
		var buf bytes.Buffer
		logs := asynclog.New(plain(&buf))
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range 1000 {
					slog.New(logs).Info("line", "g", g, "i", i)
				}
			})
		}
		all.Wait()
		require.NoError(t, logs.Close())
		next := map[int]int{}
		for line := range strings.Lines(buf.String()) {
			var g, i int
			_, err := fmt.Sscanf(line, "level=INFO msg=line g=%d i=%d", &g, &i)
			require.NoError(t, err)
			require.Equal(t, next[g], i, "goroutine %d", g)
			next[g]++
		}
		for g := range 8 {
			assert.Equal(t, 1000, next[g], "a writer that works loses nothing")
		}
	})
}

// A blocked writer costs its callers one wait in all. The lines that had room are
// written when it goes on, then the number of those that had none, then new lines.
func TestABlockedWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		logs := asynclog.New(plain(g))
		log := slog.New(logs)
		began := time.Now()
		log.Info("line", "i", 0)
		synctest.Wait() // the goroutine holds line 0
		for i := range asynclog.Capacity {
			log.Info("line", "i", i+1)
		}
		assert.Zero(t, time.Since(began))
		var all sync.WaitGroup
		for range 17 {
			all.Go(func() { log.Info("dropped") })
		}
		all.Wait()
		log.Info("dropped")
		assert.Equal(t, asynclog.Patience, time.Since(began))

		close(g.open)
		synctest.Wait()
		log.Info("later")
		require.NoError(t, logs.Close())
		lines := g.lines()
		require.Len(t, lines, asynclog.Capacity+3)
		for i := range asynclog.Capacity + 1 {
			require.Equal(t, fmt.Sprintf("level=INFO msg=line i=%d", i), lines[i])
		}
		assert.Equal(t, []string{`level=WARN msg="log lines dropped" lines=18`, "level=INFO msg=later"}, lines[asynclog.Capacity+1:])
	})
}

// If there is room again before the next line is logged, the notice comes before
// that line, and a slow writer loses nothing.
func TestASlowWriterLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		logs := asynclog.New(plain(slow{&buf, asynclog.Patience / 2}))
		log := slog.New(logs)
		for i := range 2 * asynclog.Capacity {
			log.Info("line", "i", i)
		}
		time.Sleep(2 * asynclog.Capacity * asynclog.Patience)
		require.NoError(t, logs.Close())
		assert.Equal(t, 2*asynclog.Capacity, strings.Count(buf.String(), "\n"))
		assert.NotContains(t, buf.String(), "dropped")
	})
}

type slow struct {
	w     io.Writer
	takes time.Duration
}

func (s slow) Write(p []byte) (int, error) { time.Sleep(s.takes); return s.w.Write(p) }

func TestTheNoticeComesBeforeTheNextLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		logs := asynclog.New(plain(g))
		log := slog.New(logs)
		for range asynclog.Capacity + 5 {
			log.Info("line")
		}
		g.open <- struct{}{} // one line is written
		synctest.Wait()
		log.Info("next")
		log.Info("dropped")
		close(g.open)
		require.NoError(t, logs.Close())
		lines := g.lines()
		assert.Equal(t, []string{
			`level=WARN msg="log lines dropped" lines=4`,
			"level=INFO msg=next",
			`level=WARN msg="log lines dropped" lines=1`,
		}, lines[asynclog.Capacity+1:])
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		logs := asynclog.New(plain(g))
		log := slog.New(logs)
		for range asynclog.Capacity + 1 {
			log.Info("line")
		}
		waiting := make(chan error)
		go func() {
			waiting <- logs.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelInfo, "line", 0))
		}()
		synctest.Wait()
		began := time.Now()
		assert.ErrorContains(t, logs.Close(), fmt.Sprintf("at least %d lines", asynclog.Capacity))
		assert.Equal(t, asynclog.Patience, time.Since(began))
		assert.ErrorIs(t, <-waiting, asynclog.ErrClosed, "a call that waits ends with Close")
		require.NoError(t, logs.Close())
		assert.ErrorIs(t, logs.Handle(t.Context(), slog.Record{}), asynclog.ErrClosed)
		close(g.open) // the bubble ends only when the goroutine has ended
	})
}

// The last lines say why a program ends. A writer that is slow and not blocked gets the
// time to write them.
func TestCloseWaitsForASlowWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, takes := range []time.Duration{5 * time.Millisecond, 10 * time.Millisecond} {
			var buf bytes.Buffer
			logs := asynclog.New(plain(slow{&buf, takes}))
			log := slog.New(logs)
			for i := range 900 {
				log.Info("line", "i", i)
			}
			log.Error("stopped", "err", "the reason")
			began := time.Now()
			require.NoError(t, logs.Close())
			assert.Equal(t, 901, strings.Count(buf.String(), "\n"))
			assert.Contains(t, buf.String(), "the reason")
			assert.LessOrEqual(t, time.Since(began), 10*asynclog.Patience)
		}
	})
}

// A program that is told to end does not wait for ever.
func TestCloseGivesUpOnAWriterThatIsTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := asynclog.New(plain(slow{io.Discard, asynclog.Patience / 2}))
		log := slog.New(logs)
		for range 900 {
			log.Info("line")
		}
		began := time.Now()
		require.ErrorContains(t, logs.Close(), "blocked or too slow")
		assert.LessOrEqual(t, time.Since(began), 10*asynclog.Patience+asynclog.Patience/10)
		time.Sleep(time.Hour)
	})
}

// However many callers wait, and although the writer goes on from time to time.
func TestNoCallWaitsLongerThanPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		logs := asynclog.New(plain(slow{&buf, 9 * asynclog.Patience / 10}))
		log := slog.New(logs)
		for range asynclog.Capacity + 1 {
			log.Info("line")
		}
		var all sync.WaitGroup
		for range 17 {
			all.Go(func() {
				began := time.Now()
				log.Info("line")
				assert.LessOrEqual(t, time.Since(began), asynclog.Patience)
			})
		}
		all.Wait()
		time.Sleep(2 * asynclog.Capacity * asynclog.Patience)
		require.NoError(t, logs.Close())
		written, dropped := strings.Count(buf.String(), "msg=line"), 0
		for line := range strings.Lines(buf.String()) {
			var n int
			if _, err := fmt.Sscanf(line, `level=WARN msg="log lines dropped" lines=%d`, &n); err == nil {
				dropped += n
			}
		}
		assert.Equal(t, asynclog.Capacity+18, written+dropped, "each line is written or counted")
	})
}

func TestErrorsOfTheWriterAreIgnoredAsBySlog(t *testing.T) {
	logs := asynclog.New(plain(failing{}))
	slog.New(logs).Info("line")
	require.NoError(t, logs.Close())
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("EPIPE") }

// A Poller whose log is a pipe that nobody reads delivers its records and ends when
// it is told to.
func TestAPipelineWithAPipeThatNobodyReads(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			var handler slog.Handler = slog.NewTextHandler(w, nil)
			closeLog := func() error { return nil }
			if !blocking {
				logs := asynclog.New(handler)
				handler, closeLog = logs, logs.Close
			}
			var src sourcetest.Fake[int]
			var out sinktest.Transactional[int]
			src.Append(1, 2, 3)
			p := poller.Poller[int]{Name: "test", Source: &src, Sink: &out, Checkpointer: &out, Logger: slog.New(handler)}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			time.Sleep(time.Minute)
			cancel()
			synctest.Wait()
			if blocking { // this is the fault that the package is for
				assert.Empty(t, ended)
				assert.Empty(t, out.Records())
			} else {
				require.NoError(t, <-ended)
				assert.Equal(t, []int{1, 2, 3}, out.Records())
				assert.Error(t, closeLog())
			}
			_ = r.Close()
		})
	}
}
