package poller_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

var raceDetector bool

const week = 7 * 24 * time.Hour

// flapping returns a hook that fails for the second half of each period.
func flapping(period time.Duration) func() error {
	return func() error {
		if now := time.Now(); now.Sub(now.Truncate(period)) >= period/2 {
			return errOutage
		}
		return nil
	}
}

// everyOther returns a hook that fails on every other call.
func everyOther() func() error {
	var n atomic.Int64
	return func() error {
		if n.Add(1)%2 == 1 {
			return errOutage
		}
		return nil
	}
}

// trouble changes a pipeline so that something fails.
type trouble func(*world, *poller.Poller[int])

func outage(op poller.Op) trouble {
	return func(w *world, p *poller.Poller[int]) {
		fail := func() error { return errOutage }
		if breakStep(w, op, fail); op == poller.OpDeadLetter {
			w.reject(1)
			p.DeadLetter = &letters{fail: fail}
		}
	}
}

// troubles has a trouble for each row of the table in LOGS.md.
var troubles = map[string]trouble{
	"load fails all week":       outage(poller.OpLoad),
	"fetch fails all week":      outage(poller.OpFetch),
	"write fails all week":      outage(poller.OpWrite),
	"deadletter fails all week": outage(poller.OpDeadLetter),
	"save fails all week":       outage(poller.OpSave),
	"a step fails for half of each minute": func(w *world, _ *poller.Poller[int]) {
		breakStep(w, poller.OpFetch, flapping(time.Minute))
	},
	"a step fails for half of each hour": func(w *world, _ *poller.Poller[int]) {
		breakStep(w, poller.OpFetch, flapping(time.Hour))
	},
	"a step fails every other time": func(w *world, _ *poller.Poller[int]) {
		breakStep(w, poller.OpFetch, everyOther())
	},
	"every step fails every other time": func(w *world, _ *poller.Poller[int]) {
		for _, op := range []poller.Op{poller.OpFetch, poller.OpWrite, poller.OpSave} {
			breakStep(w, op, everyOther())
		}
	},
	"records are held back all week": func(w *world, _ *poller.Poller[int]) {
		w.answer = hold(0)
	},
	"records are held back for two minutes, by one transaction after another": func(w *world, _ *poller.Poller[int]) {
		w.answer = func(b *source.Batch[int]) {
			b.Held = &source.Held{Since: time.Now().Truncate(2 * time.Minute), By: []string{"pid 7 (psql)"}}
		}
	},
	"a call does not return": func(w *world, _ *poller.Poller[int]) {
		w.onFetch = func(_ context.Context, after source.Cursor, _ int) error {
			if after == "" {
				time.Sleep(week + time.Hour)
			}
			return nil
		}
	},
	"every call takes ten seconds": func(w *world, _ *poller.Poller[int]) {
		w.onFetch = func(context.Context, source.Cursor, int) error { time.Sleep(10 * time.Second); return nil }
	},
	"every call returns long after its timeout": func(w *world, _ *poller.Poller[int]) {
		w.onFetch = func(context.Context, source.Cursor, int) error { time.Sleep(2 * time.Minute); return nil }
	},
	"a record is rejected every six seconds": func(w *world, p *poller.Poller[int]) {
		w.onWrite = func(context.Context, source.Batch[int]) error { return sink.Reject(errOutage) }
		p.DeadLetter, p.DeadLetterLimit = &letters{}, 200_000
		p.BatchSize = 1
	},
}

// A week of trouble logs at most as much as LOGS.md says, and more than half of it.
func TestAWeekOfTroubleIsAPageOfLog(t *testing.T) {
	if raceDetector {
		t.Skip("a million polls are slow with the race detector, and race no more than a thousand do")
	}
	text, err := os.ReadFile("LOGS.md")
	require.NoError(t, err)
	documented := regexp.MustCompile(`(?m)^\| ([^|]+) \| ([\d,]+) \| ([\d,]+) kB \|$`).FindAllStringSubmatch(string(text), -1)
	number := func(s string) int {
		n, err := strconv.Atoi(strings.ReplaceAll(s, ",", ""))
		require.NoError(t, err)
		return n
	}
	assert.Len(t, documented, len(troubles))
	for _, row := range documented {
		t.Run(row[1], func(t *testing.T) {
			t.Parallel()
			change, ok := troubles[row[1]]
			require.True(t, ok, "not measured")
			lines, bytes := aWeek(t, change)
			kB := (bytes + 999) / 1000
			t.Logf("%d lines, %d kB", lines, kB)
			maxLines, maxKB := number(row[2]), number(row[3])
			assert.LessOrEqual(t, lines, maxLines)
			assert.LessOrEqual(t, kB, maxKB)
			assert.Greater(t, 2*lines, maxLines, "lines: LOGS.md states too many")
			assert.Greater(t, 2*kB, maxKB, "kB: LOGS.md states too many")
		})
	}
}

