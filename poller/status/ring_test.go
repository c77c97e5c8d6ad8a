package status

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newRing returns a ring that starts at the time of the bubble, a full second.
func newRing(t *testing.T) *ring {
	t.Helper()
	var r ring
	r.begin(time.Now())
	require.Equal(t, r.born, r.base)
	return &r
}

func rows(h history) (all []int64) {
	for _, p := range h.points {
		all = append(all, p.rows)
	}
	return all
}

func lags(h history) (all []time.Duration) {
	for _, p := range h.points {
		all = append(all, p.lag)
	}
	return all
}

func TestStepsEndWithoutAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		assert.Empty(t, r.history(time.Now()).points)
		r.add(time.Now(), 3, time.Now())
		time.Sleep(4 * time.Second)
		r.add(time.Now(), 4, time.Time{})
		assert.Empty(t, r.history(time.Now()).points, "the step in progress is not included")
		time.Sleep(time.Second)
		h := r.history(time.Now())
		assert.Equal(t, []int64{7}, rows(h))
		assert.Equal(t, []time.Duration{5 * time.Second}, lags(h))
		assert.Equal(t, time.Now(), h.end)
		time.Sleep(11 * time.Second) // without being read
		h = r.history(time.Now())
		assert.Equal(t, []int64{7, 0, 0}, rows(h))
		assert.Equal(t, []time.Duration{5 * time.Second, 10 * time.Second, 15 * time.Second}, lags(h))
		assert.Equal(t, time.Now().Add(-time.Second), h.end)
	})
}

func TestGapsLongerThanTheRing(t *testing.T) {
	for _, gap := range []time.Duration{steps * step, steps*step + time.Second, (steps + 1) * step, 400 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			r := newRing(t)
			r.add(time.Now(), 7, time.Now())
			time.Sleep(gap)
			r.add(time.Now(), 2, time.Now())
			h := r.history(time.Now())
			require.Len(t, h.points, steps)
			want := make([]int64, steps)
			if gap < (steps+1)*step {
				want[0] = 7
			}
			assert.Equal(t, want, rows(h))
			assert.Equal(t, gap-gap%step, h.points[steps-1].lag)
			time.Sleep(step)
			h = r.history(time.Now())
			assert.Equal(t, int64(2), h.points[steps-1].rows)
			assert.LessOrEqual(t, h.points[steps-1].lag, step)
		})
	}
}

func TestAClockSetBackMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		began := time.Now()
		time.Sleep(time.Minute)
		r.add(time.Now(), 1, time.Time{})
		r.add(began, 2, time.Time{}) // a hook that was called late
		r.add(began.Add(-time.Hour), 4, time.Time{})
		time.Sleep(step)
		h := r.history(time.Now())
		require.Len(t, h.points, 13)
		assert.Equal(t, int64(7), h.points[12].rows)
		assert.Equal(t, time.Duration(-1), h.points[12].lag, "AsOf was never known")
	})
}

// The lag is unknown when a run begins.
func TestLagIsForgottenWhenARunBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		r.add(time.Now(), 1, time.Now())
		time.Sleep(7 * time.Second)
		r.begun(time.Now(), time.Time{})
		time.Sleep(4 * time.Second)
		r.add(time.Now(), 1, time.Now().Add(6*time.Second)) // the clock of another machine
		time.Sleep(9 * time.Second)
		assert.Equal(t, []time.Duration{5 * time.Second, -1, 0, 3 * time.Second}, lags(r.history(time.Now())))
	})
}

func TestStepsBeginAtFullFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(3*time.Second + 7*time.Millisecond)
		var r ring
		r.begin(time.Now())
		r.add(time.Now(), 6, time.Time{})
		assert.InDelta(t, 6, r.history(time.Now()).rate, 1e-9, "over a second at least")
		time.Sleep(3 * time.Second)
		h := r.history(time.Now())
		assert.Zero(t, h.end.UnixNano()%int64(step))
		assert.Equal(t, []int64{6}, rows(h))
		assert.InDelta(t, 2, h.rate, 1e-9, "since it began")
	})
}

func TestRateIsOfTheLastTenToFifteenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		for range 120 {
			r.add(time.Now(), 50, time.Time{})
			time.Sleep(time.Second)
			assert.InDelta(t, 50, r.history(time.Now()).rate, 1e-9)
		}
		time.Sleep(15 * time.Second)
		assert.Zero(t, r.history(time.Now()).rate)
	})
}

// The model is a plain map of all rows ever added.
func TestRingAgainstAModel(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			r := newRing(t)
			began := time.Now()
			added := map[int64]int64{} // rows by step
			for range 200 {
				if random.IntN(3) > 0 {
					n := random.Int64N(1000)
					r.add(time.Now(), n, time.Time{})
					added[int64(time.Since(began)/step)] += n
				}
				scale := []time.Duration{time.Millisecond, time.Second, 10 * time.Second, 10 * time.Minute}[random.IntN(4)]
				time.Sleep(time.Duration(random.Int64N(int64(scale))))
				if random.IntN(3) > 0 {
					continue
				}
				over := int64(time.Since(began) / step)
				var want []int64
				for k := max(0, over-steps); k < over; k++ {
					want = append(want, added[k])
				}
				require.Equal(t, want, rows(r.history(time.Now())), "seed %d", seed)
			}
		})
	}
}
