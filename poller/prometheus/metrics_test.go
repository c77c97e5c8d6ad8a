package prometheus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/retry"
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
		assert.NotContains(t, name, "lag_seconds")
		assert.NotContains(t, name, "lossy")
	}
	for _, name := range []string{
		"polls_total{outcome=rows}", "polls_total{outcome=empty}", "polls_total{outcome=held}", "polls_total{outcome=error}",
		"rows_read_total", "rows_written_total", "rows_dead_lettered_total", "written_bytes_total", "checkpoints_total",
		"poll_duration_seconds_count", "batch_rows_count", "in_flight_rows", "held_seconds", "pending_rows", "backoff_seconds", "overdue",
		"errors_total{class=rejected,stage=write}", "errors_total{class=conflict,stage=save}", "errors_total{class=rejected,stage=deadletter}",
	} {
		assert.Contains(t, all, name)
	}
	for _, stage := range []string{"load", "fetch", "write", "deadletter", "save"} {
		assert.Contains(t, all, "stage_duration_seconds_count{stage="+stage+"}")
		assert.Contains(t, all, "errors_total{class=fatal,stage="+stage+"}")
		for _, class := range []string{"transient", "setup"} {
			assert.Contains(t, all, "errors_total{class="+class+",stage="+stage+"}")
			assert.Contains(t, all, "retries_total{class="+class+",stage="+stage+"}")
		}
	}
	// The 7 buckets +Inf, 4 timestamps, lag_seconds and lossy are missing. build_info does not belong to the pipeline.
	assert.Equal(t, 158, len(all)+7+4+1+1-1, "series of a pipeline, as the package comment says")
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
		all := w.gather(t).but()
		delete(all, "lag_seconds")
		assert.Equal(t, values{
			"state{state=stopped}": 1, "polls_total{outcome=rows}": 1, "rows_read_total": 5, "rows_written_total": 5, "written_bytes_total": 50,
			"checkpoints_total": 1, "poll_duration_seconds_count": 1, "batch_rows_count": 1, "batch_rows_sum": 5,
			"stage_duration_seconds_count{stage=load}": 1, "stage_duration_seconds_count{stage=fetch}": 2,
			"stage_duration_seconds_count{stage=write}": 1, "stage_duration_seconds_count{stage=save}": 1,
		}, all)

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
			assert.Equal(t, 1.0, all["state{state=stopped}"])
		}
		assert.Equal(t, 4.0, all["stage_duration_seconds_count{stage=fetch}"])
	})
}

func TestAnAbandonedSaveIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		p := w.poller()
		p.Grace = time.Second
		w.out.FailFunc(func(fault.Call, fault.Point) error { w.at.Delay(time.Hour); return nil })
		stop := start(t, p)
		time.Sleep(time.Second)
		require.Error(t, stop())
		assert.Equal(t, 1.0, w.gather(t)["errors_total{class=transient,stage=save}"])
		assert.Zero(t, w.gather(t)["checkpoints_total"])
	})
}

// Each step fails twice with each class that is tried again. It has succeeded
// before, because a wrong setup would otherwise end the run.
func TestOutages(t *testing.T) {
	for stage, part := range map[string]func(*world) *fault.Injector{
		"fetch":      func(w *world) *fault.Injector { return &w.src.Injector },
		"write":      func(w *world) *fault.Injector { return &w.out.Injector },
		"deadletter": func(w *world) *fault.Injector { return &w.dead.Injector },
		"save":       func(w *world) *fault.Injector { return &w.at.Injector },
	} {
		for class, err := range map[string]error{"transient": errOutage, "setup": sqlState("42P01"), "data": sqlState("22P02")} {
			t.Run(stage+"/"+class, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(5)
					w.out.Refuse = func(i int) error {
						if i == 99 {
							return errOutage
						}
						return nil
					}
					w.src.Append(99)
					p := w.poller()
					stop := start(t, p)
					time.Sleep(time.Minute)
					before := w.gather(t)
					part(w).FailNext(2, err)
					w.src.Append(99, 6)
					time.Sleep(time.Minute)

					all := w.gather(t)
					errors, retries := fmt.Sprintf("errors_total{class=%s,stage=%s}", class, stage), fmt.Sprintf("retries_total{class=%s,stage=%s}", class, stage)
					assert.Equal(t, 2.0, all[errors])
					assert.Equal(t, 2.0, all[retries])
					assert.Equal(t, 2.0+all["errors_total{class=rejected,stage=write}"], all["polls_total{outcome=error}"])
					attempts := "stage_duration_seconds_count{stage=" + stage + "}"
					assert.GreaterOrEqual(t, all[attempts], before[attempts]+3)
					assert.Equal(t, seconds(p.Status().LastErrorTime), all["last_error_timestamp_seconds"])
					assert.Equal(t, 6.0, all["rows_written_total"])
					assert.Equal(t, 2.0, all["rows_dead_lettered_total"])
					assert.Equal(t, 1.0, all["state{state=idle}"])
					assert.Zero(t, all["in_flight_rows"])
					require.NoError(t, stop())
				})
			})
		}
	}
}

func TestOutageOfTheCheckpointAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.at.FailNext(2, errOutage)
		p := w.poller()
		require.NoError(t, p.Drain(t.Context()))
		w.at.Fail(sqlState("28P01"))
		require.Error(t, p.Run(t.Context()))
		all := w.gather(t)
		assert.Equal(t, 2.0, all["errors_total{class=transient,stage=load}"])
		assert.Equal(t, 2.0, all["retries_total{class=transient,stage=load}"])
		assert.Equal(t, 1.0, all["errors_total{class=setup,stage=load}"])
		assert.Zero(t, all["retries_total{class=setup,stage=load}"], "it ended the run")
		assert.Equal(t, 3.0, all["polls_total{outcome=error}"])
		assert.Equal(t, 4.0, all["stage_duration_seconds_count{stage=load}"])
		assert.Equal(t, 5.0, all["rows_written_total"])
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		w.out.Fail(errOutage)
		p := w.poller()
		p.Retry = retry.Policy{Base: time.Hour, Cap: time.Hour}
		stop := start(t, p)
		synctest.Wait()
		all := w.gather(t)
		assert.Equal(t, 1.0, all["state{state=backoff}"])
		assert.Greater(t, all["backoff_seconds"], 0.0)
		assert.LessOrEqual(t, all["backoff_seconds"], 3600.0)
		assert.Equal(t, p.Status().Due.Sub(p.Status().Since).Seconds(), all["backoff_seconds"])
		w.out.Heal()
		time.Sleep(time.Hour)
		assert.Zero(t, w.gather(t)["backoff_seconds"])
		require.NoError(t, stop())
	})
}

// The code that a driver gives to its cancelled query does not matter.
func TestLateIsTransient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		p := w.poller()
		src, first := p.Source, true
		p.Source = source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
			if first {
				first = false
				<-ctx.Done()
				return source.Batch[int]{}, sqlState("42P01")
			}
			return src.Fetch(ctx, after, max)
		})
		require.NoError(t, p.Drain(t.Context()))
		all := w.gather(t)
		assert.Equal(t, 1.0, all["errors_total{class=transient,stage=fetch}"])
		assert.Equal(t, 1.0, all["retries_total{class=transient,stage=fetch}"])
		assert.Equal(t, 1.0, all["stage_duration_seconds_bucket{stage=fetch}<=60"]-all["stage_duration_seconds_bucket{stage=fetch}<=30"])
	})
}

