package filesink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// uploads is an OnSeal that takes its time and fails as told.
type uploads struct {
	mu    sync.Mutex
	takes time.Duration
	fail  error
	calls []string // "1" for the first segment
	done  []string
}

func (u *uploads) onSeal(ctx context.Context, s filesink.Segment) error {
	name := filepath.Base(s.Path)[len("rows-00000000"):len("rows-0000000001")]
	u.mu.Lock()
	u.calls = append(u.calls, name)
	takes, fail := u.takes, u.fail
	u.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if fail != nil {
		return fail
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done = append(u.done, name)
	return nil
}

func (u *uploads) set(takes time.Duration, fail error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.takes, u.fail = takes, fail
}

func (u *uploads) accepted() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string{}, u.done...)
}

// An upload that takes an hour, or fails, does not hold up the pipeline, which has a
// Deadline of a minute.
func TestOnSealRunsBesideThePipeline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := t.Context(), t.TempDir()
		u := &uploads{takes: time.Hour}
		f := open(t, dir, filesink.Options[order]{SegmentRows: 2, OnSeal: u.onSeal})
		var src sourcetest.Fake[order]
		src.Append(batch(0, 6).Records...)
		p := &poller.Poller[order]{Name: "orders", Source: &src, Sink: f, Checkpointer: f, Uploads: f.Pending, BatchSize: 2, Logger: slog.New(slog.DiscardHandler)}
		start := time.Now()
		require.NoError(t, p.Drain(ctx))
		require.Zero(t, time.Since(start), "the time of the bubble")
		require.False(t, p.Status().Overdue)
		synctest.Wait()
		assert.Equal(t, sink.Pending{Segments: 3, Since: start.UTC()}, p.Status().Uploads)

		time.Sleep(90 * time.Minute)
		assert.Equal(t, []string{"01"}, u.accepted())
		assert.Equal(t, 2, f.Pending().Segments)
		assert.Equal(t, 90*time.Minute, f.Pending().Lag(time.Now()))
		require.NoError(t, f.Seal(ctx), "waits")
		assert.Equal(t, []string{"01", "02", "03"}, u.accepted())
		assert.Equal(t, 3*time.Hour, time.Since(start))
		assert.Zero(t, f.Pending())
		assert.Zero(t, f.Pending().Lag(time.Now()))
		require.NoError(t, f.Close())
		require.NoError(t, open(t, dir, filesink.Options[order]{OnSeal: u.onSeal}).Seal(ctx))
		assert.Len(t, u.accepted(), 3, "not announced again")
	})
}

func TestOnSealIsRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var log safeBuffer
		u := &uploads{fail: errors.New("no answer")}
		f := open(t, t.TempDir(), filesink.Options[order]{SegmentRows: 1, OnSeal: u.onSeal, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, f.Write(ctx, batch(0, 1)))
		require.NoError(t, f.Write(ctx, batch(1, 2)))
		time.Sleep(10 * time.Minute)
		p := f.Pending()
		assert.Equal(t, 2, p.Segments)
		assert.Greater(t, p.Attempts, 10)
		assert.Less(t, p.Attempts, 200, "with a backoff")
		require.EqualError(t, p.Err, "no answer")
		assert.Equal(t, 10*time.Minute, time.Since(p.Since))
		assert.NotContains(t, u.calls, "02", "in order")
		require.Regexp(t, `^\S+ level=WARN msg="OnSeal failed, will retry" op=announce dir=\S+ segment=rows-0000000001.jsonl err="no answer"\n$`, log.take(), "once")

		waiting, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err := f.Seal(waiting)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "rows-0000000001.jsonl is sealed, but OnSeal has not returned nil")
		require.ErrorContains(t, err, "no answer")

		u.set(0, nil)
		require.NoError(t, f.Seal(ctx))
		assert.Equal(t, []string{"01", "02"}, u.accepted())
		require.Regexp(t, `^\S+ level=INFO msg="OnSeal succeeded after retry" op=announce dir=\S+ segment=rows-0000000001.jsonl\n$`, log.take())
		require.NoError(t, f.Close())
	})
}

// Close ends the context and waits for OnSeal. The next Open announces only the
// segments that were not accepted, in order.
func TestOnSealAcrossRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := t.Context(), t.TempDir()
		u := &uploads{}
		o := filesink.Options[order]{SegmentRows: 1, OnSeal: u.onSeal, Logger: slog.New(slog.DiscardHandler)}
		f := open(t, dir, o)
		require.NoError(t, f.Write(ctx, batch(0, 1)))
		synctest.Wait()
		u.set(time.Hour, nil)
		sealed := time.Now()
		for i := 1; i < 4; i++ {
			require.NoError(t, f.Write(ctx, batch(i, i+1)))
		}
		synctest.Wait()
		waited := make(chan error)
		go func() { waited <- f.Seal(ctx) }()
		synctest.Wait()
		require.NoError(t, f.Close())
		require.ErrorContains(t, <-waited, "OnSeal has not returned nil")
		require.Equal(t, sealed, time.Now(), "Close does not wait for an upload to succeed")
		require.Equal(t, []string{"01"}, u.accepted())

		time.Sleep(time.Minute)
		u.set(0, errors.New("no answer"))
		f = open(t, dir, o)
		synctest.Wait()
		require.Equal(t, 3, f.Pending().Segments)
		require.Equal(t, time.Minute, time.Since(f.Pending().Since), "since it was sealed, not since the start")
		require.NoError(t, f.Write(ctx, batch(4, 5)))
		u.set(0, nil)
		require.NoError(t, f.Seal(ctx))
		require.Equal(t, []string{"01", "02", "03", "04", "05"}, u.accepted())
		require.NoError(t, f.Close())
	})
}

// OnSeal may use the Dir, even while it is closed.
func TestOnSealUsesTheDir(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f *filesink.Dir[order]
		closing := make(chan struct{})
		got := make(chan error, 2)
		f = open(t, t.TempDir(), filesink.Options[order]{SegmentRows: 1, OnSeal: func(ctx context.Context, _ filesink.Segment) error {
			_, err := f.Load(context.Background())
			got <- err
			close(closing)
			<-ctx.Done()
			_, err = f.History()
			got <- err
			return nil
		}})
		require.NoError(t, f.Write(t.Context(), batch(0, 1)))
		<-closing
		require.NoError(t, f.Close())
		require.NoError(t, <-got)
		require.ErrorContains(t, <-got, "file already closed")
	})
}

// Segments that nobody accepts do not fill the checkpoint without end.
func TestOnSealFarBehind(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := open(t, t.TempDir(), filesink.Options[order]{SegmentRows: 1, Logger: slog.New(slog.DiscardHandler),
		OnSeal: func(context.Context, filesink.Segment) error { return fmt.Errorf("no answer") }})
	f.SetMaxPending(3)
	for i := range 3 {
		require.NoError(t, f.Write(ctx, batch(i, i+1)))
	}
	for range 2 {
		require.ErrorContains(t, f.Write(ctx, batch(3, 4)), "OnSeal has not accepted 3 sealed segments")
	}
	at, err := f.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, cursor(3), at)
}
