// Package status serves the health of pipelines over HTTP: a page for people,
// and answers for probes.
//
//	var page status.Page
//	page.Attach(&p.Hooks, p.Status) // before Run, once for each pipeline
//	err := http.ListenAndServe("127.0.0.1:9464", &page)
//
// It answers GET and HEAD of
//
//   - /livez: 200 if every pipeline runs and none is stuck, else 503. This is
//     what to restart the program on. It never looks at a database: a restart
//     cures no outage, and a pipeline that waits for one to end is alive.
//   - /readyz: 200 if every pipeline has succeeded lately, see [Page].Fresh,
//     else 503. During an outage this says no. It also does where no pipeline
//     is attached.
//   - /status: all of it as JSON, see below.
//   - /: the page. It needs nothing from outside, refreshes itself, and says so
//     when the program no longer answers. Without JavaScript it shows the same,
//     as of its loading.
//
// Probes are answered with a line for each pipeline. Anything else is not found.
//
// To serve it elsewhere than at the root, strip the prefix; all links of the
// page are relative:
//
//	mux.Handle("/ops/", http.StripPrefix("/ops", &page))
//
// It can change nothing, but shows cursors, errors and who holds rows back. It
// asks for no password: listen on loopback, or put it behind something that does.
//
// # JSON
//
// /status is an object with version, started (when the first pipeline was
// attached), now, live, ready and pipelines. A pipeline has the fields of
// [poller.Status] in lower case with underscores (dead_letters), words (what it
// is about, for people), live, ready, and durations in seconds: lag_seconds,
// absent while not known, and interval_seconds. Times that have not been are
// left out.
//
// With /status?history each pipeline also has a history: the last 15 minutes in
// steps of 5 seconds, the oldest first, the one in progress not included. end is
// when the last step ended, rows how many were delivered in each, and
// lag_seconds the lag at the end of each, null where it was not known. The
// history begins anew with the program.
package status

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

// Page is an http.Handler. The zero value is ready to use. It is safe for
// concurrent use, starts no goroutine, and keeps 3 KiB for each pipeline. It
// must not be copied after first use.
type Page struct {
	// Version of the program is shown.
	Version string

	// Fresh is how long ago the last success of a pipeline may be for it to be
	// ready. A poll that finds nothing is one. Defaults to a minute, or three
	// intervals of the pipeline if that is longer.
	Fresh time.Duration

	mu        sync.RWMutex
	started   time.Time
	pipelines []*pipeline
}

// pipeline is one that was attached.
type pipeline struct {
	status  func() poller.Status
	ring    ring
	failing atomic.Pointer[trouble] // nil if all went well since
}

// trouble is what a Status does not say of a pipeline that fails.
type trouble struct {
	op    poller.Op // the step that failed last; another may be in progress
	since time.Time // of the first failure after the last success
}

// Attach adds a pipeline to the page, given by its Status method, and joins the
// page's hooks to its own. Call it before Run. The page may already be serving.
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

// stepBegin notices the beginning of a run, which forgets as of when all was
// delivered: the cursor may have been set back.
func (l *pipeline) stepBegin(ctx context.Context, i poller.StepInfo) context.Context {
	if i.Op == poller.OpLoad {
		s := l.status()
		l.ring.begun(i.Start, s.AsOf)
		if s.Started.IsZero() && i.Attempt == 1 { // not amid a run, where a late write has it load again
			l.failing.Store(nil)
		}
	}
	return ctx
}

func (l *pipeline) backoff(i poller.BackoffInfo) {
	t := trouble{i.Op, time.Now()}
	if before := l.failing.Load(); before != nil {
		t.since = before.since
	}
	l.failing.Store(&t)
}

func (l *pipeline) poll(i poller.PollInfo) {
	l.failing.Store(nil)
	l.ring.add(i.Start.Add(i.Duration), int64(i.Records), i.AsOf)
}

// ServeHTTP answers what the package's documentation lists.
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
		serve = p.serveLive
	case "/readyz":
		serve = p.serveReady
	case "/status":
		serve = p.serveJSON
	case "/page.css", "/page.js", "/icon-ok.svg", "/icon-wait.svg", "/icon-warn.svg", "/icon-bad.svg":
		serve = serveFile
	default:
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this is to be read only", http.StatusMethodNotAllowed)
		return
	}
	serve(w, r)
}

// look returns how every pipeline does at this moment, in the order of Attach.
func (p *Page) look() (now time.Time, all []reading) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	now = time.Now()
	for i, l := range p.pipelines {
		r := read(l, now, p.Fresh)
		r.id = i + 1
		all = append(all, r)
	}
	return now, all
}
