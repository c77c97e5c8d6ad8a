package poller_test

import (
	"cmp"
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

func TestEveryStepHasATimeout(t *testing.T) {
	for set, want := range map[time.Duration]time.Duration{0: time.Minute, time.Second: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(5)
			var left []time.Duration
			note := func(ctx context.Context) error {
				at, ok := ctx.Deadline()
				require.True(t, ok)
				left = append(left, time.Until(at))
				return nil
			}
			w.onLoad = note
			w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return note(ctx) }
			w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return note(ctx) }
			w.onSave = func(ctx context.Context, _, _ source.Cursor) error { return note(ctx) }
			p := w.poller()
			p.Deadline = set
			require.NoError(t, p.Drain(t.Context()))
			assert.Equal(t, []time.Duration{want, want, want, want}, left)
		})
	}
}

func TestTimedOutFetchAsksForHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(40)
		w.onFetch = func(ctx context.Context, _ source.Cursor, limit int) error {
			return slow(ctx, time.Duration(limit)*25*time.Second) // two records fit into a minute
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, seq(1, 40), w.written)
		assert.Equal(t, []string{"load", "fetch +10", "fetch +5", "fetch +2"}, w.calls[:4])
	})
}

// The write during the prefetch doubles the limit. The limit of the prefetch is
// halved, not the doubled one.
func TestTimedOutPrefetchAsksForHalfOfItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(40)
		w.onFetch = func(ctx context.Context, _ source.Cursor, limit int) error {
			return slow(ctx, time.Duration(limit)*25*time.Second)
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, seq(1, 40), w.written)
		assert.Equal(t, 1, w.count("fetch 4+4"))
		assert.Equal(t, 1, w.count("fetch 4+2"))
	})
}

func TestTimedOutFetchAsksForAtLeastOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(40)
		hour := until(time.Hour, context.DeadlineExceeded)
		w.onFetch = func(ctx context.Context, _ source.Cursor, limit int) error {
			assert.Positive(t, limit)
			if hour() != nil {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, 1, w.count("fetch +10"))
		assert.Greater(t, w.count("fetch +1"), 20)
		assert.Equal(t, seq(1, 40), w.written)
	})
}

// A driver may report any code for a cancelled query, even one that would end the
// run if the server had sent it.
func TestTimedOutStepIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		first := true
		w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error {
			if first {
				first = false
				<-ctx.Done()
				return sqlState("42P01")
			}
			return nil
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Contains(t, w.logged("failing")[0], "no answer within the timeout of 1m0s")
	})
}

// In both cases the context of the step has ended. Hooks can tell them apart.
func TestHooksDistinguishATimeoutFromAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error {
			<-ctx.Done()
			return ctx.Err()
		}
		p := w.poller()
		var timedOut []bool
		p.Hooks.StepEnd = func(ctx context.Context, i poller.StepInfo) {
			if i.Op == poller.OpFetch {
				assert.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
				timedOut = append(timedOut, errors.Is(i.Err, poller.ErrTimeout))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		require.NoError(t, p.Run(ctx))
		assert.Equal(t, []bool{true, false}, timedOut, "the end of the run interrupts the second fetch")
	})
}

func TestTimedOutWriteContinuesFromTheCheckpointWithHalf(t *testing.T) {
	for committed, want := range map[bool][]string{
		false: {"load", "write -10", "load", "write -5", "save -5"},
		true:  {"load", "write -10", "load", "save -10", "write 10-15", "save 10-15"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(40)
			w.onWrite = func(ctx context.Context, b source.Batch[int]) error {
				w.onWrite = nil
				<-ctx.Done()
				if committed { // like an exactly-once sink whose answer is lost
					w.mu.Lock()
					defer w.mu.Unlock()
					w.written, w.stored = append(w.written, b.Records...), b.To
				}
				return ctx.Err()
			}
			p := w.poller()
			require.NoError(t, p.Drain(t.Context()))
			assert.Equal(t, seq(1, 40), w.written)
			assert.Equal(t, int64(40), p.Status().Records)
			assert.Equal(t, int64(w.count("write")-w.count("write -10")+w.count("save -10")), p.Status().Batches)
			assert.Zero(t, p.Status().Attempts)
			assert.Len(t, w.logged("recovered"), 1)
			assert.Equal(t, want, w.steps()[:len(want)])
		})
	}
}

func TestTimedOutWriteDetectsAnotherWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(40)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error {
			<-ctx.Done()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.stored = "30"
			return ctx.Err()
		}
		require.ErrorIs(t, w.poller().Run(t.Context()), poller.ErrConflict)
		assert.Equal(t, 1, w.count("write"))
	})
}

func TestTimedOutWriteOfOneRecordIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		hour := until(time.Hour, context.DeadlineExceeded)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error {
			if hour() != nil {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, seq(1, 1), w.written)
		assert.Equal(t, 1, w.count("fetch"))
	})
}

// Another writer in lockstep has stored the same cursor as the write that timed out.
// Only Save can tell which writer stored it.
func TestTimedOutWriteDetectsAnotherWriterAtTheSameCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(40)
		w.onWrite = func(ctx context.Context, b source.Batch[int]) error {
			<-ctx.Done()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.stored = b.To
			return ctx.Err()
		}
		breakStep(w, poller.OpSave, func() error { return poller.ErrConflict })
		require.ErrorIs(t, w.poller().Run(t.Context()), poller.ErrConflict)
		assert.Equal(t, []string{"load", "write -10", "load", "save -10"}, w.steps())
	})
}

func TestPermanentErrorAfterTheTimeoutIsPermanent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(40)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error {
			<-ctx.Done()
			return retry.Permanent(ctx.Err())
		}
		require.Error(t, w.poller().Run(t.Context()))
		assert.Equal(t, 1, w.count("write"))
	})
}

func TestStepThatIgnoresItsTimeoutIsOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(15)
		release := make(chan struct{})
		w.onWrite = func(context.Context, source.Batch[int]) error {
			<-release
			return nil
		}
		p := w.poller()
		done := make(chan error)
		go func() { done <- p.Drain(t.Context()) }()

		time.Sleep(time.Minute)
		assert.False(t, p.Status().Overdue, "it has some time to clean up")
		time.Sleep(time.Hour)
		assert.True(t, p.Status().Overdue)
		require.Len(t, w.logged("overdue"), 6, "at once, and then less and less often")
		assert.Contains(t, w.logged("overdue")[0], "op=write deadline=1m0s from=\"\" after=1m6s\n")
		assert.Contains(t, w.logged("overdue")[5], "after=32m6s\n")
		assert.Equal(t, 1, w.count("write"), "not called a second time")

		close(release)
		require.NoError(t, <-done, "not abandoned")
		assert.False(t, p.Status().Overdue)
		assert.Len(t, w.logged("no longer overdue"), 1)
		assert.Equal(t, seq(1, 15), w.written)
	})
}

func TestOverdueCountsBothSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(15)
		fetch, write := make(chan struct{}), make(chan struct{})
		w.onFetch = func(_ context.Context, after source.Cursor, _ int) error {
			if after != "" {
				<-fetch
			}
			return nil
		}
		w.onWrite = func(context.Context, source.Batch[int]) error {
			<-write
			return nil
		}
		p := w.poller()
		done := make(chan error)
		go func() { done <- p.Drain(t.Context()) }()
		time.Sleep(time.Hour)
		close(write)
		synctest.Wait()
		assert.True(t, p.Status().Overdue, "the fetch is still overdue")
		close(fetch)
		require.NoError(t, <-done)
		assert.False(t, p.Status().Overdue)
	})
}

func TestTheLongestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(15)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return slow(ctx, 24*time.Hour) }
		p := w.poller()
		p.Deadline = math.MaxInt64
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, seq(1, 15), w.written)
		assert.Empty(t, w.logged("overdue"))
	})
}

