// Package page looks at the status page of package status in a real browser,
// Chromium without a window, at pipelines that are real ones between fakes.
//
//	go test ./page -page.screenshots DIR
//
// writes pictures of it. Those of package status are healthy-desktop, outage-desktop,
// trouble-phone and trouble-dark.
package page

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clock is a time on the page. Near midnight it may be of another day than the page.
const clock = `([A-Z][a-z]{2} \d+ )?\d\d:\d\d:\d\d`

func TestPage(t *testing.T) {
	browser := browse(t)
	for name, test := range map[string]func(*testing.T, func(string, look) *tab){
		"live": live, "away": away, "hostile": hostile,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(address string, l look) *tab { return open(t, browser, address, l) })
		})
	}
	for _, scene := range []struct {
		name  string
		build func(time.Time) []*pipeline
		check func(*testing.T, *tab)
	}{
		{"healthy", healthy, func(t *testing.T, p *tab) {
			assert.Equal(t, "✓ All is well", eval[string](p, "document.title"))
			assert.Equal(t, "All is well\norders\ninvoices", p.headings("h1, h2"))
			assert.NotContains(t, p.text(), "not known")
			assert.Contains(t, p.text(), "Polls every\n2 s")
		}},
		{"outage", outage, func(t *testing.T, p *tab) {
			assert.Equal(t, "2 of 3 pipelines need attention\norders\ninvoices\naudit", p.headings("h1, h2"))
			assert.Regexp(t, `failing, \d+ attempts, trying again since `+clock+` \(5 min 5\d s\)`, p.text())
			assert.Regexp(t, `Fetching failed, last at `+clock+`, to be tried again by `+clock+`\ndial tcp 10.20.0.7:5432: connect: connection refused`, p.text())
			assert.Regexp(t, `Checkpoint saved\n6 min( 1 s)? ago`, p.text())
		}},
		{"trouble", trouble, func(t *testing.T, p *tab) {
			assert.Equal(t, "2 of 3 pipelines need attention\ninvoices\norders\nshipments", p.headings("h1, h2"))
			assert.Regexp(t, `stuck: no answer for (2m5\ds|3m0s) since `+clock+`\n`, p.text())
			assert.Contains(t, p.text(), "Writing does not return\nIt ignores its deadline. Only a restart of the program can help.")
			assert.Regexp(t, `held back for 4m12s by pid 48213 \(psql\), open for 4m12s, prepared transaction nightly-import since `+clock+`\n`, p.text())
			assert.Contains(t, p.text(), "The next rows wait, so that none is missed, for\npid 48213 (psql), open for 4m12s\nprepared transaction nightly-import")
		}},
		{"many", many, func(t *testing.T, p *tab) {
			assert.Equal(t, "3 of 50 pipelines need attention", p.headings("h1"))
			assert.True(t, strings.HasPrefix(p.headings("h2"), "warehouse.region-10.orders\nwarehouse.region-27.orders\nwarehouse.region-44.orders\nwarehouse.region-01.orders\n"))
			assert.Equal(t, 50, eval[int](p, "document.querySelectorAll('article').length"))
			assert.Equal(t, 3, eval[int](p, "document.querySelectorAll('details[open]').length"))
		}},
	} {
		t.Run(scene.name, func(t *testing.T) {
			t.Parallel()
			server := simulate(t, 17*time.Minute, scene.build)
			for _, l := range []struct {
				name string
				look
			}{
				{"desktop", look{width: 1280}}, {"dark", look{width: 1280, dark: true}},
				{"phone", look{width: 390}}, {"phone-dark", look{width: 390, dark: true}}, {"narrowest", look{width: 320}},
			} {
				p := open(t, browser, server.URL+"/", l.look)
				scene.check(t, p)
				p.behaves()
				p.picture(scene.name + "-" + l.name)
				p.close()
			}
		})
	}
	for name, test := range map[string]func(*testing.T, *tab){
		"screen reader": screenReader, "time zone": timeZone, "motion": motion,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, browser, simulate(t, 17*time.Minute, trouble).URL+"/", look{width: 1280}))
		})
	}
	t.Run("keyboard", func(t *testing.T) {
		t.Parallel()
		keyboard(t, open(t, browser, simulate(t, 17*time.Minute, trouble).URL+"/", look{width: 1280, hasty: true}))
	})
	t.Run("no script", func(t *testing.T) {
		t.Parallel()
		noScript(t, open(t, browser, simulate(t, 17*time.Minute, trouble).URL+"/", look{width: 1280, noScript: true}))
	})
}

func (p *tab) headings(which string) string {
	p.t.Helper()
	return eval[string](p, "[...document.querySelectorAll('"+which+"')].map(h => h.innerText).join('\\n')")
}

