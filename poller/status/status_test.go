package status_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/source"
)

func TestProbesInEveryState(t *testing.T) {
	const yes, no = http.StatusOK, http.StatusServiceUnavailable
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		time.Sleep(time.Hour)
		now := time.Now()
		healthy := poller.Status{
			Name: "orders", Interval: time.Second, State: poller.Idle, Started: began, Since: now, LastPoll: now.Add(-time.Second),
		}
		for name, c := range map[string]struct {
			change      func(*poller.Status)
			fresh       time.Duration
			live, ready int
			words       string
		}{
			"up to date":               {func(s *poller.Status) {}, 0, yes, yes, "up to date"},
			"copying":                  {func(s *poller.Status) { s.State, s.Op = poller.Working, poller.OpWrite }, 0, yes, yes, "copying"},
			"not run yet":              {func(s *poller.Status) { *s = poller.Status{Name: "orders", State: poller.Stopped} }, 0, no, no, "stopped"},
			"stopped":                  {func(s *poller.Status) { s.State, s.Started = poller.Stopped, time.Time{} }, 0, no, no, "stopped"},
			"done":                     {func(s *poller.Status) { s.State, s.Started, s.Done = poller.Stopped, time.Time{}, true }, 0, yes, yes, "done"},
			"done, a step is stuck":    {func(s *poller.Status) { s.Done, s.Overdue = true, true }, 0, no, yes, "stuck: no answer for 0s"},
			"loading":                  {func(s *poller.Status) { s.State, s.Started = poller.Working, time.Time{} }, 0, yes, no, "starting"},
			"not polled yet":           {func(s *poller.Status) { s.LastPoll = time.Time{} }, 0, yes, no, "up to date"},
			"polled in an earlier run": {func(s *poller.Status) { s.Started = now }, 0, yes, no, "up to date"},
			"polled at the start":      {func(s *poller.Status) { s.Started = s.LastPoll }, 0, yes, yes, "up to date"},
			"polled a minute ago":      {func(s *poller.Status) { s.LastPoll = now.Add(-time.Minute) }, 0, yes, yes, "up to date"},
			"polled longer ago":        {func(s *poller.Status) { s.LastPoll = now.Add(-time.Minute - 1) }, 0, yes, no, "up to date"},
			"polls rarely":             {func(s *poller.Status) { s.Interval, s.LastPoll = time.Minute, now.Add(-3*time.Minute) }, 0, yes, yes, "up to date"},
			"polls rarely, too old":    {func(s *poller.Status) { s.Interval, s.LastPoll = time.Minute, now.Add(-3*time.Minute-1) }, 0, yes, no, "up to date"},
			"Fresh set, still":         {func(s *poller.Status) {}, time.Second, yes, yes, "up to date"},
			"Fresh set, too old":       {func(s *poller.Status) {}, time.Second - 1, yes, no, "up to date"},
			"failing since now":        {func(s *poller.Status) { s.State, s.Attempts = poller.Backoff, 1 }, 0, yes, yes, "failing, trying again"},
			"failing for long": {func(s *poller.Status) {
				s.State, s.Attempts, s.LastPoll = poller.Backoff, 99, now.Add(-time.Hour)
			}, 0, yes, no, "failing, 99 attempts, trying again"},
			"held back": {func(s *poller.Status) {
				s.State, s.Held = poller.Held, &source.Held{Since: began, By: []string{"pid 7"}}
			}, 0, yes, yes, "held back for 1h0m0s by pid 7"},
			"held back, asking again": {func(s *poller.Status) {
				s.State, s.Op, s.Held = poller.Working, poller.OpFetch, &source.Held{Since: began}
			}, 0, yes, yes, "held back for 1h0m0s by an unknown holder"},
			"copying, the rest held back": {func(s *poller.Status) {
				s.State, s.Op, s.Held = poller.Working, poller.OpWrite, &source.Held{Since: began}
			}, 0, yes, yes, "copying"},
			"stuck": {func(s *poller.Status) { s.State, s.Overdue = poller.Working, true }, 0, no, yes, "stuck: no answer for 0s"},
			"no answer yet": {func(s *poller.Status) {
				s.State, s.Op, s.Since = poller.Working, poller.OpFetch, now.Add(-9*time.Second)
			}, 0, yes, yes, "waiting for an answer for 9s (fetch)"},
			"standby":                   {func(s *poller.Status) { s.State, s.Started, s.LastPoll = poller.Standby, time.Time{}, time.Time{} }, 0, yes, yes, "standby"},
			"standby that was active":   {func(s *poller.Status) { s.State, s.Started, s.LastPoll = poller.Standby, time.Time{}, began }, 0, yes, yes, "standby"},
			"standby without its store": {func(s *poller.Status) { s.State, s.Started, s.Attempts = poller.Standby, time.Time{}, 3 }, 0, yes, no, "failing, 3 attempts, trying again"},
			"restarting":                {func(s *poller.Status) { s.State, s.Started = poller.Restarting, time.Time{} }, 0, yes, no, "failed, will restart"},
		} {
			page := &status.Page{Fresh: c.fresh}
			_, change := attach(page, healthy)
			change(c.change)
			live, ready := get(t, page, "/livez"), get(t, page, "/readyz")
			assert.Equal(t, c.live, live.Code, "%s: live", name)
			assert.Equal(t, c.ready, ready.Code, "%s: ready", name)
			is := map[int]string{yes: "", no: "not "}
			assert.Equal(t, "orders: "+is[c.live]+"live: "+c.words+"\n", live.Body.String(), name)
			assert.Equal(t, "orders: "+is[c.ready]+"ready: "+c.words+"\n", ready.Body.String(), name)
			assert.Equal(t, http.StatusOK, get(t, page, "/").Code, name)
		}
	})
}