// A network that loses everything is mentioned within ten seconds, once, and is not an
// outage until the timeout.
func TestABlackHoleIsMentionedSoon(t *testing.T) {
	for _, op := range []poller.Op{poller.OpLoad, poller.OpFetch, poller.OpWrite, poller.OpSave} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(15)
			hour := until(time.Hour, errOutage)
			hole := func(ctx context.Context) error {
				if hour() != nil {
					<-ctx.Done()
				}
				return ctx.Err()
			}
			switch op {
			case poller.OpLoad:
				w.onLoad = hole
			case poller.OpFetch:
				w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return hole(ctx) }
			case poller.OpWrite:
				w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return hole(ctx) }
			case poller.OpSave:
				w.onSave = func(ctx context.Context, _, _ source.Cursor) error { return hole(ctx) }
			}
			p := w.poller()
			stop := start(t, p)
			time.Sleep(7 * time.Second)
			assert.Empty(t, w.logged("no answer yet"))
			assert.NotContains(t, p.Status().Summary(time.Now()), "answer")
			time.Sleep(3 * time.Second)
			synctest.Wait()
			require.Len(t, w.logged("no answer yet"), 1)
			assert.Contains(t, w.logged("no answer yet")[0], "level=WARN msg=\"no answer yet\" pipeline=test op="+string(op)+" deadline=1m0s from=\"\" after=8s\n")
			assert.Equal(t, "waiting for an answer for 10s ("+string(op)+")", p.Status().Summary(time.Now()))
			assert.Zero(t, p.Status().Attempts, "it may still answer")
			assert.False(t, p.Status().Overdue)
			time.Sleep(2 * time.Hour)
			assert.Len(t, w.logged("failing, will retry"), 1)
			assert.Len(t, w.logged("recovered"), 1)
			assert.Len(t, w.logged("no answer yet"), 1, "the other attempts are part of the failure")
			assert.Empty(t, w.logged("answered"))
			require.NoError(t, stop())
			assert.Equal(t, seq(1, 15), w.written[len(w.written)-15:])
		})
	}
}

func TestASlowAnswerEndsItsMention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return slow(ctx, 20*time.Second) }
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Len(t, w.logged("no answer yet"), 1)
		assert.Contains(t, w.logged("answered")[0], "op=write after=20s\n")
		assert.Empty(t, w.logged("overdue"))
	})
}

// Neither one attempt nor many together outlast the Retry policy's MaxElapsed, if it is
// not below the Deadline, by more than the second that the last attempt gets.
func TestMaxElapsedLimitsEachAttempt(t *testing.T) {
	for name, answer := range map[string]func(context.Context) error{
		"black hole":    func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"slow refusal":  func(ctx context.Context) error { return cmp.Or(slow(ctx, 700*time.Millisecond), errors.New("refused")) },
		"quick refusal": func(context.Context) error { return errors.New("refused") },
	} {
		for _, limit := range []time.Duration{3 * time.Second, 5 * time.Minute} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for _, step := range []string{"load", "fetch", "write", "save"} {
						w := newWorld(5)
						failing := func(at string) func(context.Context) error {
							return func(ctx context.Context) error {
								if at == step {
									return answer(ctx)
								}
								return nil
							}
						}
						w.onLoad = failing("load")
						w.onFetch = func(ctx context.Context, _ source.Cursor, _ int) error { return failing("fetch")(ctx) }
						w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return failing("write")(ctx) }
						w.onSave = func(ctx context.Context, _, _ source.Cursor) error { return failing("save")(ctx) }
						p := w.poller()
						p.Deadline, p.Retry = min(time.Minute, limit), retry.Policy{MaxElapsed: limit}
						begin := time.Now()
						var failed *poller.Error
						require.ErrorAs(t, p.Drain(t.Context()), &failed, step)
						assert.EqualValues(t, step, failed.Op)
						assert.LessOrEqual(t, time.Since(begin), limit+time.Second, step)
						assert.GreaterOrEqual(t, time.Since(begin), limit, "%s: it waits as long as it may", step)
					}
				})
			})
		}
	}
}

// MaxElapsed limits failures. A first attempt that works may take longer.
func TestMaxElapsedBelowTheTimeOfAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(50)
		w.onWrite = func(ctx context.Context, _ source.Batch[int]) error { return slow(ctx, 50*time.Second) }
		p := w.poller()
		p.Retry.MaxElapsed = 30 * time.Second
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, seq(1, 50), w.written)
	})
}
