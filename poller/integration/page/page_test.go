// Package page tests the page of package status in a headless Chromium, with real
// pipelines between fakes.
//
//	go test ./page -page.screenshots DIR
//
// writes screenshots. The README shows healthy-desktop, outage-desktop, outage-phone
// and lossy-dark; package status keeps them.
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

// clock matches a time on the page. Near midnight it may have a date.
const clock = `([A-Z][a-z]{2} \d+ )?\d\d:\d\d:\d\d`

func TestPage(t *testing.T) {
	browser := browse(t)
	for name, test := range map[string]func(*testing.T, func(string, viewer) *tab){
		"live": live, "away": away, "hostile": hostile,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(address string, v viewer) *tab { return open(t, browser, address, v) })
		})
	}
	for _, scene := range []struct {
		name  string
		build func(time.Time) []*pipeline
		check func(*testing.T, *tab)
	}{
		{"healthy", shop, func(t *testing.T, p *tab) {
			assert.Equal(t, "✓ All pipelines are healthy", eval[string](p, "document.title"))
			assert.Equal(t, 10, eval[int](p, "document.querySelectorAll('article').length"))
			assert.NotContains(t, p.text(), "unknown")
			assert.Equal(t, 10, strings.Count(p.text(), "lock-fence"))
			if eval[int](p, "innerWidth") == 1280 {
				assert.LessOrEqual(t, eval[int](p, "document.documentElement.scrollHeight"), 800, "ten pipelines fit on a screen")
			}
			p.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('summary').click()"))
			assert.Regexp(t, `Polls every\n2 s\n(.*\n)*Position\nid \d+\n(.*\n)*Guarantee, with the ceiling lock-fence\nEvery row is read exactly once, in the order of id.`, p.text())
			p.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('summary').click()"))
		}},
		{"outage", outage, func(t *testing.T, p *tab) {
			assert.Equal(t, "10 of 12 pipelines are failing", p.headings("h1"))
			assert.Equal(t, "10 pipelines are failing\norders\norder_lines\ninvoices\npayments\nrefunds\ncustomers\naddresses\nshipments\nstock_moves\nprice_changes\naudit\nweb_sessions", p.headings("h2"))
			assert.Equal(t, 3, eval[int](p, "document.querySelectorAll('main > article').length"), "ten have one card")
			assert.Regexp(t, `one cause\nsince `+clock+` \((5 min 5\d s|6 min)\)`, p.text())
			assert.Equal(t, 10, strings.Count(p.text(), " attempts, trying again\nlock-fence\n"))
			assert.Equal(t, 1, strings.Count(p.text(), "failed to connect to `user=copy database=shop`: 10.20.0.7:5432 (db-1): dial error: dial tcp 10.20.0.7:5432: connect: connection refused"))
			p.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('#pipeline-1 summary').click()"))
			assert.Regexp(t, `failing, \d+ attempts, trying again\nsince `+clock+` \((5 min 5\d s|6 min)\)`, p.text())
			assert.Regexp(t, `Fetching failed, last at `+clock+`, next attempt by `+clock+`\nsqlsource: orders: failed to connect to .*: connection refused\n`, p.text())
			assert.Regexp(t, `Checkpoint saved\n6 min( [12] s)? ago`, p.text())
			p.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('#pipeline-1 summary').click()"))
		}},
		{"lossy", lossy, func(t *testing.T, p *tab) {
			assert.Equal(t, "✓ All pipelines are healthy", eval[string](p, "document.title"))
			assert.Regexp(t, `Lossy pipelines\n1\n`, p.text())
			assert.Regexp(t, `page_views\n(up to date|copying)\nid \d+\nLOSSY stamp=30s\n`, p.text())
			assert.Contains(t, p.text(), "LOSSY: rows can be missed with the ceiling stamp=30s\n"+margin.Text)
			assert.Equal(t, 1, eval[int](p, "document.querySelectorAll('.lossy').length"))
		}},
		{"trouble", trouble, func(t *testing.T, p *tab) {
			assert.Equal(t, "2 of 3 pipelines need attention\ninvoices\norders\nshipments", p.headings("h1, h2"))
			assert.Regexp(t, `stuck: no answer for (2m5\ds|3m0s)\nsince `+clock+`\n`, p.text())
			assert.Contains(t, p.text(), "Writing does not return\nIt ignores its timeout. Restart the program.")
			assert.Regexp(t, `held back for 4m12s by pid 48213 \(psql\), open for 4m12s, prepared transaction nightly-import\nsince `+clock+`\n`, p.text())
			assert.Contains(t, p.text(), "So that no row is missed, the next rows wait for\npid 48213 (psql), open for 4m12s\nprepared transaction nightly-import")
		}},
		{"replicas", replicas, func(t *testing.T, p *tab) {
			assert.Equal(t, "2 of 3 pipelines need attention\ninvoices\nshipments\norders", p.headings("h1, h2"))
			assert.Regexp(t, `invoices\nfailed, will restart\nsince `+clock+` \(2 min( \d+ s)?\)`, p.text())
			assert.Contains(t, p.text(), "Step\nwaiting to restart\n")
			assert.Contains(t, p.text(), "Step\nwaiting for the lease\n")
			assert.Regexp(t, `shipments\nup to date, cannot upload\nsince `+clock+` \(21 min( \d+ s)?\)`, p.text())
			assert.Regexp(t, `The last error occurred at `+clock+`, next attempt by `+clock+`\nsqlsource: invoices: the row with id 99132 cannot be read`, p.text())
			assert.Regexp(t, `orders\nstandby\n`, p.text())
			assert.Contains(t, p.text(), "An upload has failed 47 times, and is tried again\nPUT https://bucket.example/shipments-0000000012.jsonl.gz: 403 Forbidden")
			assert.Contains(t, p.text(), "Files to upload\n4, the oldest for 21 min")
		}},
		{"many", many, func(t *testing.T, p *tab) {
			assert.Equal(t, "3 of 50 pipelines are failing", p.headings("h1"))
			assert.True(t, strings.HasPrefix(p.headings("h2"), "3 pipelines are failing\nwarehouse.region-10.orders\nwarehouse.region-27.orders\nwarehouse.region-44.orders\nwarehouse.region-01.orders\n"))
			assert.Equal(t, 51, eval[int](p, "document.querySelectorAll('article').length"))
			assert.Equal(t, 1, eval[int](p, "document.querySelectorAll('details[open]').length"))
		}},
	} {
		t.Run(scene.name, func(t *testing.T) {
			t.Parallel()
			server := simulate(t, 17*time.Minute, scene.build)
			for _, l := range []struct {
				name string
				viewer
			}{
				{"desktop", viewer{width: 1280}}, {"dark", viewer{width: 1280, dark: true}},
				{"phone", viewer{width: 390}}, {"phone-dark", viewer{width: 390, dark: true}}, {"narrowest", viewer{width: 320}},
			} {
				p := open(t, browser, server.URL+"/", l.viewer)
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
			test(t, open(t, browser, simulate(t, 17*time.Minute, trouble).URL+"/", viewer{width: 1280}))
		})
	}
	t.Run("keyboard", func(t *testing.T) {
		t.Parallel()
		keyboard(t, open(t, browser, simulate(t, 17*time.Minute, trouble).URL+"/", viewer{width: 1280, fast: true}))
	})
	t.Run("no script", func(t *testing.T) {
		t.Parallel()
		noScript(t, open(t, browser, simulate(t, 17*time.Minute, trouble).URL+"/", viewer{width: 1280, noScript: true}))
	})
}

