package deploytest

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// Alert is an alerting rule.
type Alert struct {
	Name        string `yaml:"alert"`
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

// Alerts returns the rules in the text of a rule file, in their order.
func Alerts(tb testing.TB, text string) (alerts []Alert) {
	tb.Helper()
	var file struct {
		Groups []struct{ Rules []Alert }
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		tb.Fatalf("deploytest: the rules: %v", err)
	}
	for _, g := range file.Groups {
		alerts = append(alerts, g.Rules...)
	}
	return alerts
}