// aWeek runs a pipeline for a week that receives ten records a minute.
func aWeek(t *testing.T, change trouble) (lines, bytes int) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		p := w.poller()
		p.Interval = 10 * time.Second
		change(w, p)
		stop := start(t, p)
		for end := time.Now().Add(week); time.Now().Before(end); time.Sleep(time.Minute) {
			w.add(10)
			w.mu.Lock()
			w.calls = nil // there would be a million
			w.mu.Unlock()
		}
		if err := stop(); err != nil {
			require.ErrorIs(t, err, errOutage, "the save that failed all week")
		}
		lines, bytes = strings.Count(w.log.String(), "\n"), w.log.Len()
	})
	return lines, bytes
}

// An outage that lasts is logged, and so is its end, even if many shorter ones
// before it were not.
func TestAnOutageAfterManyIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		day, flap, hour := time.Now().Add(24*time.Hour), flapping(time.Minute), until(time.Hour, errOutage)
		breakStep(w, poller.OpFetch, func() error {
			if time.Now().Before(day) {
				return flap()
			}
			return hour()
		})
		stop := start(t, w.poller())
		time.Sleep(time.Until(day))
		w.mu.Lock()
		w.log.Reset()
		w.mu.Unlock()

		time.Sleep(10*time.Minute + 30*time.Second) // a backoff is at most half a minute
		require.Len(t, w.logged("failing, will retry"), 1, "within ten minutes")
		assert.Regexp(t, ` attempts=\d+ wait=\S+ unlogged=\d+\n$`, w.logged("failing, will retry")[0])
		time.Sleep(time.Hour)
		require.Len(t, w.logged("recovered"), 1)
		assert.Regexp(t, "after=1h[01]m", w.logged("recovered")[0])
		require.NoError(t, stop())
	})
}

// Ten outages are logged in a row, and then one in ten minutes. The end of an outage
// is logged if its beginning was.
func TestFlappingIsLoggedInPairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		breakStep(w, poller.OpFetch, flapping(time.Minute))
		stop := start(t, w.poller())
		time.Sleep(2*time.Hour + 10*time.Second)
		require.NoError(t, stop())
		failing, recovered := w.logged("failing, will retry"), w.logged("recovered")
		assert.Len(t, recovered, len(failing))
		assert.InDelta(t, 10+12, len(failing), 1)
		for _, line := range failing[:10] {
			assert.NotContains(t, line, "unlogged")
		}
		left, logged := 0, regexp.MustCompile(`unlogged=(\d+)`)
		for _, line := range failing {
			if m := logged.FindStringSubmatch(line); m != nil {
				n, err := strconv.Atoi(m[1])
				require.NoError(t, err)
				left += n
			}
		}
		assert.InDelta(t, 120, left+len(failing), 10, "every outage is logged or counted")
	})
}

// With a long hold every five minutes, every other one is logged after the first
// ones used up the budget. Short holds and polls without a hold do not count.
func TestUnloggedCountsTheEpisodesBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, began := newWorld(0), time.Now()
		w.answer = func(b *source.Batch[int]) {
			every, lasts := time.Minute, 30*time.Second
			if time.Since(began) >= time.Hour {
				every, lasts = 5*time.Minute, 2*time.Minute
			}
			if since := time.Now().Truncate(every); time.Since(since) < lasts {
				b.Held = &source.Held{Since: since}
			}
		}
		stop := start(t, w.poller())
		time.Sleep(4 * time.Hour)
		require.NoError(t, stop())
		lines := w.logged("records held back")
		require.Greater(t, len(lines), 25)
		for i, line := range lines {
			if i < 19 { // ten, and nine more while the budget is used up
				assert.NotContains(t, line, "unlogged")
			} else {
				assert.Contains(t, line, " unlogged=1\n")
			}
		}
	})
}

func TestTheLogOfRejectionsLagsByAtMostHalf(t *testing.T) {
	w := newWorld(5000)
	w.reject(seq(1, 5000)...)
	p := w.poller()
	p.DeadLetter, p.DeadLetterLimit = &letters{}, 5000
	require.NoError(t, p.Drain(t.Context()))
	lines := w.logged("record rejected")
	assert.Len(t, lines, 10+9, "the first ten, and the powers of two from 16 to 4096")
	assert.Contains(t, lines[9], "from=9 to=10 ")
	assert.Contains(t, lines[18], "from=4095 to=4096 ")
	for i, line := range lines[:10] {
		assert.Contains(t, line, fmt.Sprintf(" total=%d\n", i+1))
	}
	assert.Contains(t, lines[18], " total=4096\n")
}
