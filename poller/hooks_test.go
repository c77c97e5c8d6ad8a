package poller_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// observe returns hooks that append a line for each call to *to.
func observe(mu *sync.Mutex, to *[]string) poller.Hooks {
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		*to = append(*to, fmt.Sprintf(format, args...))
	}
	return poller.Hooks{
		StepEnd: func(_ context.Context, i poller.StepInfo) {
			note("%s: %s %q-%q attempt %d, %d records, %d bytes, %v: %v", i.Pipeline, i.Op, i.From, i.To, i.Attempt, i.Records, i.Bytes, i.Duration, i.Err)
		},
		Backoff: func(i poller.BackoffInfo) {
			note("%s: backoff %s after %d: %d %v", i.Pipeline, i.Op, i.Attempt, i.Class, i.Err)
		},
		Poll: func(i poller.PollInfo) {
			note("%s: poll %q-%q %d records, %d bytes, more %t, %v", i.Pipeline, i.From, i.To, i.Records, i.Bytes, i.More, i.Duration)
		},
		DeadLetter: func(i poller.DeadLetterInfo) { note("%s: dead letter %q-%q: %v", i.Pipeline, i.From, i.To, i.Err) },
	}
}

func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(2), &letters{}
		w.answer = func(b *source.Batch[int]) { b.Bytes = 8 * len(b.Records) }
		w.reject(2)
		w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return slow(ctx, time.Second) }
		breakStep(w, poller.OpSave, until(time.Nanosecond, errOutage))
		var mu sync.Mutex
		var seen []string
		p := w.poller()
		p.DeadLetter, p.Hooks, p.BatchSize = l, observe(&mu, &seen), 1
		require.NoError(t, p.Drain(t.Context()))
		seen = lacking(seen, `fetch "1"`) // prefetched, so its position varies
		assert.Equal(t, []string{
			`test: load ""-"" attempt 1, 0 records, 0 bytes, 0s: <nil>`,
			`test: fetch ""-"1" attempt 1, 1 records, 8 bytes, 1s: <nil>`,
			`test: write ""-"1" attempt 1, 1 records, 8 bytes, 0s: <nil>`,
			`test: save ""-"1" attempt 1, 1 records, 8 bytes, 0s: connection refused`,
			`test: backoff save after 1: 0 connection refused`,
			`test: save ""-"1" attempt 2, 1 records, 8 bytes, 0s: <nil>`,
		}, seen[:6])
		assert.Regexp(t, `^test: poll ""-"1" 1 records, 8 bytes, more true, 1\.\d+s$`, seen[6])
		assert.Equal(t, []string{
			`test: write "1"-"2" attempt 1, 1 records, 8 bytes, 0s: rejected: record 2 is poison`,
			`test: deadletter "1"-"2" attempt 1, 1 records, 8 bytes, 0s: <nil>`,
			`test: dead letter "1"-"2": rejected: record 2 is poison`,
			`test: save "1"-"2" attempt 1, 1 records, 8 bytes, 0s: <nil>`,
		}, seen[7:11])
		assert.Regexp(t, `^test: poll "1"-"2" 0 records, 0 bytes, more false, `, seen[11])
		assert.Len(t, seen, 12)
	})
}

func lacking(lines []string, part string) (kept []string) {
	for _, l := range lines {
		if !strings.Contains(l, part) {
			kept = append(kept, l)
		}
	}
	return kept
}

func TestStepsReceiveTheContextOfStepBegin(t *testing.T) {
	type key struct{}
	w := newWorld(5)
	w.onWrite = func(ctx context.Context, _ source.Batch[int]) error {
		assert.Equal(t, poller.OpWrite, ctx.Value(key{}))
		return nil
	}
	ended := 0
	p := w.poller()
	p.Hooks = poller.Hooks{
		StepBegin: func(ctx context.Context, i poller.StepInfo) context.Context {
			assert.False(t, i.Start.IsZero())
			return context.WithValue(ctx, key{}, i.Op)
		},
		StepEnd: func(ctx context.Context, i poller.StepInfo) {
			assert.Equal(t, i.Op, ctx.Value(key{}))
			ended++
		},
	}
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, 4, ended)
}

func TestStepsReceiveTheValuesOfTheContext(t *testing.T) {
	type key struct{}
	w := newWorld(5)
	seen := 0
	note := func(ctx context.Context) error {
		assert.Equal(t, "x", ctx.Value(key{}))
		seen++
		return nil
	}
	w.onLoad = note
	w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return note(ctx) }
	w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return note(ctx) }
	w.onSave = func(ctx context.Context, _, _ source.Cursor) error { return note(ctx) }
	require.NoError(t, w.poller().Drain(context.WithValue(t.Context(), key{}, "x")))
	assert.Equal(t, 4, seen)
}

