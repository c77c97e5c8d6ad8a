package poller_test

import (
	"context"
	"errors"
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

// A pipeline that is told to stop within a batch stores the rest of it, as long as
// Grace lasts. If that is not long enough, Run says so, and the next one goes on.
func TestAStopWithinABatch(t *testing.T) {
	for name, c := range map[string]struct {
		parallel int
		records  int
		down     time.Duration // how long the second record fails
		want     string
	}{
		"in order":                    {1, 250, 0, ""},
		"in order, one fails":         {1, 100, 10 * time.Second, ""},
		"in order, target down":       {1, 100, time.Hour, ": connection refused"},
		"in order, too slow":          {1, 500, 0, ": Grace ended before the rest of the batch was stored"},
		"parallel":                    {8, 2000, 0, ""},
		"parallel, one fails":         {8, 2000, 10 * time.Second, ""},
		"parallel, fails beyond that": {8, 2000, time.Hour, ": connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				outage := until(c.down, errOutage)
				p := &posts{takes: 100 * time.Millisecond, fail: func(record int) error {
					if record == 2 {
						return outage()
					}
					return nil
				}}
				pl, w := p.poller(c.records, c.parallel)
				stop := start(t, pl)
				time.Sleep(4*time.Second + time.Millisecond)
				before := time.Now()
				err := stop()
				assert.Equal(t, 1, w.count("fetch"), "a stop reads nothing")
				if c.want == "" {
					require.NoError(t, err)
					assert.Equal(t, cursor(c.records), w.stored)
				} else {
					require.Error(t, err)
					assert.Regexp(t, c.want+"$", err.Error())
					assert.Empty(t, w.stored)
					assert.Equal(t, 30*time.Second, time.Since(before))
				}
				time.Sleep(2 * time.Hour)
				require.NoError(t, pl.Drain(t.Context()))
				assert.Equal(t, seq(1, c.records), p.sorted(), "nothing twice")
			})
		})
	}
}

// A stop while the cursor of an unfinished batch is checked is not a success.
func TestAStopBeforeAnUnfinishedBatchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &posts{fail: func(record int) error {
			if record == 7 {
				return sink.Reject(errors.New("422"))
			}
			return nil
		}}
		pl, w := p.poller(10, 1)
		require.ErrorIs(t, pl.Drain(t.Context()), sink.ErrRejected)
		w.onSave = func(context.Context, source.Cursor, source.Cursor) error { return errOutage }
		stop := start(t, pl)
		time.Sleep(time.Minute)
		require.ErrorIs(t, stop(), errOutage)
		p.fail, w.onSave = nil, nil
		require.NoError(t, pl.Drain(t.Context()))
		assert.Equal(t, seq(1, 10), p.stored)
	})
}

// A sink that does not look at its context does not outlast Grace by more than a write.
func TestAStopWithASinkThatIgnoresIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1000)
		pl := w.poller()
		pl.BatchSize = 1000
		w.onWrite = func(context.Context, source.Batch[int]) error {
			time.Sleep(4 * time.Second)
			return sink.Stored(1, nil)
		}
		stop := start(t, pl)
		time.Sleep(time.Minute)
		before := time.Now()
		require.ErrorContains(t, stop(), "Grace ended")
		assert.LessOrEqual(t, time.Since(before), 34*time.Second)
	})
}

// Records that are stored after one that DeadLetter does not take yet are not
// forgotten by a stop.
func TestAStopWhileDeadLetterIsDown(t *testing.T) {
	for _, bad := range []int{1, 5} {
		for _, recovers := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				p := &posts{takes: 10 * time.Millisecond, fail: func(record int) error {
					if record == bad {
						return sink.Reject(errors.New("422"))
					}
					return nil
				}}
				pl, w := p.poller(400, 8)
				l, down := &letters{}, atomic.Bool{}
				down.Store(true)
				pl.DeadLetter = sink.Func[poller.Rejected[int]](func(ctx context.Context, b source.Batch[poller.Rejected[int]]) error {
					if down.Load() {
						return errOutage
					}
					return l.Write(ctx, b)
				})
				stop := start(t, pl)
				time.Sleep(20 * time.Second)
				if recovers {
					time.AfterFunc(5*time.Second, func() { down.Store(false) })
				}
				err := stop()
				switch {
				case recovers && bad > 1:
					require.NoError(t, err)
					assert.Equal(t, source.Cursor("400"), w.stored)
				case bad > 1:
					require.ErrorIs(t, err, errOutage)
				default:
					require.NoError(t, err, "the first record is tried alone, and nothing is stored")
					assert.Empty(t, p.stored)
				}
				down.Store(false)
				require.NoError(t, pl.Drain(t.Context()))
				assert.Equal(t, without(1, 400, bad), p.sorted())
				assert.Equal(t, []int{bad}, l.records())
			})
		}
	}
}

// Batches become as large as a slow sink can store within a few seconds, so that the
// one that a stop interrupts is stored within Grace.
func TestBatchesOfASlowSinkFitIntoGrace(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		for _, after := range few(20, 21, 22, 23) {
			synctest.Test(t, func(t *testing.T) {
				p := &posts{takes: 100 * time.Millisecond}
				pl, w := p.poller(50_000*parallel, parallel)
				stop := start(t, pl)
				time.Sleep(time.Duration(after)*time.Minute + time.Millisecond)
				before := time.Now()
				require.NoError(t, stop())
				assert.Less(t, time.Since(before), 20*time.Second)
				assert.Equal(t, seq(1, position(w.stored)), p.sorted())
				assert.Greater(t, len(p.stored), 10_000)
			})
		}
	}
}
