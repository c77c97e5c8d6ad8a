package prometheus_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var picture = flag.String("dashboard.picture", "", "file to write the picture of the dashboard to")

// drawn is what a panel of the drawn dashboard shows.
type drawn struct {
	Title, Text, Error string
	Canvas             bool
}

// picture draws the dashboard with Grafana's own components, in Chromium. The
// variable GRAFANA_UI is a directory into which the packages of
// testdata/grafana/package.json are installed.
func (s *stack) picture(t *testing.T) {
	chromium := program(t, "chromium", "chromium")
	program(t, "node", "nodejs")
	packages := filepath.Join(os.Getenv("GRAFANA_UI"), "node_modules")
	if _, err := os.Stat(filepath.Join(packages, "@grafana", "ui")); err != nil {
		missing(t, "@grafana/ui", "run npm install in a copy of testdata/grafana, and set GRAFANA_UI to its directory")
	}
	dir := t.TempDir()
	bundle := exec.Command(filepath.Join(packages, ".bin", "esbuild"), "testdata/grafana/draw.tsx", "--bundle", "--format=esm", "--jsx=automatic",
		"--outfile="+filepath.Join(dir, "draw.js"), "--alias:react-router-dom-v5-compat=react-router-dom", `--define:process.env.NODE_ENV="production"`,
		"--loader:.svg=dataurl", "--loader:.woff2=dataurl", "--loader:.ttf=dataurl", "--log-level=warning")
	bundle.Env = append(os.Environ(), "NODE_PATH="+packages)
	out, err := bundle.CombinedOutput()
	require.NoError(t, err, "%s", out)

	eventually(t, "a history", func() error {
		found, err := s.prom.query(t.Context(), `count_over_time(up{job="shop"}[1d]) >= `+fmt.Sprint(watch.Seconds()/scrape.Seconds()))
		if len(found) < len(s.addrs) {
			return fmt.Errorf("%d targets have it: %w", len(found), err)
		}
		return nil
	})
	const width = 1600
	result := make(chan []byte, 1)
	page := s.page(t, dir, width, result)
	shot := filepath.Join(dir, "dashboard.png")
	if *picture != "" {
		shot, err = filepath.Abs(*picture)
		require.NoError(t, err)
	}
	out, err = exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
		"--user-data-dir="+filepath.Join(dir, "chromium"), "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
		"--virtual-time-budget=20000", fmt.Sprintf("--window-size=%d,%d", width+16, s.height(t)), "--screenshot="+shot, page).CombinedOutput()
	require.NoError(t, err, "%s", out)
	var answer []drawn
	select {
	case text := <-result:
		require.NoError(t, json.Unmarshal(text, &answer))
	default:
		require.Fail(t, "the page did not say what it has drawn", "%s", out)
	}
	info, err := os.Stat(shot)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(100_000))
	s.judge(t, answer)
}

