package prometheus_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

func TestAllBeginsAtZero(t *testing.T) {
	w := newWorld(0)
	w.poller()
	all := w.gather(t)
	assert.Equal(t, values{"state{state=stopped}": 1}, all.but())
	assert.Equal(t, 1.0, all["interval_seconds"], "the Poller's default")
	assert.Equal(t, 900.0, all["lag_objective_seconds"])
	for name := range all {
		assert.NotContains(t, name, "timestamp", "unknown is not 0")
		assert.NotEqual(t, "lag_seconds", name)
		assert.NotContains(t, name, "lossy")
	}
	for _, name := range []string{
		"polls_total{outcome=rows}", "polls_total{outcome=empty}", "polls_total{outcome=held}", "polls_total{outcome=error}",
		"rows_read_total", "rows_written_total", "rows_dead_lettered_total", "written_bytes_total", "checkpoints_total",
		"poll_duration_seconds_count", "batch_rows_count", "in_flight_rows", "held_seconds", "pending_rows", "log_pinned_bytes", "upload_lag_seconds", "pending_uploads", "backoff_seconds", "overdue",
	} {
		assert.Contains(t, all, name)
	}
	for _, stage := range []string{"load", "fetch", "write", "deadletter", "save"} {
		assert.Contains(t, all, "stage_duration_seconds_count{stage="+stage+"}")
		for _, class := range []string{"transient", "setup", "data", "fatal", "conflict", "rejected"} {
			assert.Contains(t, all, "errors_total{class="+class+",stage="+stage+"}")
		}
		for _, class := range []string{"transient", "setup", "data"} {
			assert.Contains(t, all, "retries_total{class="+class+",stage="+stage+"}")
		}
	}
	// The 7 buckets +Inf, 5 timestamps, lag_seconds and lossy are missing. build_info does not belong to the pipeline.
	assert.Equal(t, 177, len(all)+7+5+1+1-1, "series of a pipeline, as the package comment says")
}

// 25 rows come, then none. Each fetch takes 20 ms, each write 2 s, each save 5 ms.
func TestCopying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(25)
		w.src.Delay(20 * time.Millisecond)
		w.out.Delay(2 * time.Second)
		w.at.Delay(5 * time.Millisecond)
		p := w.poller()
		p.Interval = time.Minute
		began := time.Now()
		stop := start(t, p)

		time.Sleep(time.Second)
		assert.Equal(t, values{
			"state{state=working}": 1, "in_flight_rows": 10, "rows_read_total": 20,
			"stage_duration_seconds_count{stage=load}": 1, "stage_duration_seconds_count{stage=fetch}": 2,
		}, w.gather(t).but(), "the first batch is being written, the second is fetched ahead")

		time.Sleep(49 * time.Second)
		done := began.Add(5*time.Millisecond + 20*time.Millisecond + 3*2005*time.Millisecond)
		all := w.gather(t)
		assert.Equal(t, values{
			"state{state=idle}": 1, "lag_seconds": time.Since(began.Add(5*time.Millisecond + 20*time.Millisecond + 2005*time.Millisecond + 20*time.Millisecond)).Seconds(),
			"polls_total{outcome=rows}": 3, "rows_read_total": 25, "rows_written_total": 25, "written_bytes_total": 250, "checkpoints_total": 3,
			"poll_duration_seconds_count": 3, "batch_rows_count": 3, "batch_rows_sum": 25,
			"stage_duration_seconds_count{stage=load}": 1, "stage_duration_seconds_count{stage=fetch}": 3,
			"stage_duration_seconds_count{stage=write}": 3, "stage_duration_seconds_count{stage=save}": 3,
		}, all.but())
		for name, want := range (values{
			"last_success_timestamp_seconds": seconds(done), "last_row_timestamp_seconds": seconds(done), "last_checkpoint_timestamp_seconds": seconds(done),
			"interval_seconds":                                 60,
			"stage_duration_seconds_sum{stage=fetch}":          .06,
			"stage_duration_seconds_sum{stage=write}":          6,
			"stage_duration_seconds_sum{stage=save}":           .015,
			"stage_duration_seconds_bucket{stage=fetch}<=0.01": 0,
			"stage_duration_seconds_bucket{stage=fetch}<=0.03": 3,
			"stage_duration_seconds_bucket{stage=write}<=1":    0,
			"stage_duration_seconds_bucket{stage=write}<=3":    3,
			"stage_duration_seconds_bucket{stage=save}<=0.003": 0,
			"stage_duration_seconds_bucket{stage=save}<=0.01":  3,
			"poll_duration_seconds_sum":                        2.025 + 2*2.005*2, // the later two also wait for the batch before
			"poll_duration_seconds_bucket<=3":                  1,
			"poll_duration_seconds_bucket<=10":                 3,
			"batch_rows_bucket<=1":                             0,
			"batch_rows_bucket<=10":                            3,
		}) {
			assert.InDelta(t, want, all[name], 1e-6, name)
		}
		assert.NotContains(t, all, "last_error_timestamp_seconds")

		time.Sleep(45 * time.Second) // the wait has a jitter of a tenth
		all = w.gather(t)
		assert.Equal(t, 1.0, all["polls_total{outcome=empty}"])
		assert.Equal(t, 4.0, all["poll_duration_seconds_count"])
		assert.Equal(t, 3.0, all["batch_rows_count"], "an empty batch does not count")
		assert.Greater(t, all["last_success_timestamp_seconds"], seconds(done.Add(50*time.Second)), "an empty poll is a success")
		assert.Equal(t, seconds(done), all["last_row_timestamp_seconds"])
		assert.Equal(t, seconds(done), all["last_checkpoint_timestamp_seconds"], "nothing to save")
		assert.Less(t, all["lag_seconds"], 45.0)
		require.NoError(t, stop())
	})
}

