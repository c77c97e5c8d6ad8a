// Package prometheus_test runs the tests of the alerting rules, and sees that
// there are all that are needed.
package prometheus_test

import (
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
)

const runbook = "https://github.com/artifactofdevotion/devotion/blob/main/examples/dbtofile/deploy/README.md#"

func alerts(t *testing.T) []deploytest.Alert {
	return deploytest.Alerts(t, deploytest.Read(t, "prometheus", "alerts.yml"))
}

// The rules' own tests say what is tested; here they are only run, a file each.
func TestRules(t *testing.T) {
	deploytest.Heavy(t)
	promtool := deploytest.Program(t, "promtool", "prometheus")
	files, err := filepath.Glob("*_test.yml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			says(t, promtool, "test", "rules", file)
		})
	}
}

func TestConfigurations(t *testing.T) {
	deploytest.Heavy(t)
	promtool := deploytest.Program(t, "promtool", "prometheus")
	amtool := deploytest.Program(t, "amtool", "prometheus-alertmanager")
	says(t, promtool, "check", "rules", "alerts.yml")
	says(t, promtool, "check", "config", "prometheus.yml")
	says(t, amtool, "check-config", "alertmanager.yml")
	for labels, receiver := range map[string]string{
		"severity=page alertname=PipelineStalled":   "page",
		"severity=ticket alertname=PipelineLagHigh": "ticket",
		"severity=none alertname=Watchdog":          "deadman",
	} {
		out := says(t, amtool, append([]string{"config", "routes", "test", "--config.file=alertmanager.yml"}, strings.Fields(labels)...)...)
		assert.Equal(t, receiver, strings.TrimSpace(out), labels)
	}
}

func says(t *testing.T, program string, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), "%s%s", &out, &errs)
	return out.String()
}

// Each alert must be seen to be silent, to fire after that, and then to end.
func TestEachAlertIsTested(t *testing.T) {
	type alert struct {
		Labels map[string]string `yaml:"exp_labels"`
	}
	type seen struct{ silent, fires, ends bool }
	tested := map[string]*seen{}
	files, err := filepath.Glob("*_test.yml")
	require.NoError(t, err)
	for _, file := range files {
		var tests struct {
			Tests []struct {
				Cases []struct {
					Name     string  `yaml:"alertname"`
					Expected []alert `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		require.NoError(t, yaml.Unmarshal([]byte(deploytest.Read(t, "prometheus", file)), &tests))
		for _, group := range tests.Tests {
			before := map[string][]alert{}
			for _, c := range group.Cases {
				s := tested[c.Name]
				if s == nil {
					s = &seen{}
					tested[c.Name] = s
				}
				last, again := before[c.Name]
				s.silent = s.silent || len(c.Expected) == 0 && !again
				s.fires = s.fires || len(c.Expected) > 0 && again
				for _, a := range last {
					s.ends = s.ends || !slices.ContainsFunc(c.Expected, func(b alert) bool { return maps.Equal(a.Labels, b.Labels) })
				}
				before[c.Name] = c.Expected
			}
		}
	}
	for _, a := range alerts(t) {
		s := tested[a.Name]
		if !assert.NotNil(t, s, "%s has no test", a.Name) {
			continue
		}
		delete(tested, a.Name)
		assert.True(t, s.fires, "%s never fires in a test", a.Name)
		if a.Name == "Watchdog" { // it is there to fire
			continue
		}
		assert.True(t, s.silent, "%s is never silent in a test", a.Name)
		assert.True(t, s.ends, "%s never ends in a test", a.Name)
	}
	assert.Empty(t, tested, "tests of alerts that are not there")
}

func TestEachAlertSaysWhatToDo(t *testing.T) {
	readme := deploytest.Read(t, "README.md")
	for _, a := range alerts(t) {
		assert.Contains(t, []string{"page", "ticket", "none"}, a.Labels["severity"], a.Name)
		assert.NotEmpty(t, a.Annotations["summary"], a.Name)
		assert.NotEmpty(t, a.Annotations["description"], a.Name)
		assert.Equal(t, runbook+strings.ToLower(a.Name), a.Annotations["runbook_url"])
		_, section, found := strings.Cut(readme, "\n### "+a.Name+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		assert.True(t, found, "the README has no section %s", a.Name)
		for _, part := range []string{"**Means:** ", "**Look:** ", "**Do:** "} {
			assert.Contains(t, section, part, "section %s of the README", a.Name)
		}
	}
}