// page serves the page that draws the dashboard, and returns its address.
func (s *stack) page(t *testing.T, dir string, width int, result chan<- []byte) string {
	prom, err := url.Parse(string(s.prom))
	require.NoError(t, err)
	now := s.settled(t)
	config, err := json.Marshal(map[string]any{
		"vars": s.variables(t, ""), "from": now - watch.Seconds(), "to": now, "scrape": scrape.Seconds(), "width": width,
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/api/", httputil.NewSingleHostReverseProxy(prom))
	mux.Handle("/draw.js", http.FileServer(http.Dir(dir)))
	mux.Handle("/draw.css", http.FileServer(http.Dir(dir)))
	mux.Handle("/dashboard.json", http.FileServer(http.Dir(".")))
	mux.HandleFunc("/config.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(config) })
	mux.HandleFunc("/drawn", func(_ http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		result <- text
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/draw.css"><body style="margin:0"><div id="root"></div><script type="module" src="/draw.js"></script>`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/"
}

// board is what these tests need of dashboard.json.
type board struct {
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Query, AllValue string }
	}
	Annotations struct {
		List []struct {
			Name   string
			Target target
		}
	}
	Links []struct{ URL string }
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []target
	Panels                   []panel // of a row
}

type target struct {
	RefID, Expr, LegendFormat string
	Instant                   bool
}

func dashboard(t *testing.T) (b board) {
	require.NoError(t, json.Unmarshal([]byte(read(t, "dashboard.json")), &b))
	return b
}

// allPanels returns the panels with those of collapsed rows, and without the rows.
func (b board) allPanels() (all []panel) {
	for _, p := range b.Panels {
		if p.Type != "row" {
			all = append(all, p)
		}
		all = append(all, p.Panels...)
	}
	return all
}

// height is that of the picture, with open rows.
func (s *stack) height(t *testing.T) int {
	b, grid, inRows := dashboard(t), 0, 0
	for _, p := range b.Panels {
		grid = max(grid, p.GridPos.Y+p.GridPos.H)
		bottom := p.GridPos.Y + p.GridPos.H
		for _, c := range p.Panels {
			bottom = max(bottom, c.GridPos.Y+c.GridPos.H)
		}
		inRows += bottom - p.GridPos.Y - p.GridPos.H
	}
	return (grid+inRows)*38 + 16
}

// severity is the order of the states in the table.
var severity = []string{"done", "up to date", "copying", "held back", "failing", "stuck", "stopped", "down"}

// judge checks the drawn panels: each has a canvas or text, the table has all
// pipelines and the worst first, and a legend has the greatest value first.
func (s *stack) judge(t *testing.T, all []drawn) {
	shown := map[string]string{}
	for _, d := range all {
		text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(d.Text), d.Title))
		assert.Empty(t, d.Error, d.Title)
		assert.True(t, d.Canvas || text != "", "%s is empty", d.Title)
		assert.NotContains(t, text, "No data", d.Title)
		if len(text) > len(shown[d.Title]) {
			shown[d.Title] = text
		}
	}
	for _, p := range dashboard(t).allPanels() {
		assert.Contains(t, shown, p.Title)
	}
	table := strings.FieldsFunc(shown["Pipelines"], func(r rune) bool { return strings.ContainsRune("\n\t", r) })
	for _, word := range append(names, "LOSSY", "complete", "lock-fence", "transaction-id", "unknown", "123 K") {
		assert.Contains(t, table, word, "the table")
	}
	var states []int
	for _, word := range table {
		if i := slices.Index(severity, word); i >= 0 {
			states = append(states, i)
		}
	}
	assert.Len(t, states, len(names))
	assert.Equal(t, slices.Index(severity, "stuck"), slices.Max(states))
	assert.True(t, slices.IsSortedFunc(states, func(a, b int) int { return b - a }), "the worst is not first: %v", states)
	legend := shown["Time since the last success"]
	assert.Contains(t, legend, "orders")
	assert.Less(t, strings.Index(legend, "exports"), strings.Index(legend, "orders"))
}

// settled returns the last moment at which Prometheus had scraped all programs.
func (s *stack) settled(t *testing.T) (at float64) {
	eventually(t, "a scrape of all", func() error {
		found, err := s.prom.queryRange(t.Context(), fmt.Sprintf(`count(devotion_overdue) == %d`, len(names)), 20*time.Second, scrape)
		if len(found) == 0 {
			return fmt.Errorf("not all are scraped: %w", err)
		}
		at = found[0].Values[len(found[0].Values)-1][0].(float64)
		return err
	})
	return at
}

// On the grid of 24 columns no two panels overlap, and every part is used.
func TestDashboard(t *testing.T) {
	text, b := read(t, "dashboard.json"), dashboard(t)
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range append(b.allPanels(), b.Panels...) {
		if p.Type != "row" {
			assert.NotEmpty(t, p.Targets, p.Title)
			assert.NotEmpty(t, p.Description, p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			assert.Less(t, x, 24, p.Title)
		}
		for _, target := range p.Targets {
			alerts := strings.Contains(target.Expr, "ALERTS{") // they do not carry the further labels
			assert.NotEqual(t, alerts, strings.Contains(target.Expr, `$selector`), p.Title)
			if strings.Contains(target.LegendFormat, "{{pipeline}}") {
				assert.Contains(t, target.LegendFormat, "{{job}}", p.Title)
			}
			assert.Contains(t, target.Expr, `job=~"$job"`, p.Title)
		}
	}
	for _, p := range b.Panels {
		for _, p := range append(p.Panels, p) {
			assert.False(t, ids[p.ID], "%s: the id %d is taken", p.Title, p.ID)
			ids[p.ID] = true
		}
	}
	for _, group := range append([][]panel{b.Panels}, rows(b)...) {
		clear(taken)
		for _, p := range group {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					assert.Empty(t, taken[[2]int{x, y}], "%s overlaps", p.Title)
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
	for _, a := range b.Annotations.List {
		assert.NotContains(t, a.Target.Expr, "$selector", a.Name)
	}
	for _, v := range b.Templating.List {
		assert.Regexp(t, `\$(\{`+v.Name+`\}|`+v.Name+`\b)`, text, "the variable is not used")
	}
	known := rules(read(t, "alerts.yml"))
	for _, name := range regexp.MustCompile(`Pipeline[A-Z]\w+`).FindAllString(text, -1) {
		assert.True(t, slices.ContainsFunc(known, func(r rule) bool { return r.name == name }), "no alert %s", name)
	}
	require.Len(t, b.Links, 1)
	assert.Equal(t, strings.TrimSuffix(known[0].runbook, "#pipelinestalled"), b.Links[0].URL)
}

// rows returns the panels of each collapsed row.
func rows(b board) (all [][]panel) {
	for _, p := range b.Panels {
		if p.Type == "row" {
			all = append(all, p.Panels)
		}
	}
	return all
}