// keyboard goes through the page by the keyboard alone.
func keyboard(t *testing.T, p *tab) {
	var seen []string
	for range 8 {
		p.do(chromedp.KeyEvent(kb.Tab))
		seen = append(seen, eval[string](p, `(e => (e.querySelector("h2") ?? e).innerText)(document.activeElement)`))
		assert.NotEqual(t, "none", eval[string](p, "getComputedStyle(document.activeElement).outlineStyle"), "where the focus is can be seen")
		box := eval[[]float64](p, "(r => [r.left, r.top, r.width, r.height])(document.activeElement.getBoundingClientRect())")
		assert.True(t, box[0] >= 0 && box[1] >= 0 && box[2] > 0 && box[3] > 0, "%s is in sight: %v", seen, box)
	}
	assert.Equal(t, []string{"Skip to the pipelines", "invoices", "orders", "shipments", "Status as JSON", "with history", "livez", "readyz"}, seen)

	p.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('.skip').focus()"))
	p.do(chromedp.KeyEvent(kb.Enter))
	p.until("document.activeElement.id === 'pipelines'")
	p.do(chromedp.KeyEvent(kb.Tab))
	assert.Equal(t, "pipeline-3", p.focused())
	p.do(chromedp.KeyEvent(kb.Enter))
	assert.False(t, eval[bool](p, "document.querySelector('details').open"), "Enter folds")
	p.awaitRefresh()
	assert.False(t, eval[bool](p, "document.querySelector('details').open"), "and what was folded stays so")
	assert.Equal(t, "pipeline-3", p.focused(), "as does the focus")
	p.do(chromedp.KeyEvent(" "))
	assert.True(t, eval[bool](p, "document.querySelector('details').open"))
}

// focused is the card whose line has the focus.
func (p *tab) focused() string {
	p.t.Helper()
	return eval[string](p, `document.activeElement.matches("summary") ? document.activeElement.closest("article").id : document.activeElement.nodeName`)
}

// awaitRefresh waits until the page has asked and shown what it got.
func (p *tab) awaitRefresh() {
	p.t.Helper()
	eval[int](p, `document.querySelector(".headline time").dateTime = "", 1`) // comes back from the program
	p.until(`document.querySelector(".headline time").dateTime !== ""`)
}

// screenReader checks what assistive technology is told.
func screenReader(t *testing.T, p *tab) {
	tree := call(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	text := func(v *accessibility.Value) (s string) {
		if v == nil || len(v.Value) == 0 {
			return ""
		}
		require.NoError(t, json.Unmarshal(v.Value, &s))
		return strings.ReplaceAll(s, "\u00a0", " ")
	}
	names := map[string][]string{}
	for _, n := range tree.Nodes {
		if role := text(n.Role); !n.Ignored {
			names[role] = append(names[role], text(n.Name))
		}
	}
	assert.Len(t, names["banner"], 1)
	assert.Len(t, names["contentinfo"], 1)
	assert.Equal(t, []string{"Pipelines"}, names["main"])
	assert.Equal(t, []string{"For programs"}, names["navigation"])
	assert.Equal(t, []string{"invoices", "orders", "shipments"}, names["article"])
	assert.Equal(t, "2 of 3 pipelines need attention", names["heading"][0])
	for _, heading := range []string{"invoices", "orders", "shipments", "Writing does not return", "The next rows wait, so that none is missed, for"} {
		assert.Contains(t, names["heading"], heading)
	}
	assert.Len(t, names["status"], 2, "what changes is announced, politely")
	assert.Equal(t, "invoices is stuck, orders is held back.", eval[string](p, "document.getElementById('announcement').textContent"))
	images := names["image"]
	if images == nil {
		images = names["img"]
	}
	require.Len(t, images, 6, "the charts, and no ornament")
	assert.Regexp(t, `^Rows a second in the last 15 minutes: now 0, highest \d+\.$`, images[0])
	assert.Regexp(t, `^Lag in the last 15 minutes: now 3 min( 1 s)?, highest .*\.$`, images[1])
	assert.Len(t, names["DisclosureTriangle"], 3)
	for _, name := range names["DisclosureTriangle"] {
		assert.Regexp(t, `^(invoices\s*stuck|orders\s*held back|shipments\s*(up to date|copying))`, name)
	}
	assert.NotEmpty(t, names["term"])
	assert.NotEmpty(t, names["definition"])
	assert.Len(t, names["listitem"], 2)
}

// timeZone: times are those of the reader's clock, and exact when pointed at.
func timeZone(t *testing.T, p *tab) {
	for _, times := range eval[[][]string](p, `[...document.querySelectorAll("time[data-clock]")].map(t => [t.textContent, t.title,
		new Date(t.dateTime).toLocaleTimeString("en-GB", { timeZone: "Asia/Kathmandu" })])`) {
		assert.True(t, strings.HasSuffix(times[0], times[2]), times)
		assert.Regexp(t, `^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, times[1])
	}
}

// motion: nothing moves for those who asked for that.
func motion(t *testing.T, p *tab) {
	const duration = "getComputedStyle(document.querySelector('summary'), '::after').transitionDuration"
	assert.Equal(t, "0.15s", eval[string](p, duration))
	p.prefer("prefers-reduced-motion", "reduce")
	assert.Equal(t, "0s", eval[string](p, duration))
}

// noScript: the page shows all of it, as of its loading, and loads itself anew.
func noScript(t *testing.T, p *tab) {
	assert.Contains(t, p.text(), "stuck: no answer for")
	assert.Regexp(t, `as of \d+ [A-Z][a-z][a-z] \d\d:\d\d:\d\d UTC`, p.text())
	assert.Equal(t, "10", eval[string](p, "document.querySelector('meta[http-equiv=refresh]').content"))
	assert.Equal(t, 6, eval[int](p, "[...document.querySelectorAll('figure .line')].filter(l => l.getTotalLength() > 100).length"), "the charts are drawn")
	p.behaves()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		assert.NotContains(t, r, "page.js")
	}
}