func (p *tab) headings(which string) string {
	p.t.Helper()
	return eval[string](p, "[...document.querySelectorAll('"+which+"')].map(h => h.innerText).join('\\n')")
}

// keyboard uses the page with the keyboard alone.
func keyboard(t *testing.T, p *tab) {
	var seen []string
	for range 8 {
		p.do(chromedp.KeyEvent(kb.Tab))
		seen = append(seen, eval[string](p, `(e => (e.querySelector("h2") ?? e).innerText)(document.activeElement)`))
		assert.NotEqual(t, "none", eval[string](p, "getComputedStyle(document.activeElement).outlineStyle"), "the focus is visible")
		box := eval[[]float64](p, "(r => [r.left, r.top, r.width, r.height])(document.activeElement.getBoundingClientRect())")
		assert.True(t, box[0] >= 0 && box[1] >= 0 && box[2] > 0 && box[3] > 0, "%s is visible: %v", seen, box)
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
	assert.False(t, eval[bool](p, "document.querySelector('details').open"), "and it stays folded")
	assert.Equal(t, "pipeline-3", p.focused(), "and focused")
	p.do(chromedp.KeyEvent(" "))
	assert.True(t, eval[bool](p, "document.querySelector('details').open"))
}

// focused returns the id of the card whose summary has the focus.
func (p *tab) focused() string {
	p.t.Helper()
	return eval[string](p, `document.activeElement.matches("summary") ? document.activeElement.closest("article").id : document.activeElement.nodeName`)
}

// awaitRefresh waits until the page has refreshed itself.
func (p *tab) awaitRefresh() {
	p.t.Helper()
	eval[int](p, `document.querySelector(".headline time").dateTime = "", 1`) // the refresh restores it
	p.until(`document.querySelector(".headline time").dateTime !== ""`)
}

// screenReader checks the accessibility tree.
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
	for _, heading := range []string{"invoices", "orders", "shipments", "Writing does not return", "So that no row is missed, the next rows wait for"} {
		assert.Contains(t, names["heading"], heading)
	}
	assert.Len(t, names["status"], 2, "changes are announced politely")
	assert.Equal(t, "invoices is stuck, orders is held back.", eval[string](p, "document.getElementById('announcement').textContent"))
	images := names["image"]
	if images == nil {
		images = names["img"]
	}
	require.Len(t, images, 6, "the charts, and nothing decorative")
	assert.Regexp(t, `^Rows per second in the last 15 minutes: now 0, highest \d+\.$`, images[0])
	assert.Regexp(t, `^Lag in the last 15 minutes: now 3 min( 1 s)?, highest .*\.$`, images[1])
	assert.Len(t, names["DisclosureTriangle"], 3)
	for _, name := range names["DisclosureTriangle"] {
		assert.Regexp(t, `^(invoices\s*stuck|orders\s*held back|shipments\s*(up to date|copying))`, name)
	}
	assert.NotEmpty(t, names["term"])
	assert.NotEmpty(t, names["definition"])
	assert.Len(t, names["listitem"], 2)
}

// timeZone: times are in the reader's time zone, and a tooltip has the exact time.
func timeZone(t *testing.T, p *tab) {
	for _, times := range eval[[][]string](p, `[...document.querySelectorAll("time[data-clock]")].map(t => [t.textContent, t.title,
		new Date(t.dateTime).toLocaleTimeString("en-GB", { timeZone: "Asia/Kathmandu" })])`) {
		assert.True(t, strings.HasSuffix(times[0], times[2]), times)
		assert.Regexp(t, `^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, times[1])
	}
}

// motion: nothing moves for readers who prefer reduced motion.
func motion(t *testing.T, p *tab) {
	const duration = "getComputedStyle(document.querySelector('summary'), '::after').transitionDuration"
	assert.Equal(t, "0.15s", eval[string](p, duration))
	p.prefer("prefers-reduced-motion", "reduce")
	assert.Equal(t, "0s", eval[string](p, duration))
}

// noScript: without JavaScript the page shows everything as of its loading, and reloads.
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
