package prometheus_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rule is an alerting rule of alerts.yml.
type rule struct {
	name, expr, severity, summary, description, runbook string

	text string // of the whole rule
}

// rules reads the rules in a text that is laid out as alerts.yml is.
func rules(text string) (all []rule) {
	for _, part := range strings.Split(text, "\n      - alert: ")[1:] {
		r := rule{text: "\n      - alert: " + part}
		var in *string // of a block
		for i, line := range strings.Split(part, "\n") {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			value = strings.Trim(value, "'")
			switch {
			case i == 0:
				r.name = line
			case in != nil && strings.HasPrefix(line, "          "):
				*in += strings.TrimSpace(line) + "\n"
				continue
			case key == "expr" && value == "|":
				in = &r.expr
				continue
			case key == "expr":
				r.expr = value
			case key == "labels":
				r.severity = strings.TrimSuffix(strings.TrimPrefix(value, "{ severity: "), " }")
			case key == "summary":
				r.summary = value
			case key == "description":
				r.description = value
			case key == "runbook_url":
				r.runbook = value
			}
			in = nil
		}
		all = append(all, r)
	}
	return all
}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}

func TestEachAlertHasARunbook(t *testing.T) {
	text := read(t, "alerts.yml")
	all, runbook := rules(text), read(t, "RUNBOOK.md")
	require.Equal(t, strings.Count(text, "alert: "), len(all))
	for _, r := range all {
		assert.Contains(t, []string{"page", "ticket"}, r.severity, r.name)
		assert.NotEmpty(t, r.expr, r.name)
		assert.NotEmpty(t, r.summary, r.name)
		assert.NotEmpty(t, r.description, r.name)
		assert.Equal(t, "https://github.com/artifactofdevotion/devotion/blob/main/poller/prometheus/RUNBOOK.md#"+strings.ToLower(r.name), r.runbook)
		_, section, found := strings.Cut(runbook, "\n## "+r.name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		assert.True(t, found, "RUNBOOK.md has no section %s", r.name)
		for _, part := range []string{"**Means:** ", "**Check:** ", "**Do:** "} {
			assert.Contains(t, section, part, "section %s", r.name)
		}
	}
	for _, section := range regexp.MustCompile(`(?m)^## (Pipeline\w+)$`).FindAllStringSubmatch(runbook, -1) {
		assert.True(t, slices.ContainsFunc(all, func(r rule) bool { return r.name == section[1] }), "no alert %s", section[1])
	}
}

// limited returns alerts.yml for one job, by the command that its head documents.
func limited(t *testing.T, job string) string {
	text := read(t, "alerts.yml")
	require.Contains(t, text, `sed 's/job=~"\.+"/job=~"shop|billing"/'`)
	return strings.ReplaceAll(text, `job=~".+"`, `job=~"`+job+`"`)
}

func TestEachSelectorHasTheJob(t *testing.T) {
	for _, r := range rules(read(t, "alerts.yml")) {
		for _, s := range selectors(r.expr) {
			assert.Contains(t, s, `job=~".+"`, r.name)
		}
	}
	for _, r := range rules(limited(t, "shop")) {
		assert.NotContains(t, r.expr, ".+", r.name)
	}
}
