package status_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/source"
)

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := &status.Page{Version: "1.2.3"}
		began := time.Now()
		hooks, _ := attach(page, poller.Status{
			Name: "orders", Interval: 1500 * time.Millisecond, Started: began, State: poller.Held, Since: began.Add(11 * time.Second),
			Due: began.Add(12 * time.Second), Cursor: "42", Batches: 7, Records: 40, DeadLetters: 2,
			Guarantee: &source.Guarantee{Name: "lag", Text: "a row that commits later than 5m is missed", Lossy: true}, Position: "id 42", Pending: 17, Pinned: 1 << 30,
			LastPoll: began.Add(11 * time.Second), LastRecord: began.Add(3 * time.Second), LastSave: began.Add(3 * time.Second),
			AsOf: began.Add(2500 * time.Millisecond), Held: &source.Held{Since: began.Add(time.Second), By: []string{"pid 7 (psql)"}},
			LastError: "no answer:\n\tconnection refused", LastErrorTime: began.Add(1234567 * time.Microsecond),
		})
		attach(page, poller.Status{
			Name: `<b>"näme"`, Interval: time.Second, State: poller.Backoff, Since: began, Due: began.Add(time.Minute),
			Op: poller.OpLoad, Attempts: 3, Guarantee: &source.Guarantee{Name: "lock-fence", Text: "every row is read"}, LastError: "no route to host", LastErrorTime: began,
		})
		time.Sleep(7 * time.Second)
		hooks.Poll(poller.PollInfo{Records: 40, Start: began.Add(3 * time.Second), Duration: 4 * time.Second, AsOf: began.Add(2500 * time.Millisecond)})
		time.Sleep(5 * time.Second)
		attach(page, poller.Status{Name: "never run", Interval: time.Second, State: poller.Stopped})

		w := get(t, page, "/status")
		want, err := os.ReadFile("testdata/status.json")
		require.NoError(t, err)
		assert.Equal(t, string(want), w.Body.String())

		var got struct {
			Pipelines []struct{ History json.RawMessage }
		}
		require.NoError(t, json.Unmarshal(get(t, page, "/status?history").Body.Bytes(), &got))
		assert.JSONEq(t, `{"step_seconds": 5, "end": "2000-01-01T00:00:10Z", "rows": [0, 40], "lag_seconds": [null, 7.5]}`,
			string(got.Pipelines[0].History))
		assert.JSONEq(t, `{"step_seconds": 5, "end": "2000-01-01T00:00:10Z", "rows": [0, 0], "lag_seconds": [null, null]}`,
			string(got.Pipelines[1].History))
	})
}

// history returns the first pipeline's part of /status?history.
func history(t *testing.T, page *status.Page) (h struct {
	End  time.Time
	Rows []int64
	Lag  []*float64 `json:"lag_seconds"`
}, records int64) {
	t.Helper()
	var got struct {
		Pipelines []struct {
			Records int64
			History json.RawMessage
		}
	}
	require.NoError(t, json.Unmarshal(get(t, page, "/status?history").Body.Bytes(), &got))
	require.NoError(t, json.Unmarshal(got.Pipelines[0].History, &h))
	return h, got.Pipelines[0].Records
}

// During fifteen minutes of a real pipeline, with outages and restarts, the history
// agrees with the sink, and its lag with Status.
func TestHistoryAgreesWithTheSink(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			random, says := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			var page status.Page
			p := newPipeline(&page, "orders")
			p.poller.BatchSize = 10
			p.poller.Source = source.Func[int](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[int], error) {
				b, err := p.Source.Fetch(ctx, after, limit)
				if says.IntN(5) > 0 {
					b.AsOf = time.Now()
				}
				return b, err
			})
			stop := p.start(t)
			var want []int64
			var lags []*float64
			for range 180 {
				before := len(p.Sink.Records())
				switch random.IntN(10) {
				case 0:
					p.Source.Fail(errors.New("database is down"))
				case 1:
					p.Source.Heal()
				case 2:
					stop()
					stop = p.start(t)
				default:
					p.Source.Append(make([]int, random.IntN(50))...)
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				want = append(want, int64(len(p.Sink.Records())-before))
				var lag *float64
				if d, known := p.poller.Status().Lag(time.Now()); known {
					s := math.Round(float64(d)/1e6) / 1e3
					lag = &s
				}
				lags = append(lags, lag)
			}
			h, records := history(t, &page)
			assert.Equal(t, want, h.Rows, "seed %d", seed)
			assert.Equal(t, int64(len(p.Sink.Records())), records)
			assert.Equal(t, time.Now().UTC(), h.End)
			assert.Equal(t, lags, h.Lag, "seed %d", seed)
			stop()
		})
	}
}

func TestRequestsWhilePipelinesRun(t *testing.T) {
	var page status.Page
	var running, asking sync.WaitGroup
	var all []*pipeline
	for _, name := range []string{"orders", "invoices", "shipments"} {
		p := newPipeline(&page, name)
		p.poller.Interval, p.poller.BatchSize = time.Microsecond, 5
		all = append(all, p)
		stop := p.start(t)
		running.Go(func() {
			defer stop()
			for range 100 {
				p.Source.Append(1, 2, 3)
				p.Source.Hold(source.Held{By: []string{"somebody"}})
				p.Source.Release()
			}
			assert.Eventually(t, func() bool { return len(p.Sink.Records()) == 300 }, time.Minute, time.Millisecond)
		})
	}
	for _, path := range []string{"/", "/livez", "/readyz", "/status", "/status?history"} {
		asking.Go(func() {
			for range 50 {
				assert.NotEmpty(t, get(t, &page, path).Body.String())
			}
		})
	}
	asking.Go(func() { newPipeline(&page, "late") })
	asking.Wait()
	running.Wait()
	assert.Len(t, all[0].Sink.Records(), 300)
	assert.Contains(t, get(t, &page, "/livez").Body.String(), "late: not live: stopped")
}