// One row of ten is refused. The batch is halved to find it.
func TestDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(10)
		w.out.Refuse = func(i int) error {
			if i == 3 {
				return errors.New("row 3 is secret")
			}
			return nil
		}
		require.NoError(t, w.poller().Drain(t.Context()))
		all := w.gather(t)
		assert.Equal(t, 1.0, all["rows_dead_lettered_total"])
		assert.Equal(t, 9.0, all["rows_written_total"])
		assert.Equal(t, 9.0, all["batch_rows_sum"])
		assert.Equal(t, 90.0, all["written_bytes_total"])
		rejections := 0.0
		for _, c := range w.out.Calls() {
			if c.Err != nil {
				rejections++
			}
		}
		assert.GreaterOrEqual(t, rejections, 3.0)
		assert.Equal(t, rejections, all["errors_total{class=rejected,stage=write}"])
		assert.Equal(t, rejections, all["polls_total{outcome=error}"])
		assert.Equal(t, 1.0, all["stage_duration_seconds_count{stage=deadletter}"])
		assert.Equal(t, 1.0, all["polls_total{outcome=empty}"], "the poll of the refused row wrote none")
		read := 0.0
		for _, c := range w.src.Calls() {
			read += float64(c.Records)
		}
		assert.Equal(t, read, all["rows_read_total"], "including those that were fetched again")
		assert.Greater(t, read, 10.0)
		for name := range all {
			assert.NotContains(t, name, "secret")
			if strings.HasPrefix(name, "retries_total") {
				assert.Zero(t, all[name], "finding it is not a retry")
			}
		}
	})
}

func TestConflictAndFatal(t *testing.T) {
	for class, err := range map[string]error{"conflict": fmt.Errorf("so: %w", poller.ErrConflict), "fatal": retry.Permanent(errOutage)} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(5)
			w.at.FailFunc(func(c fault.Call, _ fault.Point) error {
				if c.Op == "Save" {
					return err
				}
				return nil
			})
			p := w.poller()
			require.ErrorIs(t, p.Run(t.Context()), err)
			all := w.gather(t)
			assert.Equal(t, 1.0, all["errors_total{class="+class+",stage=save}"])
			assert.Equal(t, 1.0, all["polls_total{outcome=error}"])
			assert.Equal(t, 1.0, all["state{state=stopped}"])
			assert.Equal(t, seconds(p.Status().LastErrorTime), all["last_error_timestamp_seconds"])
			assert.Zero(t, all["rows_written_total"], "not saved")
			assert.Zero(t, all["checkpoints_total"])
			assert.Equal(t, 5.0, all["rows_read_total"])
		})
	}
}

// A fatal error ends the run even if it is late, or comes during a stop.
func TestFatalWinsOverTheEnd(t *testing.T) {
	for name, end := range map[string]func(p *poller.Poller[int], stop context.CancelFunc){
		"late":    func(p *poller.Poller[int], _ context.CancelFunc) { p.Deadline = time.Second },
		"stopped": func(_ *poller.Poller[int], stop context.CancelFunc) { time.AfterFunc(time.Second, stop) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(1)
				p := w.poller()
				p.Source = source.Func[int](func(ctx context.Context, _ source.Cursor, _ int) (source.Batch[int], error) {
					<-ctx.Done()
					return source.Batch[int]{}, retry.Permanent(errOutage)
				})
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				end(p, stop)
				require.ErrorIs(t, p.Run(ctx), errOutage)
				all := w.gather(t)
				assert.Equal(t, 1.0, all["errors_total{class=fatal,stage=fetch}"])
				assert.Equal(t, 1.0, all["polls_total{outcome=error}"])
			})
		})
	}
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

func TestGuarantee(t *testing.T) {
	w := newWorld(1)
	p := w.poller()
	src, guarantee := p.Source, &source.Guarantee{Name: "lag\xff", Lossy: true}
	p.Source = source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
		b, err := src.Fetch(ctx, after, max)
		b.Guarantee, b.Pending = guarantee, 7
		return b, err
	})
	require.NoError(t, p.Drain(t.Context()))
	all := w.gather(t)
	assert.Equal(t, 1.0, all["lossy{guarantee=lag\uFFFD}"])
	assert.Equal(t, 7.0, all["pending_rows"])
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
			assert.Zero(t, w.gather(t)["state{state=stopped}"])
			require.NoError(t, stop())
			all := w.gather(t)
			assert.Equal(t, 1.0, all["state{state=stopped}"])
			assert.Equal(t, 5.0*float64(run+1), all["rows_written_total"])
			assert.Equal(t, float64(run+1), all["stage_duration_seconds_count{stage=load}"])
			assert.Contains(t, all, "last_success_timestamp_seconds")
			w.add(5)
		}
	})
}
