// Package e2e_test breaks a pipeline and sees the page arrive: with the real
// Prometheus and Alertmanager, their configuration as it is deployed, the real
// program and a real database.
//
// Only times are shortened, see newWorld: nobody waits for ten minutes here.
package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func TestAPageArrivesAndResolves(t *testing.T) {
	began := time.Now()
	w := newWorld(t)
	ctx := t.Context()

	w.webhook.wait(t, began, "Watchdog", "firing") // the way is open
	deploytest.Eventually(t, "the targets", func() error {
		targets, err := w.prom.Targets(ctx)
		for target, health := range targets {
			if health != "up" {
				return fmt.Errorf("%s is %s: %w", target, health, err)
			}
		}
		return err
	})

	// The database goes away.
	stopped := time.Now()
	require.NoError(t, w.database.Stop())
	page := w.webhook.wait(t, stopped, "PipelineStalled", "firing")
	assert.Equal(t, "/page", page.Path)
	assert.Equal(t, map[string]string{"alertname": "PipelineStalled", "job": "dbtofile", "instance": w.addr, "pipeline": "orders", "severity": "page"}, page.Labels)
	assert.Equal(t, "Pipeline orders on "+w.addr+" has stalled", page.Annotations["summary"])
	assert.Contains(t, page.Annotations["runbook_url"], "/README.md#pipelinestalled")
	stall := page.At.Sub(stopped)

	// It comes back, and nobody touches dbtofile.
	mended := time.Now()
	require.NoError(t, w.database.Start())
	resolved := w.webhook.wait(t, mended, "PipelineStalled", "resolved")
	assert.Equal(t, "/page", resolved.Path)

	// There are series of all kinds now.
	w.queries(ctx)

	// dbtofile itself dies.
	killed := time.Now()
	w.dbtofile.End("KILL")
	down := w.webhook.wait(t, killed, "PipelineDown", "firing")
	assert.Equal(t, "/page", down.Path)
	restarted := time.Now()
	w.start()
	up := w.webhook.wait(t, restarted, "PipelineDown", "resolved")

	const shortened = 11 * time.Second // 10 s without a success, for 1 s
	health, err := w.prom.Alerts(ctx)
	require.NoError(t, err)
	for alert, h := range health {
		assert.Equal(t, "ok", h, alert)
	}
	for _, m := range w.webhook.messages() {
		assert.Contains(t, []string{"Watchdog", "PipelineStalled", "PipelineDown"}, m.Labels["alertname"], "%+v", m)
		if m.Labels["alertname"] == "PipelineStalled" {
			// Where a restart takes as long as the rule, that page is right, too: it is kept back only while the program is down.
			slow := m.At.Sub(killed) > shortened/2
			assert.True(t, m.At.After(stopped) && (m.At.Before(killed) || slow), "a page at another time: %+v", m)
		}
	}

	t.Logf("database stopped to page: %v, of which the shortened rule takes %v; the shipped rule takes 11m0s, scrape and evaluation up to 15s each, Alertmanager 10s",
		stall.Round(100*time.Millisecond), shortened)
	t.Logf("database back to resolved: %v, of which backoff is up to %v; shipped: up to 30s, and up to 5m for Alertmanager's next message",
		resolved.At.Sub(mended).Round(100*time.Millisecond), stall.Round(time.Second))
	t.Logf("kill -9 to page: %v, of which the shortened rule takes 1s, the shipped one 2m0s; start to resolved: %v",
		down.At.Sub(killed).Round(100*time.Millisecond), up.At.Sub(restarted).Round(100*time.Millisecond))
}