func TestOneOfSeveralDecides(t *testing.T) {
	var page status.Page
	now := time.Now()
	attach(&page, poller.Status{Name: "orders", State: poller.Idle, Started: now, LastPoll: now})
	attach(&page, poller.Status{Name: "two\nlines", State: poller.Stopped})
	w := get(t, &page, "/livez")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Equal(t, "orders: live: up to date\ntwo; lines: not live: stopped\n", w.Body.String())
}

func TestNoPipeline(t *testing.T) {
	var page status.Page
	live, ready := get(t, &page, "/livez"), get(t, &page, "/readyz")
	assert.Equal(t, http.StatusOK, live.Code, "a restart would not help")
	assert.Equal(t, http.StatusServiceUnavailable, ready.Code)
	assert.Equal(t, "no pipeline is attached\n", live.Body.String())
	assert.Equal(t, "no pipeline is attached\n", ready.Body.String())
	assert.Contains(t, get(t, &page, "/").Body.String(), "No pipeline is attached")
	assert.Contains(t, get(t, &page, "/status").Body.String(), `"pipelines": []`)
	assert.Contains(t, get(t, &page, "/status").Body.String(), `"ready": false`)
}

// During a day without its database the pipeline is live, and it is ready again right after.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		p := newPipeline(&page, "orders")
		code := func(path string) int { return get(t, &page, path).Code }
		assert.Equal(t, http.StatusServiceUnavailable, code("/livez"), "not started")
		stop := p.start(t)
		synctest.Wait()
		assert.Equal(t, http.StatusOK, code("/livez"))
		assert.Equal(t, http.StatusOK, code("/readyz"))

		p.Source.Fail(errors.New("connection refused"))
		time.Sleep(2 * time.Minute)
		for range 24 {
			assert.Equal(t, http.StatusOK, code("/livez"))
			assert.Equal(t, http.StatusServiceUnavailable, code("/readyz"))
			body := html(t, &page)
			assert.Contains(t, body, "<title>✕ orders is failing</title>")
			assert.Contains(t, body, "connection refused")
			assert.Regexp(t, `<span class="since">since <time datetime="2000-01-01T00:00:0[^>]*>[^<]*</time> \(\d+ (min|h)`, body, "of the first failure")
			time.Sleep(time.Hour)
		}
		p.Source.Heal()
		time.Sleep(time.Minute)
		assert.Equal(t, http.StatusOK, code("/readyz"))
		body := html(t, &page)
		assert.Contains(t, body, "<title>✓ orders is healthy</title>")
		assert.Contains(t, body, "Recovered from an error at ")

		stop()
		assert.Equal(t, http.StatusOK, code("/livez"))
		assert.Equal(t, http.StatusOK, code("/readyz"))
		body = html(t, &page)
		assert.Contains(t, body, "<title>✓ orders is done</title>")
		assert.Contains(t, body, "Recovered from an error at ")
		assert.Contains(t, get(t, &page, "/status").Body.String(), `"done": true`)
	})
}