func TestJoinHooks(t *testing.T) {
	var got []string
	one := func(name string) poller.Hooks {
		return poller.Hooks{
			StepBegin: func(ctx context.Context, _ poller.StepInfo) context.Context {
				got = append(got, name+" begin")
				return context.WithValue(ctx, name, true) //nolint:staticcheck // a string key is sufficient here
			},
			StepEnd:    func(context.Context, poller.StepInfo) { got = append(got, name+" end") },
			Backoff:    func(poller.BackoffInfo) { got = append(got, name+" backoff") },
			Poll:       func(poller.PollInfo) { got = append(got, name+" poll") },
			DeadLetter: func(poller.DeadLetterInfo) { got = append(got, name+" dead") },
		}
	}
	j := poller.JoinHooks(poller.Hooks{}, one("a"), poller.Hooks{}, one("b"))
	ctx := j.StepBegin(t.Context(), poller.StepInfo{})
	assert.Equal(t, true, ctx.Value("a"))
	assert.Equal(t, true, ctx.Value("b"))
	j.StepEnd(ctx, poller.StepInfo{})
	j.Backoff(poller.BackoffInfo{})
	j.Poll(poller.PollInfo{})
	j.DeadLetter(poller.DeadLetterInfo{})
	assert.Equal(t, []string{"a begin", "b begin", "a end", "b end", "a backoff", "b backoff", "a poll", "b poll", "a dead", "b dead"}, got)

	assert.Equal(t, poller.Hooks{}, poller.JoinHooks(), "joining nothing gives the zero Hooks")
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		asOf := time.Now().Add(-time.Minute)
		w.answer = func(b *source.Batch[int]) { b.AsOf = asOf }
		p := w.poller()
		assert.Equal(t, poller.Status{Name: "test", Interval: time.Second, State: poller.Stopped}, p.Status(), "before Run")

		stop := start(t, p)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		s := p.Status()
		assert.Equal(t, poller.Idle, s.State)
		assert.WithinDuration(t, time.Now(), s.LastPoll, 1200*time.Millisecond, "empty polls count")
		assert.True(t, s.LastRecord.IsZero())
		assert.Equal(t, asOf, s.AsOf)

		w.mu.Lock()
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return slow(ctx, 30*time.Second) }
		w.mu.Unlock()
		w.add(25)
		time.Sleep(10 * time.Second)
		s = p.Status()
		assert.Equal(t, poller.Working, s.State)
		assert.Equal(t, poller.OpWrite, s.Op)
		assert.Zero(t, s.Records)

		time.Sleep(2 * time.Minute)
		s = p.Status()
		assert.Equal(t, poller.Idle, s.State)
		assert.Equal(t, int64(25), s.Records)
		assert.Equal(t, int64(3), s.Batches)
		assert.Equal(t, source.Cursor("25"), s.Cursor)
		assert.False(t, s.LastRecord.IsZero())
		require.NoError(t, stop())
		assert.Equal(t, poller.Stopped, p.Status().State)
		assert.Equal(t, int64(25), p.Status().Records, "kept after Run has returned")
	})
}

func TestLogOfAHealthyPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(0)
		stop := start(t, w.poller())
		for range 1000 {
			w.add(10)
			time.Sleep(time.Minute)
		}
		require.NoError(t, stop())
		lines := strings.Split(strings.TrimSpace(w.log.String()), "\n")
		require.Len(t, lines, 2)
		assert.Contains(t, lines[0], `level=INFO msg=started pipeline=test cursor=""`)
		assert.Contains(t, lines[1], `level=INFO msg=stopped pipeline=test cursor=10000 records=10000`)
	})
}

func TestEndWithAnErrorIsLogged(t *testing.T) {
	w := newWorld(5)
	breakStep(w, poller.OpWrite, func() error { return retry.Permanent(errOutage) })
	require.Error(t, w.poller().Run(t.Context()))
	require.Len(t, w.logged("stopped"), 1)
	assert.Contains(t, w.logged("stopped")[0], `level=ERROR msg=stopped pipeline=test cursor="" records=0 err="poller: test: write from \"\" to \"5\": connection refused"`)
}

func TestStatusOfASecondRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		breakStep(w, poller.OpFetch, until(time.Hour, errOutage))
		p := w.poller()
		stop := start(t, p)
		time.Sleep(30 * time.Minute)
		require.NoError(t, stop())
		assert.Positive(t, p.Status().Attempts)
		time.Sleep(time.Hour)
		stop = start(t, p)
		synctest.Wait()
		assert.Zero(t, p.Status().Attempts, "nothing fails in this run")
		require.NoError(t, stop())
	})
}

func TestStatusShowsTheErrorThatEndedARun(t *testing.T) {
	w := newWorld(5)
	w.reject(1)
	p := w.poller()
	require.Error(t, p.Run(t.Context()))
	assert.Contains(t, p.Status().LastError, "record 1 is poison")
}
