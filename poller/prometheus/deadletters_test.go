package prometheus_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The dashboard shows the pipelines for which PipelineDeadLetters fires, and no others.
func TestTheDashboardShowsTheDeadLettersOfTheAlert(t *testing.T) {
	promtool := program(t, "promtool", "prometheus")
	var alert, panel string
	for _, r := range rules(read(t, "alerts.yml")) {
		if r.name == "PipelineDeadLetters" {
			alert = r.expr
		}
	}
	for _, p := range dashboard(t).allPanels() {
		if p.Title == "Dead letters" && p.Type == "timeseries" {
			panel = strings.NewReplacer("$job", ".+", "$pipeline", ".+", "$selector", "").Replace(p.Targets[0].Expr)
		}
	}
	var series, queries []map[string]any
	for _, s := range []string{
		`rows_dead_lettered_total{pipeline="counted"} 0x10 2x200`, `last_dead_letter_timestamp_seconds{pipeline="counted"} _x10 -6600x200`,
		`rows_dead_lettered_total{pipeline="timed"} _x10 2x200`, `last_dead_letter_timestamp_seconds{pipeline="timed"} _x10 630x200`,
		`rows_dead_lettered_total{pipeline="none"} 0x200`,
	} {
		name, values := complete(s)
		series = append(series, map[string]any{"series": name, "values": values})
	}
	for at, firing := range map[string][]map[string]any{
		"9m": {}, "12m": {{"labels": "{}", "value": 2}}, "60m": {{"labels": "{}", "value": 2}}, "90m": {},
	} {
		queries = append(queries, map[string]any{"eval_time": at, "expr": "count(" + alert + ")", "exp_samples": firing},
			map[string]any{"eval_time": at, "expr": "count(" + panel + ")", "exp_samples": firing})
	}
	test, err := json.Marshal(map[string]any{"tests": []any{map[string]any{"interval": "1m", "input_series": series, "promql_expr_test": queries}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "test.json")
	require.NoError(t, os.WriteFile(path, test, 0o600))
	out, err := exec.Command(promtool, "test", "rules", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
