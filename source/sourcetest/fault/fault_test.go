package fault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// ping is a fake with one method.
type ping struct {
	fault.Injector
	effects int
}

func (p *ping) Ping(ctx context.Context) error {
	return p.Do(ctx, fault.Call{Op: "Ping"}, func(*fault.Call) error {
		p.effects++
		return nil
	})
}

func TestBeforeAndAfterTheEffect(t *testing.T) {
	t.Parallel()
	var p ping
	down := errors.New("down")

	p.FailNext(2, down)
	require.ErrorIs(t, p.Ping(t.Context()), down)
	require.ErrorIs(t, p.Ping(t.Context()), down)
	require.NoError(t, p.Ping(t.Context()))
	require.Equal(t, 1, p.effects)

	p.LoseNext(1, down)
	require.ErrorIs(t, p.Ping(t.Context()), down)
	require.Equal(t, 2, p.effects)
	require.NoError(t, p.Ping(t.Context()))

	p.Fail(down)
	for range 3 {
		require.ErrorIs(t, p.Ping(t.Context()), down)
	}
	require.Equal(t, 3, p.effects)
	p.Heal()
	require.NoError(t, p.Ping(t.Context()))

	p.FailFunc(func(c fault.Call, at fault.Point) error {
		if at == fault.After && c.N%2 == 0 {
			return down
		}
		return nil
	})
	require.ErrorIs(t, p.Ping(t.Context()), down, "call 10")
	require.NoError(t, p.Ping(t.Context()))
	require.Equal(t, 6, p.effects)
	require.Equal(t, fault.Call{Op: "Ping", N: 10, Done: true, Err: down}, p.Calls()[9])
}

func TestDelayHonoursItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p ping
		p.Delay(24 * time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() {
			time.Sleep(time.Minute)
			calls := p.Calls()
			if len(calls) != 1 || calls[0].Done {
				t.Errorf("a call in progress is listed: %v", calls)
			}
		}()
		began := time.Now()
		require.ErrorIs(t, p.Ping(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Hour, time.Since(began))
		require.Zero(t, p.effects)

		require.NoError(t, p.Ping(t.Context()))
		require.Equal(t, 25*time.Hour, time.Since(began))
		p.Heal()
		require.ErrorIs(t, p.Ping(ctx), context.DeadlineExceeded, "a context that has ended before")
		require.Equal(t, 1, p.effects)
	})
}

// An outage that begins while a call is delayed makes it fail.
func TestOutageStrikesACallInProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p ping
		down := errors.New("down")
		p.Delay(time.Minute)
		time.AfterFunc(time.Second, func() { p.Fail(down) })
		require.ErrorIs(t, p.Ping(t.Context()), down)
	})
}
