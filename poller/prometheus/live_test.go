package prometheus_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var watch = flag.Duration("dashboard.watch", 20*time.Second, "how long Prometheus watches before the dashboard is drawn")

// scrape is how often Prometheus scrapes and evaluates in these tests.
const scrape = time.Second

// stack is a fleet with a Prometheus and an Alertmanager that watch it.
type stack struct {
	*fleet
	prom    server
	manager manager
	rules   []rule
	webhook *webhook
}

// shorten replaces pairs of old and new text. Each old text must exist.
func shorten(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(t, text, pairs[i])
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

func newStack(t *testing.T) *stack {
	prometheus := program(t, "prometheus", "prometheus")
	s := &stack{webhook: newWebhook(t)}
	s.manager = newManager(t, s.webhook)
	dir, addrs := t.TempDir(), freeAddrs(5)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	// The rules as they are, except for how long they wait.
	text := shorten(t, read(t, "alerts.yml"), "[1d]), 600)", "[1d]), 5)", "[1d:1m]", "[5m:1s]",
		"for: 1m\n", "for: 1s\n", "for: 2m\n", "for: 1s\n", "for: 5m\n", "for: 1s\n", "for: 10m\n", "for: 1s\n", "for: 15m\n", "for: 1s\n", "for: 30m\n", "for: 1s\n",
		`(max_over_time(up{job=~".+"}[5m]))`, `(max_over_time(up{job=~".+"}[5s]))`, "[15m:1m]", "[15s:1s]")
	s.rules = rules(text)
	write("alerts.yml", text)
	s.fleet = newFleet(t, addrs[2:])
	// Another system that is down is in the same Prometheus.
	config := write("prometheus.yml", fmt.Sprintf(`global: {scrape_interval: %[1]v, evaluation_interval: %[1]v}
rule_files: [alerts.yml]
alerting: {alertmanagers: [{static_configs: [{targets: [%[2]q]}]}]}
scrape_configs:
  - {job_name: shop, static_configs: [{targets: [%[3]s]}]}
  - {job_name: web, static_configs: [{targets: [%[4]q]}]}
`, scrape, strings.TrimPrefix(string(s.manager), "http://"), `"`+strings.Join(s.addrs, `", "`)+`"`, addrs[1]))
	startProgram(t, prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "prometheus"),
		"--web.listen-address="+addrs[0], "--rules.alert.resend-delay=1s", "--log.level=warn")
	s.prom = server("http://" + addrs[0])
	return s
}

// TestLive watches 30 live pipelines in 3 programs.
func TestLive(t *testing.T) {
	heavy(t)
	s := newStack(t)
	eventually(t, "all pipelines", func() error {
		found, err := s.prom.query(t.Context(), `count by (job) (devotion_interval_seconds)`)
		if len(found) != 1 || found[0].Value[1] != fmt.Sprint(len(names)) {
			return fmt.Errorf("%v: %w", found, err)
		}
		return nil
	})
	t.Run("queries", s.queries)
	t.Run("picture", s.picture)
	t.Run("pages", s.pages)
	t.Run("rules", s.canFire)
}

// variables returns the values of the dashboard's variables when all is chosen.
func (s *stack) variables(t *testing.T, selector string) map[string]string {
	values := map[string]string{"selector": selector}
	for _, v := range dashboard(t).Templating.List {
		if v.Type != "query" {
			continue
		}
		q := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Query)
		require.Len(t, q, 3, v.Query)
		for name, value := range values {
			q[1] = strings.ReplaceAll(q[1], "$"+name, value)
		}
		found, err := s.prom.labelValues(t.Context(), q[1], q[2])
		require.NoError(t, err)
		require.NotEmpty(t, found, v.Query)
		values[v.Name] = "(" + strings.Join(found, "|") + ")"
		if v.AllValue != "" {
			values[v.Name] = v.AllValue
		}
	}
	return values
}

// queries runs each query of the dashboard, with and without more labels.
func (s *stack) queries(t *testing.T) {
	b := dashboard(t)
	targets := map[string][]target{}
	for _, p := range b.Panels {
		for _, p := range append(p.Panels, p) {
			targets[p.Title] = append(targets[p.Title], p.Targets...)
		}
	}
	for _, a := range b.Annotations.List {
		targets["annotation "+a.Name] = []target{a.Target}
	}
	ran := 0
	for _, selector := range []string{"", `instance=~".+"`} {
		pairs := []string{"$__rate_interval", (4 * scrape).String()}
		for name, value := range s.variables(t, selector) {
			pairs = append(pairs, "$"+name, value)
		}
		for title, list := range targets {
			for _, q := range list {
				ran++
				eventually(t, title, func() error { return s.shows(t.Context(), q, strings.NewReplacer(pairs...).Replace(q.Expr)) })
			}
		}
	}
	t.Logf("%d queries have data", ran)
	for _, expr := range []string{`devotion_no_such_metric`, `devotion_state{job="$job"}`, `up{job="shops"}`, `histogram_quantile(0.5, up)`} {
		assert.Error(t, s.shows(t.Context(), target{Instant: true}, expr), expr)
	}
}