// Neither a stop nor the end of the source is an error.
func TestTheEndIsNotAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.src.End()
		p := w.poller()
		require.NoError(t, p.Run(t.Context()), "the source ends")
		all := w.gather(t)
		assert.NotContains(t, all, "lag_seconds", "it would grow, although no row waits")
		assert.NotContains(t, all, "lag_objective_seconds")
		assert.Equal(t, values{
			"state{state=done}": 1, "polls_total{outcome=rows}": 1, "rows_read_total": 5, "rows_written_total": 5, "written_bytes_total": 50,
			"checkpoints_total": 1, "poll_duration_seconds_count": 1, "batch_rows_count": 1, "batch_rows_sum": 5,
			"stage_duration_seconds_count{stage=load}": 1, "stage_duration_seconds_count{stage=fetch}": 2,
			"stage_duration_seconds_count{stage=write}": 1, "stage_duration_seconds_count{stage=save}": 1,
		}, all.but())

		w = newWorld(20)
		w.out.Delay(time.Hour)
		p = w.poller()
		p.Grace = time.Second
		first := p.Source
		p.Source = source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
			if after == "" {
				return first.Fetch(ctx, after, max)
			}
			<-ctx.Done()
			return source.Batch[int]{}, ctx.Err()
		})
		for _, ending := range []func(context.Context) (context.Context, context.CancelFunc){
			context.WithCancel,
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 30*time.Second)
			},
		} {
			ctx, cancel := ending(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			time.Sleep(30 * time.Second)
			assert.Equal(t, 10.0, w.gather(t)["in_flight_rows"])
			cancel() // cuts off the fetch ahead, and then the write
			require.NoError(t, <-ended)
			all = w.gather(t)
			assert.Zero(t, all["polls_total{outcome=error}"])
			assert.Zero(t, all["errors_total{class=transient,stage=fetch}"])
			assert.Zero(t, all["in_flight_rows"])
			assert.Equal(t, 1.0, all["state{state=done}"])
		}
		assert.Equal(t, 4.0, all["stage_duration_seconds_count{stage=fetch}"])
	})
}

// If the source cannot say since when it holds rows back, the last poll counts.
func TestHeldSinceUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, began := newWorld(0), time.Now()
		w.metrics.Attach(&poller.Hooks{}, func() poller.Status {
			return poller.Status{Name: "shop", State: poller.Held, Held: &source.Held{}, LastPoll: began}
		})
		time.Sleep(5 * time.Second)
		assert.Equal(t, 5.0, w.gather(t)["held_seconds"])
	})
}

func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		stop := start(t, p)
		time.Sleep(time.Minute)
		w.src.Hold(source.Held{By: []string{"pid 4711"}})
		w.add(5)
		time.Sleep(time.Hour)
		all := w.gather(t)
		assert.Equal(t, 1.0, all["state{state=held}"])
		assert.InDelta(t, 3600, all["held_seconds"], 2)
		assert.InDelta(t, 3600, all["lag_seconds"], 2)
		assert.Greater(t, all["polls_total{outcome=held}"], 3000.0)
		assert.Equal(t, 5.0, all["rows_written_total"])
		assert.InDelta(t, seconds(time.Now()), all["last_success_timestamp_seconds"], 2)

		w.src.Release()
		time.Sleep(5 * time.Second)
		all = w.gather(t)
		assert.Zero(t, all["held_seconds"])
		assert.Equal(t, 10.0, all["rows_written_total"])

		w.src.Hold(source.Held{})
		w.add(1)
		time.Sleep(time.Minute)
		assert.Greater(t, w.gather(t)["held_seconds"], 50.0)
		require.NoError(t, stop())
		assert.Zero(t, w.gather(t)["held_seconds"], "a stopped pipeline does not know")
	})
}

func TestUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		began := time.Now()
		p := w.poller()
		p.Uploads = func() sink.Pending { return sink.Pending{Segments: 3, Since: began} }
		time.Sleep(90 * time.Second)
		all := w.gather(t)
		assert.Equal(t, 90.0, all["upload_lag_seconds"])
		assert.Equal(t, 3.0, all["pending_uploads"])
	})
}

func TestGuarantee(t *testing.T) {
	w := newWorld(1)
	p := w.poller()
	src, guarantee := p.Source, &source.Guarantee{Name: "lag\xff", Lossy: true}
	p.Source = source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
		b, err := src.Fetch(ctx, after, max)
		b.Guarantee, b.Pending, b.Pinned = guarantee, 7, 9
		return b, err
	})
	require.NoError(t, p.Drain(t.Context()))
	all := w.gather(t)
	assert.Equal(t, 1.0, all["lossy{guarantee=lag\uFFFD}"])
	assert.Equal(t, 7.0, all["pending_rows"])
	assert.Equal(t, 9.0, all["log_pinned_bytes"])
	guarantee = &source.Guarantee{Name: "lock-fence"}
	w.add(1)
	require.NoError(t, p.Drain(t.Context()))
	all = w.gather(t)
	assert.Equal(t, 0.0, all["lossy{guarantee=lock-fence}"])
	assert.Contains(t, all, "lossy{guarantee=lock-fence}")
	assert.NotContains(t, all, "lossy{guarantee=lag\uFFFD}", "one series at a time")
}

func TestLagObjective(t *testing.T) {
	w := newWorld(0)
	attach := func(name string, interval time.Duration, options ...prometheus.Option) {
		w.metrics.Attach(&poller.Hooks{}, func() poller.Status { return poller.Status{Name: name, Interval: interval} }, options...)
	}
	attach("often", time.Minute)
	attach("rarely", time.Hour)
	attach("set", time.Hour, prometheus.LagObjective(time.Minute))
	assert.Equal(t, 900.0, value(t, w.scraped, "devotion_lag_objective_seconds", "often"))
	assert.Equal(t, 10800.0, value(t, w.scraped, "devotion_lag_objective_seconds", "rarely"))
	assert.Equal(t, 60.0, value(t, w.scraped, "devotion_lag_objective_seconds", "set"))

	w = newWorld(0)
	attach("none", time.Hour, prometheus.LagObjective(0))
	assert.NotContains(t, w.gather(t), "lag_objective_seconds")
}

// A lossy source without AsOf has no lag to compare with, unless somebody asked for it.
func TestLagObjectiveOfALossySource(t *testing.T) {
	for name, c := range map[string]struct {
		lossy   bool
		asOf    time.Time
		options []prometheus.Option
		want    bool
	}{
		"lossy, without AsOf": {lossy: true},
		"lossy, with AsOf":    {lossy: true, asOf: time.Now(), want: true},
		"not lossy":           {want: true},
		"asked for":           {lossy: true, options: []prometheus.Option{prometheus.LagObjective(time.Minute)}, want: true},
	} {
		w := newWorld(0)
		w.metrics.Attach(&poller.Hooks{}, func() poller.Status {
			return poller.Status{Name: "orders", AsOf: c.asOf, Guarantee: &source.Guarantee{Name: "none", Lossy: c.lossy}}
		}, c.options...)
		_, exported := w.gather(t)["lag_objective_seconds"]
		assert.Equal(t, c.want, exported, name)
	}
}

// A hanging part is shown while it hangs, with the other metrics.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(15)
		p := w.poller()
		release := make(chan struct{})
		w.out.FailFunc(func(fault.Call, fault.Point) error { <-release; return nil })
		stop := start(t, p)
		time.Sleep(2 * time.Minute)
		all := w.gather(t)
		assert.Equal(t, 1.0, all["overdue"])
		assert.Equal(t, 10.0, all["in_flight_rows"])
		assert.Equal(t, 15.0, all["rows_read_total"])
		assert.Equal(t, 1.0, all["state{state=working}"])
		assert.NotContains(t, all, "last_success_timestamp_seconds")
		close(release)
		time.Sleep(time.Second)
		all = w.gather(t)
		assert.Zero(t, all["overdue"])
		assert.Equal(t, 15.0, all["rows_written_total"])
		require.NoError(t, stop())
	})
}

// A Poller that runs again continues to count.
func TestRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		for run := range 3 {
			stop := start(t, p)
			time.Sleep(10 * time.Second)
			assert.Zero(t, w.gather(t)["state{state=done}"])
			assert.Contains(t, w.gather(t), "lag_seconds")
			require.NoError(t, stop())
			all := w.gather(t)
			assert.Equal(t, 1.0, all["state{state=done}"])
			assert.Equal(t, 5.0*float64(run+1), all["rows_written_total"])
			assert.Equal(t, float64(run+1), all["stage_duration_seconds_count{stage=load}"])
			assert.Contains(t, all, "last_success_timestamp_seconds")
			w.add(5)
		}
	})
}
