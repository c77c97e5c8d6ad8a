//go:build unix

// Package deploy_test runs the script try and the commands of the README.
package deploy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
)

// metrics is where the alerts and the dashboard are.
const metrics = "../../../poller/prometheus"

var address = regexp.MustCompile(`^http://[^/]+`)

// attempt is one run of the script.
type attempt struct {
	*exec.Cmd
	t    *testing.T
	dir  string // where it creates its directory
	out  *bufio.Scanner
	errs strings.Builder
}

// try starts the script in a separate process group, as a shell does.
func try(t *testing.T, environ []string, args ...string) *attempt {
	deploytest.Heavy(t)
	for name, debianPackage := range map[string]string{
		"prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager",
		"prometheus-node-exporter": "prometheus-node-exporter", "psql": "postgresql-client", "setpriv": "util-linux",
		"/usr/lib/postgresql/*/bin/initdb": "postgresql",
	} {
		if strings.Contains(name, "/") {
			if found, _ := filepath.Glob(name); len(found) > 0 {
				name = found[0]
			}
		}
		deploytest.Program(t, name, debianPackage)
	}
	dir, err := os.MkdirTemp("", "try-") // other users cannot pass through the test's
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // for the database's user
	a := &attempt{Cmd: exec.CommandContext(t.Context(), "./try", args...), t: t, dir: dir}
	a.Env = append(append(os.Environ(), "TMPDIR="+dir), environ...)
	a.Stderr = &a.errs
	separate(a.Cmd)
	out, err := a.StdoutPipe()
	require.NoError(t, err)
	a.out = bufio.NewScanner(out)
	require.NoError(t, a.Start())
	return a
}

// says reads the output up to a pattern, and returns its first group.
func (a *attempt) says(pattern string) string {
	a.t.Helper()
	for re := regexp.MustCompile(pattern); a.out.Scan(); {
		if found := re.FindStringSubmatch(a.out.Text()); found != nil {
			return found[1]
		}
	}
	_ = a.Wait()
	a.t.Fatalf("no line matches %s: %s\n%s", pattern, a.ProcessState, &a.errs)
	return ""
}

// ends waits for the end, and checks that nothing is left.
func (a *attempt) ends() {
	a.t.Helper()
	for a.out.Scan() {
	}
	require.NoError(a.t, a.Wait(), "%s", &a.errs)
	assert.Empty(a.t, a.errs.String())
	assert.Empty(a.t, a.leftovers())
}

