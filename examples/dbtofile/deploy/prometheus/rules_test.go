// Package prometheus_test runs the tests of the rules for the machine and for
// updates, and checks the configuration of Prometheus.
package prometheus_test

import (
	"maps"
	"os"
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
	return append(deploytest.Alerts(t, deploytest.Read(t, "prometheus", "machine.yml")), deploytest.Alerts(t, deploytest.Read(t, "prometheus", "updates.yml"))...)
}

func TestRules(t *testing.T) {
	deploytest.Heavy(t)
	promtool := deploytest.Program(t, "promtool", "prometheus")
	files, err := filepath.Glob("*_test.yml")
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			run(t, promtool, "test", "rules", file)
		})
	}
}

// The files are put into one directory, as on a machine.
func TestConfiguration(t *testing.T) {
	deploytest.Heavy(t)
	promtool := deploytest.Program(t, "promtool", "prometheus")
	dir := t.TempDir()
	for _, name := range []string{"prometheus.yml", "machine.yml", "updates.yml", "../../../../poller/prometheus/alerts.yml"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o600))
	}
	assert.Contains(t, run(t, promtool, "check", "config", filepath.Join(dir, "prometheus.yml")), "3 rule files found")
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// Each alert must be silent in a test, then fire, and then end.
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
		if a.Name != "Watchdog" { // which always fires
			assert.True(t, s.silent, "%s is never silent in a test", a.Name)
			assert.True(t, s.ends, "%s never ends in a test", a.Name)
		}
	}
	assert.Empty(t, tested, "tests of unknown alerts")
}

func TestEachAlertHasARunbook(t *testing.T) {
	readme := deploytest.Read(t, "README.md")
	for _, a := range alerts(t) {
		assert.Contains(t, []string{"page", "ticket", "none"}, a.Labels["severity"], a.Name)
		assert.NotEmpty(t, a.Annotations["summary"], a.Name)
		assert.NotEmpty(t, a.Annotations["description"], a.Name)
		assert.Equal(t, runbook+strings.ToLower(a.Name), a.Annotations["runbook_url"])
		_, section, found := strings.Cut(readme, "\n### "+a.Name+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		assert.True(t, found, "the README has no section %s", a.Name)
		for _, part := range []string{"**Means:** ", "**Do:** "} {
			assert.Contains(t, section, part, "section %s of the README", a.Name)
		}
	}
}

// The rules for the machine match only the job node.
func TestMachineRulesHaveTheJob(t *testing.T) {
	for _, a := range deploytest.Alerts(t, deploytest.Read(t, "prometheus", "machine.yml")) {
		assert.Equal(t, strings.Count(a.Expr, "node_"), strings.Count(a.Expr, `{job="node"`), a.Name)
	}
}
