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
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

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
		assert.Equal(t, seconds(time.Now()), all["last_dead_letter_timestamp_seconds"])
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
			assert.Zero(t, all["state{state=done}"])
			assert.Contains(t, all, "lag_objective_seconds", "it has not ended on purpose")
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
