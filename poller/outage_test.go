package poller_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

// sqlState is an error like those of a Postgres driver.
type sqlState string

func (s sqlState) SQLState() string { return string(s) }
func (s sqlState) Error() string    { return "state " + string(s) + `: invalid input "secret"` }

// breakStep makes a step return the errors of fail.
func breakStep(w *world, op poller.Op, fail func() error) {
	switch op {
	case poller.OpLoad:
		w.onLoad = func(context.Context) error { return fail() }
	case poller.OpFetch:
		w.onFetch = func(context.Context, source.Cursor, int) error { return fail() }
	case poller.OpWrite:
		w.onWrite = func(context.Context, source.Batch[int]) error { return fail() }
	case poller.OpSave:
		w.onSave = func(context.Context, source.Cursor, source.Cursor) error { return fail() }
	}
}

var steps = []poller.Op{poller.OpLoad, poller.OpFetch, poller.OpWrite, poller.OpSave}

func TestOutageIsRetried(t *testing.T) {
	for _, op := range steps {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(35)
				breakStep(w, op, until(24*time.Hour, errOutage))
				began := time.Now()
				require.NoError(t, w.poller().Drain(t.Context()))
				assert.Equal(t, seq(1, 35), w.written)
				took := time.Since(began)
				assert.GreaterOrEqual(t, took, 24*time.Hour)
				assert.LessOrEqual(t, took, 24*time.Hour+30*time.Second, "recovers within one backoff")
			})
		})
	}
}

func TestUnknownErrorsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(35)
		breakStep(w, poller.OpWrite, until(time.Hour, errors.New("the dog ate it")))
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Equal(t, seq(1, 35), w.written)
	})
}

func TestSetupErrorEndsRunUnlessTheStepHasSucceeded(t *testing.T) {
	for _, op := range steps {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				noTable := sqlState("42P01")
				w := newWorld(35)
				breakStep(w, op, func() error { return noTable })
				err := w.poller().Drain(t.Context())
				var failed *poller.Error
				require.ErrorAs(t, err, &failed)
				require.ErrorIs(t, err, noTable)
				assert.Equal(t, op, failed.Op)
				assert.Equal(t, 1, failed.Attempts)

				if op == poller.OpLoad {
					return // load happens once in a run
				}
				w = newWorld(35)
				calls, missing := 0, until(time.Hour, noTable)
				breakStep(w, op, func() error {
					if calls++; calls == 1 {
						return nil
					}
					return missing()
				})
				require.NoError(t, w.poller().Drain(t.Context()), "it is treated as an outage")
				assert.Equal(t, seq(1, 35), w.written)
			})
		})
	}
}

func TestRetryPolicyGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		breakStep(w, poller.OpFetch, func() error { return errOutage })
		p := w.poller()
		p.Retry.MaxAttempts = 4
		err := p.Run(t.Context())
		var failed *poller.Error
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, errOutage)
		assert.Equal(t, 4, failed.Attempts)
		assert.Equal(t, 4, w.count("fetch"))
	})
}

func TestBackoffRestartsAfterSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(100)
		n := 0
		breakStep(w, poller.OpWrite, func() error {
			if n++; n%2 == 1 {
				return errOutage
			}
			return nil
		})
		p := w.poller()
		p.Retry.MaxAttempts = 2
		began := time.Now()
		require.NoError(t, p.Drain(t.Context()), "attempts are counted in a row")
		assert.LessOrEqual(t, time.Since(began), 10*100*time.Millisecond, "each wait is the first of its series")
	})
}

func TestOutageIsLoggedAtOnceAndThenRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		breakStep(w, poller.OpFetch, until(7*24*time.Hour, errOutage))
		p := w.poller()
		stop := start(t, p)
		time.Sleep(50 * time.Second)
		assert.Len(t, w.logged("failing, will retry"), 1)
		assert.Empty(t, w.logged("still failing"))
		assert.Contains(t, w.logged("failing, will retry")[0], `level=WARN msg="failing, will retry" pipeline=test op=fetch err="connection refused" attempts=1 wait=`)
		s := p.Status()
		assert.Equal(t, poller.Backoff, s.State)
		assert.Equal(t, poller.OpFetch, s.Op)
		assert.Equal(t, "connection refused", s.LastError)
		assert.Positive(t, s.Attempts)

		time.Sleep(8 * 24 * time.Hour)
		assert.InDelta(t, 36, len(w.logged("still failing")), 4, "an outage of a week is a page of log")
		require.Len(t, w.logged("recovered"), 1)
		assert.Contains(t, w.logged("recovered")[0], "after=168h0m")
		assert.Zero(t, p.Status().Attempts)
		assert.Less(t, w.log.Len(), 12_000)
		require.NoError(t, stop())
		assert.Len(t, w.logged("failing, will retry"), 1)
	})
}

func TestEachOutageIsLoggedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(50)
		w.onWrite = func(_ context.Context, b source.Batch[int]) error {
			if w.count("write "+string(b.From)+"-") == 1 {
				return errOutage
			}
			return nil
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		assert.Len(t, w.logged("failing, will retry"), 5)
		assert.Len(t, w.logged("recovered"), 5)
	})
}

func TestErrorsAreShownWithoutValues(t *testing.T) {
	w := newWorld(5)
	breakStep(w, poller.OpFetch, func() error { return sqlState("42P01") })
	p := w.poller()
	err := p.Run(t.Context())
	for _, text := range []string{err.Error(), p.Status().LastError, w.log.String()} {
		assert.NotContains(t, text, "secret")
		assert.Contains(t, text, "42P01")
	}
	var original sqlState
	require.ErrorAs(t, err, &original)
	assert.Contains(t, original.Error(), "secret", "errors.As returns the original error")
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]*poller.Error{
		`poller: orders: load: connection refused`:                             {Name: "orders", Op: poller.OpLoad, Attempts: 1, Err: errOutage},
		`poller: orders: fetch from "7", 3 attempts: connection refused`:       {Name: "orders", Op: poller.OpFetch, From: "7", Attempts: 3, Err: errOutage},
		`poller: orders: write from "" to "9", 2 attempts: connection refused`: {Name: "orders", Op: poller.OpWrite, To: "9", Attempts: 2, Err: errOutage},
	} {
		assert.EqualError(t, err, want)
	}
}
