package retry_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/retry"
)

func TestValidateNamesTheField(t *testing.T) {
	t.Parallel()
	for field, p := range map[string]retry.Policy{
		"Policy.Base is negative":                       {Base: -1},
		"Policy.Cap is negative":                        {Cap: -1},
		"Policy.Base (1m0s) is above Policy.Cap (30s)":  {Base: time.Minute},
		"Policy.Base (100ms) is above Policy.Cap (1ms)": {Cap: time.Millisecond},
		"Policy.MaxAttempts is negative: -1":            {MaxAttempts: -1},
		"Policy.MaxElapsed is negative: -1ns":           {MaxElapsed: -1},
	} {
		assert.ErrorContains(t, p.Validate(), field)
	}
	assert.NoError(t, retry.Policy{}.Validate())
	assert.NoError(t, retry.Policy{Base: time.Second, Cap: time.Second, MaxAttempts: 1, MaxElapsed: 1}.Validate())
}

// The waits must fill the whole range (0, bound], and stay within it.
func TestWaitsFillTheirBounds(t *testing.T) {
	t.Parallel()
	const samples = 2000
	for _, p := range []retry.Policy{{}, {Base: 1, Cap: 1}, {Base: time.Hour, Cap: 1<<63 - 1}} {
		base, limit := p.Base, p.Cap
		if base == 0 {
			base, limit = 100*time.Millisecond, 30*time.Second
		}
		least, most := make([]time.Duration, 100), make([]time.Duration, 100)
		for range samples {
			b := p.Backoff()
			for n := range most {
				d, stop := b.Next()
				require.False(t, stop, "the policy has no limit")
				if least[n] == 0 || d < least[n] {
					least[n] = d
				}
				most[n] = max(most[n], d)
			}
		}
		bound := base
		for n := range most {
			assert.Positive(t, least[n], "wait %d of %+v", n, p)
			assert.LessOrEqual(t, most[n], bound, "wait %d of %+v", n, p)
			assert.GreaterOrEqual(t, float64(most[n]), 0.9*float64(bound), "wait %d of %+v", n, p)
			if bound > 1000 {
				assert.LessOrEqual(t, float64(least[n]), 0.1*float64(bound), "wait %d of %+v", n, p)
			}
			if bound > limit/2 {
				bound = limit
			} else {
				bound *= 2
			}
		}
	}
}

func TestMaxAttemptsCountsTheFirst(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2, 7} {
		b := retry.Policy{MaxAttempts: most}.Backoff()
		attempts := 1
		for _, stop := b.Next(); !stop; _, stop = b.Next() {
			attempts++
		}
		assert.Equal(t, most, attempts)
	}
}

func TestMaxElapsedIsMeasuredFromBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{MaxElapsed: time.Hour}
		time.Sleep(2 * time.Hour) // the age of the policy does not count
		begin, b := time.Now(), p.Backoff()
		for {
			d, stop := b.Next()
			if stop {
				break
			}
			time.Sleep(d)
			require.LessOrEqual(t, time.Since(begin), time.Hour, "a wait goes past the limit")
		}
		assert.Equal(t, time.Hour, time.Since(begin), "the last attempt is at the limit")
	})
}

func TestEachSeriesOfFailuresStartsAtBase(t *testing.T) {
	t.Parallel()
	p := retry.Policy{Base: 1, Cap: time.Hour}
	old := p.Backoff()
	for range 60 {
		old.Next()
	}
	d, _ := p.Backoff().Next()
	assert.EqualValues(t, 1, d)
}
