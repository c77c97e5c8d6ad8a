//go:build linux

package deploy_test

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
	"github.com/artifactofdevotion/devotion/poller/integration/systemdlab"
)

// commands returns the blocks of shell commands in a page, in order.
func commands(page string) (blocks []string) {
	var block strings.Builder
	in := false
	for line := range strings.Lines(page) {
		switch {
		case line == "```sh\n":
			in = true
			block.Reset()
		case in && line == "```\n":
			in = false
			blocks = append(blocks, block.String())
		case in:
			block.WriteString(line)
		}
	}
	return blocks
}

func TestTheReadmeLeadsSomewhere(t *testing.T) {
	readme := deploytest.Read(t, "README.md")
	links := regexp.MustCompile(`\]\(([^)#]*)#?([^)]*)\)`).FindAllStringSubmatch(readme, -1)
	require.NotEmpty(t, links)
	for _, l := range links {
		page := readme
		if l[1] != "" {
			_, err := os.Stat(l[1])
			assert.NoError(t, err, l[0])
		}
		if l[1] != "" && l[2] != "" {
			page = deploytest.Read(t, l[1])
		}
		if l[2] != "" {
			assert.Regexp(t, `(?im)^##+ `+strings.ReplaceAll(l[2], "-", " ")+`$`, page, l[0])
		}
	}
}

// A newcomer's machine has a systemd that has booted, the packages of Debian, Go, and a clone. The test
// runs every command of the README on it, as root, block by block.
func TestTheReadmeFromABareMachine(t *testing.T) {
	t.Parallel()
	deploytest.Heavy(t)
	for program, debianPackage := range map[string]string{
		"prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager",
		"prometheus-node-exporter": "prometheus-node-exporter", "curl": "curl", "pg_ctlcluster": "postgresql",
		"apt-ftparchive": "apt-utils", "gpg": "gpg", "gpg-agent": "gpg-agent", "jq": "jq",
	} {
		deploytest.Program(t, program, debianPackage)
	}
	blocks := commands(deploytest.Read(t, "README.md"))
	require.Len(t, blocks, 10)
	lab := systemdlab.Boot(t)
	nfpm := packager(t, lab)
	clone(t, filepath.Join(lab.Dir(), "clone"))
	// The lab has no network. The packages of the first block are installed, and must not be upgraded.
	lab.Write("/etc/apt/apt.conf.d/99lab", `APT::Get::Upgrade "false"; Acquire::http::Proxy "http://127.0.0.1:9"; Acquire::https::Proxy "http://127.0.0.1:9"; Acquire::Retries "0";`+"\n")

	began := time.Now()
	for i, block := range blocks {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		// The modules that go would download are on the machine.
		out, err := lab.Run(ctx, "env", "NFPM="+nfpm, "GOPROXY=off",
			"PATH=/usr/sbin:/usr/bin:/sbin:/bin:"+filepath.Dir(goBinary(t)),
			"bash", "-euo", "pipefail", "-c", "cd /opt/lab/clone\n"+block)
		cancel()
		require.NoError(t, err, "%s\n%s", block, out)
		if i == 0 {
			lab.Must("rm", "/etc/apt/apt.conf.d/99lab")
		}
		if strings.Contains(block, "dbtofile.sources") { // a version proves itself in less time here
			lab.Write("/etc/dbtofile/update.env", "settle=2\n")
		}
		first, _, _ := strings.Cut(block, "\n")
		t.Logf("%5.1fs  %s …", time.Since(start).Seconds(), first)
		if strings.Contains(block, "/status") {
			assert.Contains(t, out, `"version": "1.0.1"`)
			assert.Contains(t, out, `"ready": true`)
		}
	}
	t.Logf("%5.1fs  in all", time.Since(began).Seconds())

	// It is watched, and the metrics of the upgrade have reached Prometheus.
	for _, query := range []string{
		`up{job="dbtofile"} == 1`, `up{job="node"} == 1`, `devotion_last_success_timestamp_seconds{pipeline="orders"}`,
		`dbtofile_update_info{version="1.0.1"}`, `dbtofile_update_last_deploy_timestamp_seconds`,
	} {
		lab.Eventually(query, func() bool {
			out, err := lab.Run(t.Context(), "curl", "-fsS", "--get", "--data-urlencode", "query="+query, "http://127.0.0.1:9090/api/v1/query")
			return err == nil && strings.Contains(out, `"metric"`)
		})
	}
	lab.Eventually("Prometheus knows Alertmanager", func() bool {
		out, err := lab.Run(t.Context(), "curl", "-fsS", "http://127.0.0.1:9090/metrics")
		return err == nil && strings.Contains(out, "\nprometheus_notifications_alertmanagers_discovered 1\n")
	})
}

func goBinary(t *testing.T) string {
	path, err := exec.LookPath("go")
	require.NoError(t, err)
	path, err = filepath.EvalSymlinks(path)
	require.NoError(t, err)
	return path
}

// packager returns an nfpm that is visible in the lab, which has no network to download it.
func packager(t *testing.T, lab *systemdlab.Lab) string {
	if path := os.Getenv("NFPM"); path != "" {
		return path
	}
	cmd := exec.Command("go", "install", "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.41.3")
	cmd.Env = append(os.Environ(), "GOBIN="+lab.Dir(), "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return "/opt/lab/nfpm"
}

// clone copies the files of the repository, as they are now.
func clone(t *testing.T, to string) {
	root := filepath.Join(deploytest.Dir(), "..", "..", "..")
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	out, err := list.Output()
	require.NoError(t, err)
	files := bufio.NewScanner(strings.NewReader(strings.ReplaceAll(string(out), "\x00", "\n")))
	for files.Scan() {
		from, to := filepath.Join(root, files.Text()), filepath.Join(to, files.Text())
		info, err := os.Stat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not committed yet
		}
		require.NoError(t, err)
		text, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755)) // a clone as any
		require.NoError(t, os.WriteFile(to, text, info.Mode()))
	}
}
