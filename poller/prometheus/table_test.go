package prometheus_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// everything is gathered from a pipeline that has every metric.
func everything(t *testing.T) []*dto.MetricFamily {
	now := time.Now()
	m := prometheus.New()
	var h poller.Hooks
	m.Attach(&h, func() poller.Status {
		return poller.Status{Name: "orders", State: poller.Held, LastPoll: now, LastRecord: now, LastSave: now, AsOf: now, LastErrorTime: now, Held: &source.Held{}, Guarantee: &source.Guarantee{Name: "lock-fence"}}
	})
	for _, op := range []poller.Op{poller.OpLoad, poller.OpFetch, poller.OpWrite, poller.OpDeadLetter, poller.OpSave} {
		for _, err := range []error{errOutage, sqlState("42P01"), sqlState("22P02"), retry.Permanent(errOutage), sink.Reject(errors.New("no")), poller.ErrConflict} {
			h.StepBegin(t.Context(), poller.StepInfo{Op: op, Records: 3})
			h.StepEnd(t.Context(), poller.StepInfo{Op: op, Records: 3, Err: err})
			h.Backoff(poller.BackoffInfo{Op: op, Class: retry.Classify(err), Err: err})
		}
	}
	h.DeadLetter(poller.DeadLetterInfo{})
	registry := prom.NewPedanticRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	require.NoError(t, err)
	return families
}

// The table of the README lists exactly the metrics that are gathered.
func TestTheTableIsComplete(t *testing.T) {
	var gathered []string
	values := map[string][]string{}
	for _, f := range everything(t) {
		var labels []string
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(labels, l.GetName()) {
					labels = append(labels, l.GetName())
				}
				if !slices.Contains(values[l.GetName()], l.GetValue()) {
					values[l.GetName()] = append(values[l.GetName()], l.GetValue())
				}
			}
		}
		gathered = append(gathered, strings.Join([]string{f.GetName(), strings.ToLower(f.GetType().String()), sorted(labels), f.GetHelp()}, " | "))
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var documented []string
	for line := range strings.Lines(string(readme)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		line = strings.Trim(strings.TrimSpace(line), "| ")
		cells := strings.Split(line, " | ")
		switch {
		case strings.HasPrefix(line, "`devotion_"):
			require.Len(t, cells, 4, line)
			cells[0], cells[2] = strings.Trim(cells[0], "`"), sorted(strings.Split(cells[2], ", "))
			documented = append(documented, strings.Join(cells, " | "))
		case strings.HasPrefix(line, "`") && len(cells) == 2: // a label
			for _, v := range values[strings.Trim(cells[0], "`")] {
				if v != "orders" {
					assert.Contains(t, cells[1], "`"+v+"`", "a value of %s", cells[0])
				}
			}
		}
	}
	assert.ElementsMatch(t, documented, gathered)
	assert.Len(t, values["class"], 6)
	assert.Len(t, values["stage"], 6)
}

func sorted(names []string) string { return strings.Join(slices.Sorted(slices.Values(names)), ", ") }

// With different labels on the two sides the query would return nothing.
func TestTheRatioOfErrors(t *testing.T) {
	promtool := program(t, "promtool", "prometheus")
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	found := regexp.MustCompile("`([^`]*devotion_errors_total\\[[^`]*)`").FindSubmatch(readme)
	require.Len(t, found, 2)
	path := filepath.Join(t.TempDir(), "ratio.yml")
	require.NoError(t, os.WriteFile(path, []byte(`tests:
- interval: 1m
  input_series:
  - {series: 'devotion_errors_total{pipeline="orders",stage="fetch",class="data"}', values: 0+1x9}
  - {series: 'devotion_errors_total{pipeline="orders",stage="fetch",class="transient"}', values: 0+2x9}
  - {series: 'devotion_stage_duration_seconds_count{pipeline="orders",stage="fetch"}', values: 0+4x9}
  promql_expr_test:
  - expr: '`+string(found[1])+`'
    eval_time: 9m
    exp_samples: [{labels: '{pipeline="orders",stage="fetch"}', value: 0.75}]
`), 0o600))
	said, err := exec.CommandContext(t.Context(), promtool, "test", "rules", path).CombinedOutput()
	require.NoError(t, err, "%s", said)
}

func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	promtool := program(t, "promtool", "prometheus")
	var text bytes.Buffer
	for _, f := range everything(t) {
		_, err := expfmt.MetricFamilyToText(&text, f)
		require.NoError(t, err)
	}
	check := func(text string) (string, error) {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	said, err := check(text.String())
	require.NoError(t, err, said)
	require.Empty(t, said)
	said, err = check(strings.ReplaceAll(text.String(), "rows_read_total", "rows_read"))
	require.Error(t, err, "a bad name is found")
	require.Contains(t, said, "devotion_rows_read")
}