// shows returns an error if a query has nothing to show.
func (s *stack) shows(ctx context.Context, q target, expr string) (err error) {
	if strings.Contains(expr, "$") {
		return fmt.Errorf("an unknown variable: %s", expr)
	}
	var found []series
	if q.Instant {
		found, err = s.prom.query(ctx, expr)
	} else {
		found, err = s.prom.queryRange(ctx, expr, 10*time.Second, scrape)
	}
	for _, f := range found {
		if f.numbers() > 0 {
			return err
		}
	}
	return fmt.Errorf("no data: %s: %d series without a number: %w", expr, len(found), err)
}

// canFire checks that each alert could fire: each selector has series, and the
// labels on both sides of each operator match.
func (s *stack) canFire(t *testing.T) {
	check := func(expr string) error {
		for _, selector := range selectors(expr) {
			if found, err := s.prom.query(t.Context(), "last_over_time("+selector+"[5m])"); err != nil || len(found) == 0 {
				return fmt.Errorf("nothing is selected by %s: %w", selector, err)
			}
		}
		if found, err := s.prom.query(t.Context(), unconditional(expr)); err != nil || len(found) == 0 {
			return fmt.Errorf("no series without its conditions: %s: %w", unconditional(expr), err)
		}
		return nil
	}
	for _, r := range s.rules {
		eventually(t, r.name, func() error { return check(r.expr) })
	}
	for _, expr := range []string{
		`devotion_no_such_metric > 5`,
		`up == 0 or devotion_lag_second > 900`,
		`devotion_interval_seconds{job="shops"} > 5`,
		`devotion_state{state="sleeping"} == 1`,
		`rate(devotion_errors_total{stage="saves"}[5m]) > 1 unless up`,
		`devotion_interval_seconds > 5 unless devotion_state`,
		`devotion_last_success_timestamp_seconds > process_start_time_seconds`,
	} {
		assert.Error(t, check(expr), expr)
	}
}

// downOnce returns an error unless PipelineDown fires, and PipelineStalled does not, although no poll has been
// seen to succeed for long enough.
func (s *stack) downOnce() error {
	pipeline := names[2] // of the third program
	found, err := s.prom.query(s.t.Context(), fmt.Sprintf(`ALERTS{alertname="PipelineDown",alertstate="firing"}
		and on (job) (time() - max by (job) (max_over_time(devotion_last_success_timestamp_seconds{pipeline=%q}[1d])) > 15)
		unless on (job) ALERTS{alertname="PipelineStalled",pipeline=%[1]q}`, pipeline))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("PipelineDown does not fire alone for %s", pipeline)
	}
	return err
}

// pages: the alerts on the fleet arrive, and those that follow from them do not.
func (s *stack) pages(t *testing.T) {
	page := s.webhook.wait(t, "firing", "PipelineStalled", "pipeline", "payments")
	assert.Equal(t, "/page", page.Path)
	assert.Equal(t, map[string]string{"alertname": "PipelineStalled", "job": "shop", "pipeline": "payments", "severity": "page"}, page.Labels)
	assert.Equal(t, "Pipeline payments of shop has stalled", page.Annotations["summary"])
	assert.Contains(t, page.Annotations["runbook_url"], "/RUNBOOK.md#pipelinestalled")
	for alert, pipeline := range map[string]string{
		"PipelineHeldBack": "shipments", "PipelineOverdue": "exports", "PipelineCheckpointFailing": "ledger", "PipelineDeadLetters": "returns",
		"PipelineErrorRatio": "refunds", "PipelineLagUnknown": "clicks",
	} {
		s.webhook.wait(t, "firing", alert, "pipeline", pipeline)
	}
	for _, pipeline := range []string{"payments", "shipments"} { // whose lag follows from what is reported
		s.manager.waitInhibited(t, "PipelineLagHigh job=shop pipeline="+pipeline)
	}

	s.members["payments"].src.FailFunc(nil)
	s.webhook.wait(t, "resolved", "PipelineStalled", "pipeline", "payments")

	s.servers[2].Close()
	down := s.webhook.wait(t, "firing", "PipelineDown", "instance", s.addrs[2])
	assert.Equal(t, map[string]string{"alertname": "PipelineDown", "job": "shop", "instance": s.addrs[2], "severity": "page"}, down.Labels)
	eventually(t, "one page for the program that is down", s.downOnce)
	s.serve(2)
	s.webhook.wait(t, "resolved", "PipelineDown", "instance", s.addrs[2])
	for _, m := range s.webhook.messages() {
		assert.NotEqual(t, "web", m.Labels["job"], "%v", m)
	}
}