// leftovers are the files of the script and the processes that refer to them.
func (a *attempt) leftovers() (left []string) {
	files, err := os.ReadDir(a.dir)
	require.NoError(a.t, err)
	for _, f := range files {
		left = append(left, f.Name())
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(a.t, err)
	for _, p := range processes {
		for _, name := range []string{"environ", "cmdline"} {
			text, _ := os.ReadFile(filepath.Join(p, name)) // it may have ended
			if strings.Contains(string(text), a.dir) {
				left = append(left, p+" "+name)
			}
		}
	}
	return left
}

func TestTryShowsEverything(t *testing.T) {
	t.Parallel()
	a := try(t, nil)
	ctx := t.Context()
	page := a.says(`^status page +(http://.*)$`)
	list := a.says(`^Prometheus +(http://.*)$`)
	prom := address.FindString(list)
	amtool := strings.Fields(a.says(`^Alertmanager +(amtool .*)$`))
	a.says(`^(Ctrl-C)`)
	assert.NotEmpty(t, a.leftovers(), "while it runs")

	eventually(t, "rows", func() error { return copied(ctx, page) })
	html, err := get(ctx, page)
	require.NoError(t, err)
	assert.Contains(t, string(html), "orders")
	eventually(t, "targets", func() error {
		all, err := targets(ctx, prom)
		if len(all) != 2 {
			return fmt.Errorf("the targets are %v: %w", all, err)
		}
		for target, health := range all {
			if health != "up" {
				return fmt.Errorf("%s is %s", target, health)
			}
		}
		return nil
	})
	rules, err := get(ctx, prom+"/api/v1/rules")
	require.NoError(t, err)
	html, err = get(ctx, list)
	require.NoError(t, err)
	for _, file := range [][]string{{metrics, "alerts.yml"}, {"prometheus", "machine.yml"}, {"prometheus", "updates.yml"}} {
		for _, rule := range deploytest.Alerts(t, deploytest.Read(t, file...)) {
			assert.Contains(t, string(rules), `"name":"`+rule.Name+`"`)
			assert.Contains(t, string(html), rule.Name)
		}
	}
	eventually(t, "the Watchdog", func() error {
		out, err := exec.Command(deploytest.Program(t, amtool[0], "prometheus-alertmanager"), amtool[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Watchdog") {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	})

	interrupt(t, a.Cmd)
	a.ends()
}

// copied returns an error if the status page shows no copied rows.
func copied(ctx context.Context, page string) error {
	text, err := get(ctx, page+"status")
	if err != nil {
		return err
	}
	var status struct {
		Pipelines []struct {
			Name    string
			Records int
		}
	}
	err = json.Unmarshal(text, &status)
	if err != nil || len(status.Pipelines) != 1 || status.Pipelines[0].Name != "orders" || status.Pipelines[0].Records == 0 {
		return fmt.Errorf("no rows are copied: %s: %w", text, err)
	}
	return nil
}

// A stand-in for Grafana, which is not in Debian. It records its configuration.
const fakeGrafana = `#!/bin/sh
cat "$GF_PATHS_PROVISIONING/datasources/prometheus.yaml" >"$SEEN/datasource"
cat "$GF_PATHS_PROVISIONING/dashboards/devotion.yaml" >"$SEEN/provider"
path=$(sed -n 's/ *path: //p' "$SEEN/provider")
cat "$path/dashboard.json" >"$SEEN/dashboard"
touch "$SEEN/all"
exec /bin/sleep 600
`

// The script does not end before that is recorded, or before two minutes.
const longSleep = `#!/bin/sh
while [ "$1" = 1s ] && [ ! -e "$SEEN/all" ] && [ $((n += 1)) -lt 1200 ]; do /bin/sleep 0.1; done
exec /bin/sleep "$@"
`

// Not parallel with the other test, so that they do not choose the same ports.
func TestTryEndsAfterItsTime(t *testing.T) {
	bin := t.TempDir()
	for name, text := range map[string]string{"grafana-server": fakeGrafana, "sleep": longSleep} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700)) // they are programs
	}
	a := try(t, []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "SEEN=" + bin}, "-for", "1s")
	prom := address.FindString(a.says(`^Prometheus +(http://.*)$`))
	a.says(`^Grafana +(http://127.0.0.1:\d+/d/devotion)$`)
	a.ends()
	var datasource struct {
		Datasources []struct{ Type, URL string }
	}
	var provider struct {
		Providers []struct{ Options struct{ Path string } }
	}
	for name, into := range map[string]any{"datasource": &datasource, "provider": &provider} {
		text, err := os.ReadFile(filepath.Join(bin, name))
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(text, into), "%s", text)
	}
	require.Len(t, datasource.Datasources, 1)
	assert.Equal(t, prom, datasource.Datasources[0].URL)
	require.Len(t, provider.Providers, 1)
	assert.NotEmpty(t, provider.Providers[0].Options.Path)
	text, err := os.ReadFile(filepath.Join(bin, "dashboard"))
	require.NoError(t, err)
	assert.Equal(t, deploytest.Read(t, metrics, "dashboard.json"), string(text))
}

func TestTryNamesMissingPackages(t *testing.T) {
	bash := deploytest.Program(t, "bash", "bash")
	bin := t.TempDir()
	for _, name := range []string{"dirname", "sort", "tail"} {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(bin, name)))
	}
	cmd := exec.Command(bash, "./try")
	cmd.Env = []string{"PATH=" + bin}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "apt-get install prometheus prometheus-alertmanager prometheus-node-exporter postgresql-client")

	out, err = exec.Command(bash, "./try", "-fort", "1s").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "examples/dbtofile/deploy/try -for 10m")
}
