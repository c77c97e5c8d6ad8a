// Package status serves the health of pipelines over HTTP: a page for people,
// and endpoints for probes and programs.
//
//	var page status.Page
//	page.Attach(&p.Hooks, p.Status) // before Run, once for each pipeline
//	server := status.NewServer(&page)
//	server.Addr = "127.0.0.1:9464"
//	err := server.ListenAndServe()
//
// A Page answers GET and HEAD requests for these paths:
//
//   - /livez: 200 if every pipeline runs or is done, and none is stuck, else 503.
//     Restart the program when it fails. It does not depend on a database: a restart
//     does not end an outage, and a pipeline that waits for the end of one is alive. So
//     is one that stands by, see [poller.Lease], or that a [poller.Group] will restart.
//   - /readyz: 200 if every pipeline succeeded recently, see [Page].Fresh, or is
//     done, see [poller.Status], or stands by, else 503. It is 503 during an outage,
//     and while no pipeline is attached. A standby is ready: a rollout that waits for
//     it before it ends the active replica would never end otherwise.
//   - /status: everything as JSON, see below.
//   - /: the page. It loads nothing from other sites, refreshes itself, and says
//     so when the program stops answering. Without JavaScript it shows the same
//     and reloads every 10 seconds.
//
// The probes answer with a line for each pipeline. Other paths are not found.
//
// To serve the page under another path, strip the prefix. All links of the page
// are relative:
//
//	mux.Handle("/ops/", http.StripPrefix("/ops", &page))
//
// The page changes nothing, but it shows keys, errors and who holds rows back,
// and it does not ask for a password. Listen on a loopback address, or put a
// proxy that asks for one in front. Use [NewServer] rather than a plain
// http.Server.
//
// # JSON
//
// /status is an object with version, started (when the first pipeline was
// attached), now, live, ready and pipelines. A pipeline has the fields of
// [poller.Status] in lower case with underscores, such as dead_letters, and:
//
//   - summary: what the pipeline does, in a few words; live and ready.
//   - ceiling and guarantee: the name and the text of what the source promises,
//     and lossy, true if rows can be missed. Absent if it promises nothing.
//   - position: the cursor in words, and pending: the greatest number of rows
//     after it. Absent if unknown. log_pinned_bytes: how much of its log the server keeps
//     until the cursor moves on.
//   - lag_seconds, absent while unknown and when done, and interval_seconds.
//   - uploads: the segments that wait for their upload, since when the oldest one
//     waits and lag_seconds, and attempts and last_error of an upload that fails.
//     Absent if none waits, see [poller.Poller].Uploads.
//
// Durations are seconds. Times that are not set are left out.
//
// With /status?history each pipeline also has a history: the last 15 minutes in
// steps of 5 seconds, the oldest first, without the step in progress. Its end is
// when the last step ended. rows has the number of rows delivered in each step,
// and lag_seconds the lag at the end of each step, null where it was unknown.
// The history starts empty with the program.
package status

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

// Page is an http.Handler that shows pipelines. The zero value is ready to use.
// It is safe for concurrent use, starts no goroutine, and keeps 3 KiB for each
// pipeline. It must not be copied after first use.
type Page struct {
	// Version is the version of the program, for display.
	Version string

	// Fresh is how long a pipeline counts as ready after its last success. A
	// poll that finds nothing is a success. Defaults to a minute, or to three
	// of the pipeline's intervals if that is longer.
	Fresh time.Duration

	mu        sync.RWMutex
	started   time.Time
	pipelines []*pipeline
}

type pipeline struct {
	status  func() poller.Status
	ring    ring
	failing atomic.Pointer[failing] // nil after a success
}

// failing holds what a Status does not say about failures.
type failing struct {
	op    poller.Op // the step that failed last; another may be in progress
	since time.Time // of the first failure after the last success
}

// Attach adds a pipeline to the page, given by its Status method, and joins the
// page's hooks to the pipeline's. Call it before Run. It may be called while the
// page is being served.
func (p *Page) Attach(hooks *poller.Hooks, status func() poller.Status) {
	now := time.Now()
	l := &pipeline{status: status}
	l.ring.begin(now)
	*hooks = poller.JoinHooks(*hooks, poller.Hooks{StepBegin: l.stepBegin, Backoff: l.backoff, Poll: l.poll})

	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pipelines) == 0 {
		p.started = now
	}
	p.pipelines = append(p.pipelines, l)
}

// stepBegin notices when a run begins. The lag is unknown then, because the
// cursor may have been set back.
func (l *pipeline) stepBegin(ctx context.Context, i poller.StepInfo) context.Context {
	if i.Op == poller.OpLoad {
		s := l.status()
		l.ring.begun(i.Start, s.AsOf)
		if s.Started.IsZero() && i.Attempt == 1 { // not during a run, where a late write loads the cursor again
			l.failing.Store(nil)
		}
	}
	return ctx
}

func (l *pipeline) backoff(i poller.BackoffInfo) {
	f := failing{i.Op, time.Now()}
	// A standby makes no poll that would end the failure.
	if before := l.failing.Load(); before != nil && (i.Op != poller.OpLease || i.Attempt > 1) {
		f.since = before.since
	}
	l.failing.Store(&f)
}

func (l *pipeline) poll(i poller.PollInfo) {
	l.failing.Store(nil)
	l.ring.add(i.Start.Add(i.Duration), int64(i.Records), i.AsOf)
}

// ServeHTTP answers the paths listed in the package documentation.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")

	var serve func(http.ResponseWriter, *http.Request)
	switch r.URL.Path {
	case "/":
		serve = p.serveHTML
	case "/livez":
		serve = p.probe("live", func(r reading) bool { return r.live })
	case "/readyz":
		serve = p.probe("ready", func(r reading) bool { return r.ready })
	case "/status":
		serve = p.serveJSON
	case "/page.css", "/page.js", "/icon-ok.svg", "/icon-wait.svg", "/icon-warn.svg", "/icon-bad.svg":
		serve = serveFile
	default:
		http.NotFound(w, r)
		return
	}
	if !refused(w, r) {
		serve(w, r)
	}
}

// snapshot is the state of every pipeline at one moment, in the order of Attach.
type snapshot struct {
	now, started time.Time
	pipelines    []reading
}

func (p *Page) read() snapshot {
	p.mu.RLock()
	defer p.mu.RUnlock()
	s := snapshot{now: time.Now(), started: p.started}
	for i, l := range p.pipelines {
		s.pipelines = append(s.pipelines, newReading(i+1, l, s.now, p.Fresh))
	}
	return s
}