func TestPathsMethodsAndHeaders(t *testing.T) {
	page := &status.Page{}
	attach(page, poller.Status{Name: "orders"})
	mounted := http.NewServeMux()
	mounted.Handle("/ops/", http.StripPrefix("/ops", page))
	types := map[string]string{
		"/": "text/html; charset=utf-8", "/status": "application/json", "/status?history": "application/json",
		"/livez": "text/plain; charset=utf-8", "/readyz": "text/plain; charset=utf-8",
		"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8",
		"/icon-ok.svg": "image/svg+xml", "/icon-wait.svg": "image/svg+xml", "/icon-warn.svg": "image/svg+xml", "/icon-bad.svg": "image/svg+xml",
	}
	ask := func(h http.Handler, method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	for path, kind := range types {
		for _, r := range []*httptest.ResponseRecorder{
			ask(page, http.MethodGet, path), ask(page, http.MethodHead, path), ask(mounted, http.MethodGet, "/ops"+path),
		} {
			assert.Equal(t, kind, r.Header().Get("Content-Type"), path)
			assert.NotContains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, r.Code, path)
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			r := ask(page, method, path)
			assert.Equal(t, http.StatusMethodNotAllowed, r.Code, "%s %s", method, path)
			assert.Equal(t, "GET, HEAD", r.Header().Get("Allow"))
		}
	}
	for _, path := range []string{"/index.html", "/page.html", "/livez/", "/status/x", "/../page.css", "//", "/favicon.ico"} {
		assert.Equal(t, http.StatusNotFound, ask(page, http.MethodGet, path).Code, path)
		types[path] = ""
	}
	for path := range types {
		h := ask(page, http.MethodGet, path).Header()
		assert.Equal(t, "no-store", h.Get("Cache-Control"), path)
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		assert.Equal(t, "no-referrer", h.Get("Referrer-Policy"), path)
		for _, directive := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "script-src 'self'"} {
			assert.Contains(t, h.Get("Content-Security-Policy"), directive, path)
		}
		assert.NotContains(t, h.Get("Content-Security-Policy"), "unsafe")
	}
}

func TestHEADHasNoBody(t *testing.T) {
	page := &status.Page{}
	server := httptest.NewServer(page)
	defer server.Close()
	r, err := http.Head(server.URL + "/status")
	require.NoError(t, err)
	defer r.Body.Close()
	assert.Equal(t, http.StatusOK, r.StatusCode)
	assert.NotZero(t, r.ContentLength)
}

// No row waits for a pipeline that is done, so it has no lag that could grow.
func TestDoneHasNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		_, change := attach(&page, poller.Status{Name: "orders", State: poller.Stopped, Done: true, Since: time.Now(), AsOf: time.Now()})
		time.Sleep(time.Minute)
		body := html(t, &page)
		assert.Contains(t, body, `<dt>Longest lag</dt><dd>unknown</dd>`)
		assert.Contains(t, body, `aria-label="Lag in the last 15 minutes: now unknown."`)
		assert.NotContains(t, get(t, &page, "/status").Body.String(), "lag_seconds")
		change(func(s *poller.Status) { s.Done = false })
		assert.Contains(t, get(t, &page, "/status").Body.String(), `"lag_seconds": 60`)
	})
}

// The history keeps the lag of the run, and ends it there.
func TestTheHistoryOfTheLagEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var page status.Page
		began := time.Now()
		hooks, change := attach(&page, poller.Status{Name: "orders", State: poller.Idle, Started: began})
		hooks.Poll(poller.PollInfo{Start: began, AsOf: began})
		time.Sleep(12 * time.Second)
		change(func(s *poller.Status) { s.State, s.Done, s.Since = poller.Stopped, true, time.Now() })
		time.Sleep(8 * time.Second)
		h, _ := history(t, &page)
		require.Len(t, h.Lag, 4)
		assert.Equal(t, []float64{5, 10}, []float64{*h.Lag[0], *h.Lag[1]})
		assert.Equal(t, []*float64{nil, nil}, h.Lag[2:])
	})
}
