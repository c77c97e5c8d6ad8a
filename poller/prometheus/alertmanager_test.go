package prometheus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// manager is the address of an Alertmanager.
type manager string

// newManager starts an Alertmanager with alertmanager.yml, which sends to a webhook.
func newManager(t *testing.T, h *webhook) manager {
	dir, addr := t.TempDir(), freeAddrs(1)[0]
	config := filepath.Join(dir, "alertmanager.yml")
	require.NoError(t, os.WriteFile(config, []byte(shorten(t, read(t, "alertmanager.yml"),
		"group_wait: 10s", "group_wait: 100ms", "group_interval: 5m", "group_interval: 500ms", "http://127.0.0.1:9095", h.url)), 0o600))
	startProgram(t, program(t, "prometheus-alertmanager", "prometheus-alertmanager"), "--config.file="+config, "--storage.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--cluster.listen-address=", "--log.level=warn")
	return manager("http://" + addr)
}

func (m manager) do(ctx context.Context, method string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, string(m)+"/api/v2/alerts", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = fmt.Errorf("alertmanager: %s", resp.Status)
	}
	return resp, err
}

// fire has alerts fire. An alert is its name and its labels, such as
// "PipelineDown job=shop instance=a:80".
func (m manager) fire(t *testing.T, alerts ...string) {
	var list []map[string]any
	for _, a := range alerts {
		list = append(list, map[string]any{"labels": labels(a)})
	}
	body, err := json.Marshal(list)
	require.NoError(t, err)
	eventually(t, "an Alertmanager", func() error {
		resp, err := m.do(t.Context(), http.MethodPost, body)
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
}

func labels(alert string) map[string]string {
	fields := strings.Fields(alert)
	found := map[string]string{"alertname": fields[0]}
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		found[name] = value
	}
	return found
}

// inhibited reports whether an alert is held back because of others.
func (m manager) inhibited(ctx context.Context, alert string) (inhibited bool, err error) {
	resp, err := m.do(ctx, http.MethodGet, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	var alerts []struct {
		Labels map[string]string
		Status struct{ InhibitedBy []string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&alerts); err != nil {
		return false, err
	}
	for _, a := range alerts {
		delete(a.Labels, "severity")
		if maps.Equal(a.Labels, labels(alert)) {
			return len(a.Status.InhibitedBy) > 0, nil
		}
	}
	return false, fmt.Errorf("none of %d alerts is %s", len(alerts), alert)
}

func (m manager) waitInhibited(t *testing.T, alert string) {
	t.Helper()
	eventually(t, "inhibition", func() error {
		inhibited, err := m.inhibited(t.Context(), alert)
		if err == nil && !inhibited {
			err = fmt.Errorf("%s is not inhibited", alert)
		}
		return err
	})
}

// Each inhibition rule of alertmanager.yml, in its order: the sources, the targets that
// each source silences, and alerts that it does not silence.
var inhibitions = []struct{ sources, targets, others []string }{
	{
		[]string{"PipelineDown job=shop instance=a:80"}, []string{"PipelineCrashLoop job=shop instance=a:80"},
		[]string{"PipelineCrashLoop job=shop instance=b:80", "PipelineCrashLoop job=billing instance=a:80", "PipelineStalled job=shop pipeline=orders"},
	},
	{[]string{"PipelineDown job=shop instance=a:80"}, []string{"PipelineAbsent"}, []string{"PipelineAbsent job=billing"}},
	{[]string{"PipelineDown job=shop instance=a:80"}, []string{"PipelineAbsent job=shop"}, []string{"PipelineAbsent job=billing"}},
	{
		[]string{"PipelineOverdue job=shop pipeline=orders instance=a:80", "PipelineCheckpointFailing job=shop pipeline=orders"},
		[]string{"PipelineStalled job=shop pipeline=orders"},
		[]string{"PipelineStalled job=shop pipeline=items", "PipelineStalled job=billing pipeline=orders"},
	},
	{
		[]string{"PipelineStalled job=shop pipeline=orders", "PipelineOverdue job=shop pipeline=orders instance=a:80", "PipelineCheckpointFailing job=shop pipeline=orders"},
		[]string{
			"PipelineLagHigh job=shop pipeline=orders", "PipelineLagGrowing job=shop pipeline=orders", "PipelineLagUnknown job=shop pipeline=orders",
			"PipelineHeldBack job=shop pipeline=orders", "PipelineErrorRatio job=shop pipeline=orders", "PipelineRetryStorm job=shop pipeline=orders",
		},
		[]string{"PipelineLagHigh job=shop pipeline=items", "PipelineLagGrowing job=billing pipeline=orders", "PipelineDeadLetters job=shop pipeline=orders"},
	},
	{
		[]string{"PipelineHeldBack job=shop pipeline=orders"}, []string{"PipelineLagHigh job=shop pipeline=orders", "PipelineLagGrowing job=shop pipeline=orders"},
		[]string{"PipelineLagHigh job=shop pipeline=items", "PipelineLagGrowing job=billing pipeline=orders", "PipelineErrorRatio job=shop pipeline=orders"},
	},
	{
		[]string{"PipelineLagGrowing job=shop pipeline=orders"}, []string{"PipelineLagHigh job=shop pipeline=orders"},
		[]string{"PipelineLagHigh job=shop pipeline=items", "PipelineLagHigh job=billing pipeline=orders"},
	},
}

func TestInhibition(t *testing.T) {
	heavy(t)
	require.Equal(t, strings.Count(read(t, "alertmanager.yml"), "- source_matchers:"), len(inhibitions), "the table has each rule")
	for i, c := range inhibitions {
		for _, source := range c.sources {
			t.Run(fmt.Sprintf("rule %d %s", i+1, labels(source)["alertname"]), func(t *testing.T) {
				t.Parallel()
				m := newManager(t, newWebhook(t))
				m.fire(t, append(append([]string{source}, c.targets...), c.others...)...)
				for _, target := range c.targets {
					m.waitInhibited(t, target)
				}
				for _, other := range append(c.others, source) { // now Alertmanager knows the source
					inhibited, err := m.inhibited(t.Context(), other)
					require.NoError(t, err)
					assert.False(t, inhibited, other)
				}
			})
		}
	}
}

// Each alert arrives at the receiver of its severity, and what is inhibited does not.
func TestRouting(t *testing.T) {
	heavy(t)
	h := newWebhook(t)
	m := newManager(t, h)
	m.fire(t, "PipelineHeldBack job=shop pipeline=orders severity=page")
	assert.Equal(t, "/page", h.wait(t, "firing", "PipelineHeldBack", "pipeline", "orders").Path)
	m.fire(t, "PipelineLagGrowing job=shop pipeline=orders severity=page")
	m.waitInhibited(t, "PipelineLagGrowing job=shop pipeline=orders") // from now on
	m.fire(t, "PipelineLagHigh job=shop pipeline=orders severity=ticket", "PipelineLagHigh job=shop pipeline=items severity=ticket", "Watchdog severity=none")
	assert.Equal(t, "/ticket", h.wait(t, "firing", "PipelineLagHigh", "pipeline", "items").Path) // in one message with that of orders
	assert.Equal(t, "/deadman", h.wait(t, "firing", "Watchdog", "severity", "none").Path)
	for _, got := range h.messages() {
		assert.False(t, got.Labels["alertname"] == "PipelineLagHigh" && got.Labels["pipeline"] == "orders", "it follows from PipelineHeldBack")
	}
}
