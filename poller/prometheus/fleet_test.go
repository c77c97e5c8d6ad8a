package prometheus_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// names are the pipelines of a fleet.
var names = strings.Fields(`accounts addresses carts categories clicks coupons credits currencies customers deliveries
	events exports invoices items ledger logins messages orders payments prices
	products refunds returns reviews sessions shipments stock suppliers users vouchers`)

// fleet is 30 live pipelines in 3 programs, each with its metrics.
type fleet struct {
	t        *testing.T
	members  map[string]*member
	addrs    []string // of the programs
	handlers []http.Handler
	servers  []*http.Server
}

// member is a pipeline of a fleet.
type member struct {
	*poller.Poller[int]
	src       sourcetest.Fake[int]
	at        pollertest.Checkpointer
	out       func(context.Context, source.Batch[int]) error
	guarantee source.Guarantee
	pending   int64
	unknown   bool // the source does not say how far it has read
	rows      int  // that are appended at each tick
}

// newFleet starts a fleet whose programs listen at three addresses.
func newFleet(t *testing.T, addrs []string) *fleet {
	f := &fleet{t: t, members: map[string]*member{}, addrs: addrs, servers: make([]*http.Server, len(addrs))}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for i := range f.addrs {
		metrics, registry := prometheus.New(), prom.NewRegistry()
		metrics.Version = "1.4.2"
		registry.MustRegister(metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		f.handlers = append(f.handlers, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
		for j := i; j < len(names); j += len(f.addrs) {
			m := newMember(names[j], 1+j*j%37)
			f.members[m.Name] = m
			metrics.Attach(&m.Hooks, m.Status, prometheus.LagObjective(20*time.Second))
		}
	}
	release := make(chan struct{})
	t.Cleanup(func() { // before the pipelines are stopped, which must succeed
		close(release)
		f.members["ledger"].at.FailFunc(nil)
	})
	f.damage(release)
	for _, m := range f.members {
		running.Go(func() { assert.NoError(t, m.Run(ctx), m.Name) })
	}
	running.Go(func() { f.write(ctx) })
	for i := range f.addrs {
		f.serve(i)
		t.Cleanup(func() { f.servers[i].Close() })
	}
	return f
}

func newMember(name string, rows int) *member {
	m := &member{rows: rows, guarantee: source.Guarantee{Name: "lock-fence"}}
	m.Poller = &poller.Poller[int]{
		Name: name, Checkpointer: &m.at, Logger: slog.New(slog.DiscardHandler),
		Interval: 200 * time.Millisecond, Retry: retry.Policy{Cap: time.Second},
		Source: source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
			b, err := m.src.Fetch(ctx, after, max)
			b.Guarantee, b.Pending, b.Bytes = &m.guarantee, m.pending, 100*len(b.Records)
			if m.unknown {
				b.AsOf = time.Time{}
			}
			return b, err
		}),
		Sink: sink.Func[int](func(ctx context.Context, b source.Batch[int]) error {
			if m.out != nil {
				return m.out(ctx, b)
			}
			return nil
		}),
	}
	return m
}

// damage gives some pipelines the faults that the alerts report, until release is
// closed.
func (f *fleet) damage(release chan struct{}) {
	for name, guarantee := range map[string]source.Guarantee{
		"events": {Name: "lag", Lossy: true}, "sessions": {Name: "none", Lossy: true}, "users": {Name: "transaction-id"}, "logins": {Name: "single-writer"},
	} {
		f.members[name].guarantee = guarantee
	}
	f.members["clicks"].unknown = true
	f.members["stock"].pending = 123456
	began := time.Now()
	f.members["deliveries"].Uploads = func() sink.Pending { return sink.Pending{Segments: 3, Since: began, Attempts: 9, Err: errOutage} }
	f.members["shipments"].src.Hold(source.Held{By: []string{"pid 4711"}})
	exports := f.members["exports"]
	exports.Deadline = time.Second
	exports.out = func(context.Context, source.Batch[int]) error { <-release; return nil }
	returns := f.members["returns"]
	returns.DeadLetter = sink.Func[poller.Rejected[int]](func(context.Context, source.Batch[poller.Rejected[int]]) error { return nil })
	returns.out = func(_ context.Context, b source.Batch[int]) error {
		for _, r := range b.Records {
			if r%100 == 0 {
				return sink.Reject(errors.New("a bad row"))
			}
		}
		return nil
	}
	f.members["ledger"].at.FailFunc(func(c fault.Call, _ fault.Point) error {
		if c.Op == "Save" && c.N > 5 {
			return errOutage
		}
		return nil
	})
	refunds := f.members["refunds"] // which makes progress
	refunds.src.FailFunc(func(c fault.Call, _ fault.Point) error {
		if c.N%3 == 2 {
			return errOutage
		}
		return nil
	})
	f.members["payments"].src.FailFunc(f.outage)
}

// outage begins after some fetches and lasts until Heal.
func (f *fleet) outage(c fault.Call, _ fault.Point) error {
	if c.N > 20 {
		return errOutage
	}
	return nil
}

// write appends rows to all sources.
func (f *fleet) write(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		for _, m := range f.members {
			for range m.rows * (1 + n/160%3) {
				m.src.Append(n)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// serve lets a program answer, at its address.
func (f *fleet) serve(i int) {
	f.servers[i] = &http.Server{Handler: f.handlers[i], ReadHeaderTimeout: time.Minute}
	listener, err := net.Listen("tcp", f.addrs[i])
	require.NoError(f.t, err)
	go f.servers[i].Serve(listener) //nolint:errcheck // until it is closed
}
