package page

import (
	"context"
	"flag"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience limits each wait. It is long enough for a busy machine.
const patience = time.Minute

var screenshots = flag.String("page.screenshots", "", "directory to write screenshots to")

// browse starts Chromium for a test, and returns the context to open tabs with.
func browse(t *testing.T) context.Context {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starting a browser takes long")
	case race:
		t.Skip("the browser is another process, which the race detector cannot see")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no chromium: apt-get install chromium")
		}
		t.Skip("no chromium: apt-get install chromium")
	}
	ctx, end := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true))
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	require.NoError(t, chromedp.Do(ctx))
	return ctx
}

// viewer describes the browser window.
type viewer struct {
	width    int64
	dark     bool
	noScript bool
	fast     bool // the page refreshes itself ten times as often
}

// tab is an open page.
type tab struct {
	t     *testing.T
	ctx   context.Context
	close func()
	host  string

	mu       sync.Mutex
	requests []string
	errors   []string // of the console, including violations of the Content-Security-Policy
}

// open opens an address in a new tab.
func open(t *testing.T, browser context.Context, address string, v viewer) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(browser)
	t.Cleanup(end)
	own, err := url.Parse(address)
	require.NoError(t, err)
	p := &tab{t: t, ctx: ctx, close: end, host: own.Host}
	require.NoError(t, chromedp.Listen(ctx, p.hear))
	scheme := "light"
	if v.dark {
		scheme = "dark"
	}
	call(p, network.Enable, network.EnableParams{})
	call(p, log.Enable, cdp.Empty{})
	p.prefer("prefers-color-scheme", scheme)
	call(p, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Kathmandu"})
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: v.width, Height: 800, DeviceScaleFactor: 1, Mobile: v.width < 500,
	})
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: v.noScript})
	if v.fast {
		call(p, cdpage.AddScriptToEvaluateOnNewDocument, cdpage.AddScriptToEvaluateOnNewDocumentParams{
			Source: "{ const slow = setTimeout; window.setTimeout = (f, ms) => slow(f, ms === 3000 ? 300 : ms); }",
		})
	}
	p.do(chromedp.Navigate(address))
	return p
}

func call[P, R any](p *tab, c cdp.Command[P, R], params P) R {
	p.t.Helper()
	r, err := chromedp.Call(p.ctx, c, params)
	require.NoError(p.t, err, c.Method)
	return r
}

// prefer sets the reader's only preference, a CSS media feature.
func (p *tab) prefer(name, value string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}})
}

func (p *tab) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.errors = append(p.errors, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		p.errors = append(p.errors, "call of console."+string(e.Type))
	case *runtime.EventExceptionThrown:
		p.errors = append(p.errors, e.ExceptionDetails.Text)
	}
}

func (p *tab) do(a chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, a))
}

// eval returns the value of an expression.
func eval[T any](p *tab, js string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](js))
	require.NoError(p.t, err, js)
	return v
}

// until waits until an expression is true.
func (p *tab) until(js string) {
	p.t.Helper()
	err := chromedp.Do(p.ctx, chromedp.Poll[chromedp.Void](js,
		chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(50*time.Millisecond)))
	if err != nil {
		require.NoError(p.t, err, "%s, while the page shows\n%s", js, p.text())
	}
}

// text returns the visible text without empty lines.
func (p *tab) text() string {
	p.t.Helper()
	return strings.ReplaceAll(eval[string](p, `document.body.innerText.replace(/\n+/g, "\n")`), "\u00a0", " ")
}

// errorsSoFar returns the console's errors so far.
func (p *tab) errorsSoFar() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.errors...)
}

// behaves checks every page: it fits the width, logs nothing, and requests nothing
// from other hosts.
func (p *tab) behaves() {
	p.t.Helper()
	assert.LessOrEqual(p.t, eval[int](p, "document.documentElement.scrollWidth"), eval[int](p, "document.documentElement.clientWidth"),
		"no horizontal scrolling")
	assert.Empty(p.t, p.errorsSoFar())
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.NotEmpty(p.t, p.requests)
	for _, r := range p.requests {
		u, err := url.Parse(r)
		require.NoError(p.t, err)
		assert.Equal(p.t, p.host, u.Host, r)
	}
}

// picture writes a screenshot if -page.screenshots is set.
func (p *tab) picture(name string) {
	p.t.Helper()
	if *screenshots == "" {
		return
	}
	size := call(p, cdpage.GetLayoutMetrics, cdp.Empty{}).CSSContentSize
	beyond := true
	png := call(p, cdpage.CaptureScreenshot, cdpage.CaptureScreenshotParams{
		CaptureBeyondViewport: &beyond, Clip: &cdpage.Viewport{Width: size.Width, Height: min(size.Height, 2400), Scale: 1},
	}).Data
	require.NoError(p.t, os.MkdirAll(*screenshots, 0o755))
	require.NoError(p.t, os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644))
}
