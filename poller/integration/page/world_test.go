package page

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// pipeline describes a real Poller with a fake source, sink and checkpoint.
type pipeline struct {
	name      string
	perSec    float64               // rows that appear per second
	answer    func(time.Time) error // error of the source at a time
	held      func(time.Time) *source.Held
	write     func(context.Context) error
	interval  time.Duration
	guarantee *source.Guarantee // defaults to every
	lease     poller.Lease
	uploads   func() sink.Pending
}

var (
	every  = &source.Guarantee{Name: "lock-fence", Text: "Every row is read exactly once, in the order of id."}
	margin = &source.Guarantee{Name: "stamp=30s", Text: "A row is missed if its created_at holds a time more than 30s before its transaction began.", Lossy: true}
)

// traffic is a source whose rows appear over time, at a rate that varies but is
// the same in every run.
func (p *pipeline) traffic(began time.Time) source.Func[struct{}] {
	noise := rand.New(rand.NewPCG(1, uint64(len(p.name))))
	var rows, at float64
	guarantee := cmp.Or(p.guarantee, every)
	return func(ctx context.Context, after source.Cursor, limit int) (source.Batch[struct{}], error) {
		now := time.Now()
		b := source.Batch[struct{}]{From: after, To: after, AsOf: now, Guarantee: guarantee, Position: "id " + cmp.Or(string(after), "0")}
		if p.answer != nil {
			if err := p.answer(now); err != nil {
				return b, err
			}
		}
		for t := now.Sub(began).Seconds(); at < t; at++ {
			rows += max(0, p.perSec*(1+0.35*math.Sin(at/140)+0.2*math.Sin(at/31)+0.2*noise.NormFloat64()))
		}
		if p.held != nil {
			if h := p.held(now); h != nil {
				b.Held, b.AsOf = h, h.Since
				return b, nil
			}
		}
		from, _ := strconv.Atoi(string(after))
		if n := min(limit, int(rows)-from); n > 0 {
			b.Records, b.To = make([]struct{}, n), source.Cursor(strconv.Itoa(from+n))
			b.More, b.Pending, b.Position = from+n < int(rows), int64(int(rows)-from-n), "id "+string(b.To)
		}
		return b, nil
	}
}

func (p *pipeline) poller(page *status.Page, began time.Time) *poller.Poller[struct{}] {
	q := &poller.Poller[struct{}]{
		Name:   p.name,
		Source: p.traffic(began),
		Sink: sink.Func[struct{}](func(ctx context.Context, b source.Batch[struct{}]) error {
			if p.write == nil {
				return nil
			}
			return p.write(ctx)
		}),
		Checkpointer: &pollertest.Checkpointer{},
		Interval:     p.interval,
		Lease:        p.lease,
		Uploads:      p.uploads,
		Logger:       slog.New(slog.DiscardHandler),
	}
	page.Attach(&q.Hooks, q.Status)
	return q
}

// simulate runs pipelines for length in a bubble, and returns a server that
// answers as their page did at the end, which is now.
func simulate(t *testing.T, length time.Duration, build func(end time.Time) []*pipeline) *httptest.Server {
	t.Helper()
	end := time.Now()
	answers := http.NewServeMux()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(end.Add(-length)))
		began := time.Now()
		page := &status.Page{Version: "1.4.2"}
		ctx, cancel := context.WithCancel(t.Context())
		group := poller.Group{Logger: slog.New(slog.DiscardHandler)}
		for _, p := range build(end) {
			group.Pipelines = append(group.Pipelines, p.poller(page, began))
		}
		var running sync.WaitGroup
		running.Go(func() { _ = group.Run(ctx) })
		time.Sleep(length)
		for _, path := range []string{"/", "/page.css", "/page.js", "/icon-ok.svg", "/icon-wait.svg", "/icon-warn.svg", "/icon-bad.svg"} {
			w := httptest.NewRecorder()
			page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			answers.HandleFunc("GET "+path, func(out http.ResponseWriter, r *http.Request) {
				if path == "/" && r.URL.Path != path {
					http.NotFound(out, r)
					return
				}
				for k, v := range w.Header() {
					out.Header()[k] = v
				}
				out.WriteHeader(w.Code)
				_, _ = out.Write(w.Body.Bytes())
			})
		}
		cancel()
		running.Wait()
	})
	server := httptest.NewServer(answers)
	t.Cleanup(server.Close)
	return server
}

