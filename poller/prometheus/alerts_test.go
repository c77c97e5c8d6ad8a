package prometheus_test

import (
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// alertCase is a test for promtool. Series are without devotion_. They have the
// job shop and the instance a:80 unless they say otherwise. Their values are in
// promtool's notation: "a+bxn" is a, a+b and so on, n times more, "_" is a failed
// scrape and "stale" the end of a series. There is a scrape each minute.
type alertCase struct {
	name, alert string // all alerts, if none is given
	every       string // how often the rules are evaluated, by default each minute
	series      []string
	at          []moment
}

// moment is what fires at some time: the alerts' labels but job and severity, and
// their value.
type moment struct {
	time   string
	firing []firing
}

type firing struct{ labels, value string }

func orders(value string) []firing { return []firing{{"pipeline=orders", value}} }

// complete gives a series the labels that it leaves out.
func complete(series string) (name, values string) {
	name, values, _ = strings.Cut(series, "} ")
	name, labels, _ := strings.Cut(name, "{")
	if name != "up" && name != "process_start_time_seconds" && name != "node_cpu" {
		name = "devotion_" + name
	}
	for _, l := range [][2]string{{"job", "shop"}, {"instance", "a:80"}} {
		if !strings.Contains(labels, l[0]+"=") {
			labels += "," + l[0] + `="` + l[1] + `"`
		}
	}
	return name + "{" + strings.TrimPrefix(labels, ",") + "}", values
}

// expected is a firing alert as promtool takes it, with the text that a person gets.
func (r rule) expected(f firing) map[string]any {
	labels := map[string]string{"severity": r.severity}
	if f.labels != "" {
		labels["job"] = "shop"
		for l := range strings.SplitSeq(f.labels, ",") {
			name, value, _ := strings.Cut(l, "=")
			labels[name] = value
		}
	}
	text := func(template string) string {
		for name, value := range labels {
			template = strings.ReplaceAll(template, "{{ $labels."+name+" }}", value)
		}
		return regexp.MustCompile(`{{ \$value [^}]*}}`).ReplaceAllLiteralString(template, f.value)
	}
	return map[string]any{"exp_labels": labels, "exp_annotations": map[string]string{
		"summary": text(r.summary), "description": text(r.description), "runbook_url": r.runbook,
	}}
}

// run runs the case with the rules that it needs, because promtool evaluates all.
func (c alertCase) run(t *testing.T, promtool string, all []rule) {
	var series, cases []map[string]any
	for _, s := range c.series {
		name, values := complete(s)
		series = append(series, map[string]any{"series": name, "values": values})
	}
	text := "groups:\n  - name: devotion\n    rules:"
	for _, r := range all {
		if c.alert != "" && c.alert != r.name {
			continue
		}
		text += r.text
		for _, m := range c.at {
			alerts := []map[string]any{}
			for _, f := range m.firing {
				alerts = append(alerts, r.expected(f))
			}
			cases = append(cases, map[string]any{"eval_time": m.time, "alertname": r.name, "exp_alerts": alerts})
		}
	}
	require.NotEmpty(t, cases, "no alert %s", c.alert)
	test, err := json.Marshal(map[string]any{ // YAML includes JSON
		"rule_files": []string{"rules.yml"}, "evaluation_interval": cmp.Or(c.every, "1m"),
		"tests": []any{map[string]any{"interval": "1m", "input_series": series, "alert_rule_test": cases}},
	})
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "test.json"), test, 0o600))
	out, err := exec.Command(promtool, "test", "rules", filepath.Join(dir, "test.json")).CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

func TestAlerts(t *testing.T) {
	heavy(t)
	promtool := program(t, "promtool", "prometheus")
	all := rules(read(t, "alerts.yml"))
	for _, c := range alertCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, promtool, all)
		})
	}
	t.Run("rules for one job", func(t *testing.T) {
		t.Parallel()
		c := alertCase{alert: "PipelineStalled", at: []moment{{"9m", nil}, {"13m", orders("13m 0s")}}}
		for _, job := range []string{"shop", "billing"} {
			c.series = append(c.series, `last_success_timestamp_seconds{pipeline="orders",job="`+job+`"} 0x20`, `interval_seconds{pipeline="orders",job="`+job+`"} 1x20`)
		}
		c.run(t, promtool, rules(limited(t, "shop")))
	})
}

// Each alert must be silent in a test, then fire, and then end.
func TestEachAlertIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range alertCases {
		seen := []bool{len(c.at[0].firing) == 0, false, false}
		for i, m := range c.at[1:] {
			seen[1] = seen[1] || len(m.firing) > 0
			seen[2] = seen[2] || len(m.firing) < len(c.at[i].firing)
		}
		tested[c.alert] = tested[c.alert] || seen[0] && seen[1] && seen[2]
	}
	delete(tested, "")
	for _, r := range rules(read(t, "alerts.yml")) {
		assert.True(t, tested[r.name], "%s is not silent, firing and silent again in one test", r.name)
		delete(tested, r.name)
	}
	assert.Empty(t, tested, "tests of unknown alerts")
}

func TestConfigurationsAreValid(t *testing.T) {
	heavy(t)
	promtool := program(t, "promtool", "prometheus")
	amtool := program(t, "amtool", "prometheus-alertmanager")
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		require.NoError(t, err, "%s %s", name, args)
		return strings.TrimSpace(string(out))
	}
	run(promtool, "check", "rules", "alerts.yml")
	run(amtool, "check-config", "alertmanager.yml")
	for severity, receiver := range map[string]string{"page": "page", "ticket": "ticket"} {
		assert.Equal(t, receiver, run(amtool, "config", "routes", "test", "--config.file=alertmanager.yml", "severity="+severity, "alertname=PipelineStalled"))
	}
	assert.Equal(t, "deadman", run(amtool, "config", "routes", "test", "--config.file=alertmanager.yml", "severity=none", "alertname=Watchdog"))
}
