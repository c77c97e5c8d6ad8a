package prometheus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

var errOutage = errors.New("connection refused")

// sqlState is an error of a database.
type sqlState string

func (s sqlState) Error() string    { return "SQLSTATE " + string(s) }
func (s sqlState) SQLState() string { return string(s) }

// world is a measured pipeline over fakes. Its records are ints of ten bytes.
type world struct {
	src     sourcetest.Fake[int]
	out     sinktest.Fake[int]
	at      pollertest.Checkpointer
	dead    sinktest.Fake[poller.Rejected[int]]
	metrics *prometheus.Metrics
	scraped *prom.Registry
}

// newWorld has n rows, from 1.
func newWorld(n int) *world {
	w := &world{metrics: prometheus.New(), scraped: prom.NewPedanticRegistry()}
	w.scraped.MustRegister(w.metrics)
	w.add(n)
	return w
}

func (w *world) add(n int) {
	for i := range n {
		w.src.Append(i + 1)
	}
}

// poller returns an attached pipeline. A failed step is tried again a nanosecond
// later.
func (w *world) poller() *poller.Poller[int] { return w.called("shop") }

func (w *world) called(name string) *poller.Poller[int] {
	p := &poller.Poller[int]{
		Name: name,
		Source: source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
			b, err := w.src.Fetch(ctx, after, max)
			b.Bytes = 10 * len(b.Records)
			return b, err
		}),
		Sink:         &w.out,
		Checkpointer: &w.at,
		DeadLetter:   &w.dead,
		BatchSize:    10,
		Retry:        retry.Policy{Base: 1, Cap: 1},
		Logger:       slog.New(slog.DiscardHandler),
	}
	w.metrics.Attach(&p.Hooks, p.Status)
	return p
}

// start runs p until stop is called. stop returns the result of Run.
func start(t *testing.T, p *poller.Poller[int]) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return func() error { cancel(); return <-ended }
}

// values are the gathered values, by the name without devotion_ and the labels
// other than pipeline. A histogram is a count, a sum and its cumulative buckets.
type values map[string]float64

func (w *world) gather(t *testing.T) values {
	t.Helper()
	families, err := w.scraped.Gather()
	require.NoError(t, err)
	all := values{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "devotion_")
			var texts []string
			for _, l := range m.GetLabel() {
				if l.GetName() != "pipeline" {
					texts = append(texts, l.GetName()+"="+l.GetValue())
				}
			}
			suffix := ""
			if len(texts) > 0 {
				suffix = "{" + strings.Join(texts, ",") + "}"
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				all[name+suffix] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				all[name+suffix] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				all[name+"_count"+suffix], all[name+"_sum"+suffix] = float64(h.GetSampleCount()), h.GetSampleSum()
				for _, b := range h.GetBucket() {
					all[fmt.Sprintf("%s_bucket%s<=%v", name, suffix, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			default:
				require.Fail(t, "unexpected type", "%s", f.GetType())
			}
		}
	}
	return all
}

// but returns what is not 0, without buckets, settings and what only says that time
// passes.
func (v values) but() values {
	some := values{}
	for name, value := range v {
		if value != 0 && !strings.Contains(name, "_bucket") && !strings.Contains(name, "_timestamp") &&
			!strings.HasPrefix(name, "build_info") && !strings.Contains(name, "duration_seconds_sum") && name != "interval_seconds" && name != "lag_objective_seconds" {
			some[name] = value
		}
	}
	return some
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
