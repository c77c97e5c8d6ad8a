package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// scrape is how often the shortened Prometheus scrapes and evaluates.
const scrape = 500 * time.Millisecond

// world is a machine with all that is deployed on it.
type world struct {
	t        *testing.T
	database *dbtest.Server
	table    dbtest.Database
	binary   string
	addr     string // of dbtofile
	out      string
	dbtofile *deploytest.Process
	prom     deploytest.Prometheus
	rules    string // the shortened ones
	webhook  *webhook
}

// shorten replaces pairs of old and new text. Each old one must be there: a file
// that has changed wants another look.
func shorten(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(t, text, pairs[i])
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

func newWorld(t *testing.T) *world {
	deploytest.Heavy(t)
	prometheus := deploytest.Program(t, "prometheus", "prometheus")
	alertmanager := deploytest.Program(t, "prometheus-alertmanager", "prometheus-alertmanager")
	exporter := deploytest.Program(t, "prometheus-node-exporter", "prometheus-node-exporter")
	w := &world{t: t, database: dbtest.StartPostgres(t), binary: filepath.Join(t.TempDir(), "dbtofile"), out: t.TempDir(), webhook: newWebhook(t)}
	w.table = w.database.NewDatabase(t)
	w.table.Open(t, dbtest.PGX).MustExec(`CREATE TABLE orders (id bigserial PRIMARY KEY, name text)`)
	out, err := exec.Command("go", "build", "-ldflags", "-X main.release=1.2.3", "-o", w.binary, "../..").CombinedOutput()
	require.NoError(t, err, "%s", out)

	dir, addrs := t.TempDir(), deploytest.FreeAddrs(4)
	w.addr = addrs[0]
	promAddr, managerAddr, nodeAddr := addrs[1], addrs[2], addrs[3]
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	// The rules as they are but for these: how long PipelineStalled and PipelineDown wait, and how far apart
	// the moments are at which subqueries and offsets look.
	w.rules = shorten(t, deploytest.Read(t, "prometheus", "alerts.yml"),
		"[1d]), 600)", "[1d]), 10)", "for: 1m", "for: 1s", "for: 2m", "for: 1s",
		"[1d:1m]", "[1d:1s]", "[7d:1h]", "[7d:1s]", "offset 1h", "offset 5s")
	rules := write("alerts.yml", w.rules)
	config := write("prometheus.yml", shorten(t, deploytest.Read(t, "prometheus", "prometheus.yml"),
		"15s", scrape.String(), "- alerts.yml", "- "+rules,
		"127.0.0.1:9464", w.addr, "127.0.0.1:9100", nodeAddr, "127.0.0.1:9093", managerAddr))
	routes := write("alertmanager.yml", shorten(t, deploytest.Read(t, "prometheus", "alertmanager.yml"),
		"group_wait: 10s", "group_wait: 100ms", "group_interval: 5m", "group_interval: 500ms", "group_interval: 1m", "group_interval: 500ms",
		"repeat_interval: 1m", "repeat_interval: 500ms", "http://127.0.0.1:9095", w.webhook.url))
	write("textfile/dbtofile-update.prom", updates(time.Now()))

	deploytest.Start(t, alertmanager, "--config.file="+routes, "--storage.path="+filepath.Join(dir, "alertmanager"),
		"--web.listen-address="+managerAddr, "--cluster.listen-address=", "--log.level=warn")
	deploytest.Start(t, exporter, "--web.listen-address="+nodeAddr, "--collector.disable-defaults", "--collector.time", "--collector.filesystem",
		"--collector.filesystem.fs-types-exclude=^(autofs|binfmt_misc|cgroup2?|configfs|debugfs|devpts|devtmpfs|mqueue|proc|sysfs|tracefs)$", // a container's root is an overlay
		"--collector.textfile", "--collector.textfile.directory="+filepath.Join(dir, "textfile"), "--log.level=warn")
	deploytest.Start(t, prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "prometheus"),
		"--web.listen-address="+promAddr, "--rules.alert.resend-delay=1s", "--log.level=warn")
	w.prom = deploytest.Prometheus("http://" + promAddr)
	w.start()
	w.write()
	return w
}

// start starts dbtofile.
func (w *world) start() {
	dsn := filepath.Join(w.t.TempDir(), "dsn")
	require.NoError(w.t, os.WriteFile(dsn, []byte(w.table.DSN(dbtest.PGX)), 0o600))
	w.dbtofile = deploytest.Start(w.t, w.binary, "-dsn-file", dsn, "-table", "orders", "-key", "id", "-out", w.out, "-interval", "100ms", "-listen", w.addr)
}

// write adds rows until the test ends, whenever the database is there.
func (w *world) write() {
	db, err := sqlx.Open(dbtest.PGX.SQLName(), w.table.DSN(dbtest.PGX))
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			_, _ = db.ExecContext(ctx, `INSERT INTO orders (name) SELECT 'order ' || i FROM generate_series(1, 10) i`) // an outage is part of the test
		}
	})
	w.t.Cleanup(func() { cancel(); wg.Wait(); db.Close() })
}

// updates is what the updater writes for node exporter: a deploy, after a rollback.
func updates(now time.Time) string {
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	return fmt.Sprintf(`# TYPE dbtofile_update_info gauge
dbtofile_update_info{version="1.2.3"} 1
# TYPE dbtofile_update_last_check_timestamp_seconds gauge
dbtofile_update_last_check_timestamp_seconds %d
# TYPE dbtofile_update_last_deploy_timestamp_seconds gauge
dbtofile_update_last_deploy_timestamp_seconds %d
# TYPE dbtofile_update_last_rollback_timestamp_seconds gauge
dbtofile_update_last_rollback_timestamp_seconds %d
# TYPE dbtofile_update_rollbacks_total counter
dbtofile_update_rollbacks_total 1
# TYPE dbtofile_update_deploys_total counter
dbtofile_update_deploys_total 3
# TYPE dbtofile_update_deferrals_total counter
dbtofile_update_deferrals_total 0
# TYPE dbtofile_update_failures_total counter
dbtofile_update_failures_total 0
# TYPE dbtofile_update_quarantined_releases gauge
dbtofile_update_quarantined_releases 1
# TYPE dbtofile_update_pending gauge
dbtofile_update_pending 0
`, ago(time.Hour), ago(24*time.Hour), ago(48*time.Hour))
}

// webhook is what Alertmanager sends to.
type webhook struct {
	url string
	mu  sync.Mutex
	got []message
}

// message is an alert as it came.
type message struct {
	Path, Status        string
	Labels, Annotations map[string]string
	At                  time.Time
}

func newWebhook(t *testing.T) *webhook {
	h := &webhook{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var group struct{ Alerts []message }
		if err := json.NewDecoder(r.Body).Decode(&group); err != nil {
			t.Errorf("the webhook got no JSON: %v", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, m := range group.Alerts {
			m.Path, m.At = r.URL.Path, time.Now()
			h.got = append(h.got, m)
		}
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

func (h *webhook) messages() []message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]message(nil), h.got...)
}

// wait waits for the first message after a moment about an alert.
func (h *webhook) wait(t *testing.T, after time.Time, alert, status string) (found message) {
	t.Helper()
	deploytest.Eventually(t, alert+" "+status, func() error {
		for _, m := range h.messages() {
			if m.At.After(after) && m.Labels["alertname"] == alert && m.Status == status {
				found = m
				return nil
			}
		}
		return fmt.Errorf("the webhook has %d messages, not this one", len(h.messages()))
	})
	return found
}
