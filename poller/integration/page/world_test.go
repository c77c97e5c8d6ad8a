package page

import (
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
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// pipeline is a real Poller between fakes.
type pipeline struct {
	name     string
	perSec   float64               // rows that appear in a second
	answer   func(time.Time) error // of the source, at a time since the start
	held     func(time.Time) *source.Held
	write    func(context.Context) error
	interval time.Duration
}

// traffic is a source in which rows appear as time goes by, more at times and
// less at others, the same in every run.
func (p *pipeline) traffic(began time.Time) source.Func[struct{}] {
	noise := rand.New(rand.NewPCG(1, uint64(len(p.name))))
	var rows, at float64
	return func(ctx context.Context, after source.Cursor, limit int) (source.Batch[struct{}], error) {
		now := time.Now()
		b := source.Batch[struct{}]{From: after, To: after, AsOf: now}
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
			b.More = from+n < int(rows)
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
		Logger:       slog.New(slog.DiscardHandler),
	}
	page.Attach(&q.Hooks, q.Status)
	return q
}

// simulate runs pipelines for as long as it takes, in no time, and returns a
// server that answers as their page did at the end, which is now.
func simulate(t *testing.T, length time.Duration, build func(end time.Time) []*pipeline) *httptest.Server {
	t.Helper()
	end := time.Now()
	answers := http.NewServeMux()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(end.Add(-length)))
		began := time.Now()
		page := &status.Page{Version: "1.4.2"}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, p := range build(end) {
			q := p.poller(page, began)
			running.Go(func() { _ = q.Run(ctx) })
		}
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

var errDown = errors.New("dial tcp 10.20.0.7:5432: connect: connection refused")

func healthy(time.Time) []*pipeline {
	return []*pipeline{
		{name: "orders", perSec: 1240},
		{name: "invoices", perSec: 86, interval: 2 * time.Second},
	}
}

// outage: the database of two pipelines is away, the third has another one.
func outage(end time.Time) []*pipeline {
	down := func(now time.Time) error {
		if now.After(end.Add(-6 * time.Minute)) {
			return errDown
		}
		return nil
	}
	return []*pipeline{
		{name: "orders", perSec: 1240, answer: down},
		{name: "invoices", perSec: 86, answer: down},
		{name: "audit", perSec: 12},
	}
}

// trouble: one is held back by a transaction that somebody forgot, one is stuck
// in a disk that does not answer.
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
				time.Sleep(4 * time.Minute) // whatever its context says
			}
			return nil
		}},
	}
}

// many: fifty, of which a few are in trouble, and names that are not short.
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
