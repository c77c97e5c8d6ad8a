package page

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// run runs a pipeline in real time until the end of the test.
func run(t *testing.T, page *status.Page, name string, src source.Source[string]) {
	t.Helper()
	p := &poller.Poller[string]{
		Name: name, Source: src, Sink: &sinktest.Fake[string]{}, Checkpointer: &pollertest.Checkpointer{},
		Interval: 20 * time.Millisecond, Retry: retry.Policy{Cap: 100 * time.Millisecond},
		Logger: slog.New(slog.DiscardHandler),
	}
	page.Attach(&p.Hooks, p.Status)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

// live: the page follows the pipelines without being reloaded.
func live(t *testing.T, open func(string, viewer) *tab) {
	var page status.Page
	var orders, invoices sourcetest.Fake[string]
	run(t, &page, "orders", &orders)
	run(t, &page, "invoices", &invoices)
	server := httptest.NewServer(&page)
	t.Cleanup(server.Close)
	p := open(server.URL+"/", viewer{width: 1280, fast: true})
	p.until(`document.querySelector("h1").innerText === "All pipelines are healthy"`)
	p.do(chromedp.Evaluate[chromedp.Void](`{
		window.loaded = true;
		window.announced = [];
		const a = document.getElementById("announcement");
		new MutationObserver(() => announced.push(a.textContent)).observe(a, { childList: true, characterData: true, subtree: true });
		document.querySelector("#pipeline-2 summary").focus();
	}`))

	orders.Append("a", "b", "c")
	p.until(`document.querySelector("#pipeline-1 .facts dd").innerText === "3"`)
	p.until(`/now \d.*, highest 0.6/.test(document.querySelector("#pipeline-1 svg[role=img]").getAttribute("aria-label"))`)
	assert.Positive(t, eval[float64](p, `document.querySelector("#pipeline-1-rows .line").getTotalLength()`), "the chart is drawn")
	assert.Empty(t, eval[[]string](p, "announced"), "numbers are not announced")

	invoices.Fail(errors.New("connection refused"))
	p.until(`document.querySelector("h1").innerText === "invoices is failing"`)
	assert.Equal(t, "✕ invoices is failing", eval[string](p, "document.title"))
	assert.Equal(t, "icon-bad.svg", eval[string](p, `document.querySelector("link[rel=icon]").getAttribute("href")`))
	assert.Equal(t, "invoices\norders", p.headings("h2"), "trouble comes first")
	assert.Equal(t, "pipeline-2", p.focused(), "the focus moves with it")
	p.awaitRefresh()
	assert.Equal(t, []string{"invoices is failing."}, eval[[]string](p, "announced"), "once, although attempts continue")

	invoices.Heal()
	p.until(`document.querySelector("h1").innerText === "All pipelines are healthy"`)
	assert.Equal(t, []string{"invoices is failing.", "All pipelines are healthy."}, eval[[]string](p, "announced"))
	assert.Equal(t, "orders\ninvoices", p.headings("h2"))
	assert.Contains(t, p.text(), "Recovered from an error at")

	p.do(chromedp.Evaluate[chromedp.Void](`window.card = document.getElementById("pipeline-2")`))
	orders.Fail(errors.New("connection refused"))
	invoices.Fail(errors.New("connection refused"))
	p.until(`document.querySelector("h1").innerText === "2 of 2 pipelines are failing"`)
	p.until(`document.querySelectorAll("main > article").length === 1`)
	assert.Equal(t, "2 pipelines are failing\norders\ninvoices", p.headings("h2"))
	assert.Equal(t, "pipeline-2", p.focused(), "the focus moves into the group")
	orders.Heal()
	p.until(`document.querySelectorAll("main > article").length === 2`)
	assert.Equal(t, "invoices\norders", p.headings("h2"))
	assert.Equal(t, "pipeline-2", p.focused(), "and out of it")
	assert.True(t, eval[bool](p, `window.card === document.getElementById("pipeline-2")`), "it was moved, not replaced")

	assert.True(t, eval[bool](p, "window.loaded"), "it was not reloaded")
	p.behaves()
}

// away: the page says so when the program does not answer, recovers, and reloads
// after the program was updated.
func away(t *testing.T, open func(string, viewer) *tab) {
	var page status.Page
	var orders sourcetest.Fake[string]
	run(t, &page, "orders", &orders)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	serve := func(listener net.Listener, h http.Handler) *httptest.Server {
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: h}}
		server.Start()
		t.Cleanup(server.Close)
		return server
	}
	again := func(h http.Handler) *httptest.Server {
		listener, err := net.Listen("tcp", address)
		require.NoError(t, err)
		return serve(listener, h)
	}

	server := serve(listener, &page)
	p := open("http://"+address+"/", viewer{width: 390, fast: true})
	p.do(chromedp.Evaluate[chromedp.Void]("window.loaded = true"))
	p.awaitRefresh()
	server.Close()
	p.until(`/^No answer since ` + clock + `\. The page shows the state at that time\.$/.test(document.getElementById("lost").innerText)`)
	assert.Regexp(t, `^\? No answer since `+clock+`$`, eval[string](p, "document.title"))
	assert.True(t, eval[bool](p, `document.getElementById("lost").innerText.includes(clock(answered))`))
	assert.Less(t, eval[float64](p, `Math.abs(answered - new Date(document.querySelector(".headline time").dateTime))`), 60e3, "the time of the last answer")
	assert.Contains(t, p.text(), "up to date", "the last state is still shown")
	assert.Equal(t, eval[int](p, "document.documentElement.scrollWidth"), eval[int](p, "document.documentElement.clientWidth"))
	p.picture("away-phone")
	for _, e := range p.errorsSoFar() {
		assert.Contains(t, e, "ERR_CONNECTION_REFUSED", "the browser's own message")
	}

	server = again(http.NotFoundHandler()) // another program, at the same address
	p.awaitError("404")
	assert.True(t, eval[bool](p, `document.getElementById("lost").innerText.startsWith("No answer")`))
	server.Close()

	var silent atomic.Bool
	server = again(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if silent.Load() { // like a suspended program
			<-r.Context().Done()
			return
		}
		page.ServeHTTP(w, r)
	}))
	p.until(`document.getElementById("lost").innerText === ""`)
	assert.Equal(t, "✓ orders is healthy", eval[string](p, "document.title"))
	silent.Store(true)
	p.until(`document.getElementById("lost").innerText.startsWith("No answer")`)
	silent.Store(false)
	p.until(`document.getElementById("lost").innerText === ""`)
	assert.True(t, eval[bool](p, "window.loaded"))
	server.Close()

	again(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := httptest.NewRecorder()
		page.ServeHTTP(recorder, r)
		for k, v := range recorder.Header() {
			w.Header()[k] = v
		}
		_, _ = w.Write([]byte(strings.Replace(recorder.Body.String(), `data-build="`, `data-build="new`, 1)))
	}))
	require.Eventually(t, func() bool { // a poll does not survive the reload
		fresh, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("window.loaded === undefined && document.readyState === 'complete'"))
		return err == nil && fresh
	}, patience, 50*time.Millisecond)
	p.do(chromedp.Evaluate[chromedp.Void]("window.loaded = true"))
	p.awaitRefresh()
	assert.True(t, eval[bool](p, "window.loaded"), "once")
}