// errDown has two lines, as pgx writes it.
var errDown = errors.New("failed to connect to `user=copy database=shop`:\n\t10.20.0.7:5432 (db-1): dial error: dial tcp 10.20.0.7:5432: connect: connection refused")

// shop has ten pipelines.
func shop(time.Time) []*pipeline {
	var all []*pipeline
	for i, name := range []string{"orders", "order_lines", "invoices", "payments", "refunds", "customers", "addresses", "shipments", "stock_moves", "price_changes"} {
		all = append(all, &pipeline{name: name, perSec: 1240 / float64(1+i*i), interval: 2 * time.Second})
	}
	return all
}

// outage: the database of ten pipelines is down, two others have another database.
func outage(end time.Time) []*pipeline {
	down := func(now time.Time) error {
		if now.After(end.Add(-6 * time.Minute)) {
			return errDown
		}
		return nil
	}
	all := shop(end)
	for _, p := range all {
		p.answer = func(now time.Time) error {
			if err := down(now); err != nil {
				return fmt.Errorf("sqlsource: %s: %w", p.name, err)
			}
			return nil
		}
	}
	return append(all, &pipeline{name: "audit", perSec: 12}, &pipeline{name: "web_sessions", perSec: 310})
}

// lossy: one of three pipelines can miss rows, and has some left to copy.
func lossy(time.Time) []*pipeline {
	return []*pipeline{
		{name: "orders", perSec: 1240},
		{name: "page_views", perSec: 9000, guarantee: margin},
		{name: "invoices", perSec: 86},
	}
}

// trouble: one pipeline is held back by a forgotten transaction, one is stuck in
// a disk that does not answer.
func trouble(end time.Time) []*pipeline {
	since := end.Add(-4*time.Minute - 12*time.Second)
	return []*pipeline{
		{name: "shipments", perSec: 40},
		{name: "orders", perSec: 1240, held: func(now time.Time) *source.Held {
			if now.Before(since) {
				return nil
			}
			return &source.Held{Since: since, By: []string{"pid 48213 (psql), open for 4m12s", "prepared transaction nightly-import"}}
		}},
		{name: "invoices", perSec: 86, write: func(ctx context.Context) error {
			if time.Now().After(end.Add(-3 * time.Minute)) {
				time.Sleep(4 * time.Minute) // ignores its context
			}
			return nil
		}},
	}
}

// replicas: one of four pipelines stands by, one will be restarted, and one cannot upload its files.
func replicas(end time.Time) []*pipeline {
	since := end.Add(-21 * time.Minute)
	return []*pipeline{
		{name: "orders", perSec: 1240, lease: taken{}},
		{name: "invoices", perSec: 86, answer: func(now time.Time) error {
			if now.After(end.Add(-2 * time.Minute)) {
				return retry.Permanent(errors.New("sqlsource: invoices: the row with id 99132 cannot be read: invalid byte sequence for encoding \"UTF8\""))
			}
			return nil
		}},
		{name: "shipments", perSec: 40, uploads: func() sink.Pending {
			return sink.Pending{Segments: 4, Since: since, Attempts: 47, Err: errors.New("PUT https://bucket.example/shipments-0000000012.jsonl.gz: 403 Forbidden")}
		}},
	}
}

// taken is a lease that another replica holds.
type taken struct{}

func (taken) Hold(ctx context.Context, _ func(context.Context) error) error {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return poller.ErrStandby
}

// many: fifty pipelines with long names, of which three fail.
func many(end time.Time) []*pipeline {
	var all []*pipeline
	for i := range 50 {
		p := &pipeline{name: fmt.Sprintf("warehouse.region-%02d.orders", i+1), perSec: float64(5 + 7*i), interval: 5 * time.Second}
		if i%17 == 9 {
			p.answer = func(now time.Time) error {
				if now.After(end.Add(-2 * time.Minute)) {
					return errDown
				}
				return nil
			}
		}
		all = append(all, p)
	}
	return all
}