func (p *tab) awaitError(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(strings.Join(p.errorsSoFar(), "\n"), text) }, patience, 20*time.Millisecond)
}

// hostile: names, cursors, errors and holders are escaped, and long ones wrap.
func hostile(t *testing.T, open func(string, viewer) *tab) {
	const evil = `<script>window.evil=1</script>'"><img src="http://evil.example/x" onerror="window.evil=1">`
	var page status.Page
	long := strings.Repeat("x", 7000)
	run(t, &page, evil+"\u202e\xff", source.Func[string](func(_ context.Context, after source.Cursor, _ int) (source.Batch[string], error) {
		if after == "" {
			return source.Batch[string]{To: source.Cursor(evil + long), Records: []string{"a"}}, nil
		}
		return source.Batch[string]{}, errors.New(evil + long + "\n\u202eline")
	}))
	run(t, &page, long, source.Func[string](func(_ context.Context, after source.Cursor, _ int) (source.Batch[string], error) {
		held := &source.Held{Since: time.Now().Add(-time.Hour), By: []string{evil, long}}
		return source.Batch[string]{From: after, To: after, Held: held}, nil
	}))
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", &page))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for _, width := range []int64{1280, 390} {
		p := open(server.URL+"/ops/", viewer{width: width, fast: true})
		p.until(`document.querySelectorAll(".card.bad").length === 1 && document.querySelectorAll(".card.warn").length === 1`)
		p.awaitRefresh()
		assert.Equal(t, evil+`\u202e`+"\uFFFD", eval[string](p, `document.querySelector("h2").innerText`))
		assert.True(t, eval[bool](p, `document.querySelector(".notice.bad bdi").innerText.endsWith("x; \\u202eline")`))
		assert.Equal(t, evil+long, eval[string](p, `document.querySelector("dl .code dd").innerText`))
		assert.Equal(t, evil, eval[string](p, `document.querySelector(".notice li").innerText`))
		assert.True(t, eval[bool](p, "window.evil === undefined && document.images.length === 0 && document.scripts.length === 1"))
		assert.Equal(t, 0, eval[int](p, `[...document.querySelectorAll("#page *")].filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display === "block" && !e.closest(".unseen")).length`),
			"nothing overflows its box")
		p.behaves()
	}
}
