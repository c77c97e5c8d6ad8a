package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// address waits until the program listens, and returns its address.
func (p *process) address() string {
	p.t.Helper()
	p.says("msg=listening", 1)
	return regexp.MustCompile(`msg=listening address=(\S+)`).FindStringSubmatch(p.stderr.String())[1]
}

// get returns the status code and the body of an answer.
func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

// scrape returns the metrics.
func (p *process) scrape() string {
	p.t.Helper()
	code, body := get(p.t, http.MethodGet, "http://"+p.address()+"/metrics")
	require.Equal(p.t, http.StatusOK, code, body)
	return body
}

// metric returns the value of a series of the pipeline orders. The name has no
// devotion_, and the label pipeline no value, as in polls_total{outcome="rows",pipeline}.
func metric(t *testing.T, scraped, series string) float64 {
	t.Helper()
	if !strings.Contains(series, "{") {
		series += "{pipeline}"
	}
	series = strings.Replace(series, "pipeline", `pipeline="orders"`, 1)
	found := regexp.MustCompile(`(?m)^devotion_` + regexp.QuoteMeta(series) + ` (.*)$`).FindStringSubmatch(scraped)
	require.Len(t, found, 2, "no %s in\n%s", series, scraped)
	v, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	return v
}

// serving returns the arguments of a copy of the shop that listens on a free port.
func serving(dsn, dir string, more ...string) []string {
	return append([]string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-interval", "10ms", "-listen", ":0"}, more...)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	const n = 1500
	db, dsn := shop(t, n)
	dir := filepath.Join(t.TempDir(), "out")
	p := start(t, nil, serving(dsn, dir, "-batch", "10", "-segment-bytes", "10000")...)

	// During the copy.
	last := 0.0
	require.Eventually(t, func() bool {
		scraped := p.scrape()
		written := metric(t, scraped, "rows_written_total")
		require.GreaterOrEqual(t, written, last, "counters never fall")
		last = written
		return written == n
	}, patience, time.Millisecond)
	require.LessOrEqual(t, strings.Count(content(t, dir, ".jsonl"), "\n"), n)

	sell(db, n+1, n+5)
	require.Eventually(t, func() bool { return metric(t, p.scrape(), "rows_written_total") == n+5 }, patience, 5*time.Millisecond)
	scraped := p.scrape()
	require.Equal(t, float64(n+5), metric(t, scraped, "rows_read_total"))
	require.Equal(t, float64(n+5), metric(t, scraped, "batch_rows_sum"))
	require.Equal(t, metric(t, scraped, `polls_total{outcome="rows",pipeline}`), metric(t, scraped, "checkpoints_total"))
	require.GreaterOrEqual(t, metric(t, scraped, "checkpoints_total"), n/10.0)
	require.GreaterOrEqual(t, metric(t, scraped, "written_bytes_total"), 10.0*n)
	require.Zero(t, metric(t, scraped, `polls_total{outcome="error",pipeline}`))
	require.Equal(t, 0.01, metric(t, scraped, "interval_seconds"))
	require.InDelta(t, float64(time.Now().Unix()), metric(t, scraped, "last_success_timestamp_seconds"), patience.Seconds())
	version := strings.Fields(succeeds(t, "-version").stdout.String())[1]
	require.Contains(t, scraped, fmt.Sprintf(`devotion_build_info{goversion=%q,revision="`, runtime.Version()))
	require.Contains(t, scraped, fmt.Sprintf(`,version=%q} 1`, version))
	require.Contains(t, scraped, "\ngo_goroutines ")
	if runtime.GOOS == "linux" {
		require.Contains(t, scraped, "\nprocess_start_time_seconds ")
	}
	lint(t, scraped)

	p.stopsWell()
	_, err := net.DialTimeout("tcp", p.address(), time.Second)
	require.Error(t, err)
	succeeds(t, serving(dsn, dir, "-once")...)
	same(t, sold(1, n+5), content(t, dir, ".jsonl"))
}

// lint checks metrics with promtool.
func lint(t *testing.T, scraped string) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		require.NotEqual(t, "true", os.Getenv("CI"), "no promtool found: install the package prometheus")
		t.Log("no promtool found, so the metrics are not linted: install the package prometheus")
		return
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scraped)
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Empty(t, string(said))
}

// The address is in the environment, and the program listens until all rows are copied.
func TestListenOnce(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	dir := filepath.Join(t.TempDir(), "out")
	p := run(t, []string{"LISTEN=127.0.0.1:0"}, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-once")
	require.Equal(t, 0, p.code(), "%s", &p.stderr)
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, p.address())
	same(t, sold(1, 5), content(t, dir, ".jsonl"))
	_, err := net.DialTimeout("tcp", p.address(), time.Second)
	require.Error(t, err)
}

func TestItIsReadOnly(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	p := start(t, nil, serving(dsn, t.TempDir())...)
	for _, path := range []string{"/", "/status", "/metrics"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			code, _ := get(t, method, "http://"+p.address()+path)
			require.Equal(t, http.StatusMethodNotAllowed, code, "%s %s", method, path)
		}
	}
	code, body := get(t, http.MethodHead, "http://"+p.address()+"/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Empty(t, body)
	p.stopsWell()
}

// Without a host only this machine can reach it. Linux routes all of 127.0.0.0/8 to this
// machine, so 127.0.0.2 stands for another of its addresses.
func TestWhichAddressesReachIt(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	for given, c := range map[string]struct {
		address string
		other   bool
	}{
		":0":          {`127\.0\.0\.1`, false},
		"0":           {`127\.0\.0\.1`, false},
		"127.0.0.1:0": {`127\.0\.0\.1`, false},
		"localhost:0": {`(127\.0\.0\.1|\[::1\])`, false},
		"0.0.0.0:0":   {`(0\.0\.0\.0|\[::\])`, true},
		"[::1]:0":     {`\[::1\]`, false},
	} {
		t.Run(given, func(t *testing.T) {
			t.Parallel()
			if given[0] == '[' {
				l, err := net.Listen("tcp", given)
				if err != nil {
					t.Skip("this machine has no IPv6:", err)
				}
				l.Close()
			}
			p := start(t, nil, serving(dsn, t.TempDir(), "-listen", given)...)
			at := p.address()
			require.Regexp(t, `^`+c.address+`:\d+$`, at)
			_, port, err := net.SplitHostPort(at)
			require.NoError(t, err)
			require.Contains(t, p.scrape(), "devotion_rows_written_total")
			if runtime.GOOS != "linux" {
				return // other systems do not route 127.0.0.2
			}
			conn, err := net.DialTimeout("tcp", "127.0.0.2:"+port, patience)
			if c.other {
				require.NoError(t, err)
				conn.Close()
			} else {
				require.Error(t, err)
			}
		})
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	dir, at := t.TempDir(), taken.Addr().String()
	p := run(t, nil, serving(dsn, dir, "-listen", at)...)
	require.Equal(t, 1, p.code(), "%s", &p.stderr)
	require.Regexp(t, `(?m)^dbtofile: -listen: listen tcp `+regexp.QuoteMeta(at)+`: .*: choose an address of this machine and a free port above 1023, or stop the program that uses it$`, p.stderr.String())
	require.Empty(t, files(t, dir, ".jsonl*"), "nothing was copied")

	// Actions do not listen.
	succeeds(t, serving(dsn, dir, "-listen", at, "-check")...)
	succeeds(t, serving(dsn, dir, "-once")...)
	succeeds(t, serving(dsn, dir, "-listen", at, "-rewind", "3")...)
	p = run(t, nil, serving(dsn, dir, "-listen", at, "-adopt")...)
	require.NotContains(t, p.stderr.String(), "listen")
}

// Clients that send half a request, or do not read the answer, delay neither the copy
// nor other clients nor the stop.
func TestClientsThatHang(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 5)
	p := start(t, nil, serving(dsn, t.TempDir())...)
	at := p.address()
	for _, request := range []string{"", "GET /met", "GET /metrics HTTP/1.1\r\nHost: x\r\n", strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 2000)} {
		conn, err := net.Dial("tcp", at)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(time.Second)))
		_, _ = io.WriteString(conn, request) // the last one blocks, because nobody reads the answers
	}
	sell(db, 6, 10)
	require.Eventually(t, func() bool { return metric(t, p.scrape(), "rows_written_total") == 10 }, patience, 5*time.Millisecond)
	p.stopsWell()
}

func TestMetricsKeepSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, []string{"DSN=postgres://countess:" + escaped + "@127.0.0.1:1/warehouse"}, "-table", "orders", "-key", "id", "-out", dir, "-listen", ":0")
	p.says("failing, will retry", 1)
	var scraped string
	require.Eventually(t, func() bool {
		scraped = p.scrape()
		return metric(t, scraped, `errors_total{class="transient",pipeline,stage="fetch"}`) > 0
	}, patience, 5*time.Millisecond)
	_, page := get(t, http.MethodGet, "http://"+p.address()+"/status")
	for _, secret := range []string{planted, escaped, "hunter2", "countess", "warehouse"} {
		require.NotContains(t, scraped, secret)
	}
	require.NotContains(t, page, "hunter2")
	require.NotContains(t, scraped, "dial", "no text of an error")
	p.stopsWell()
}

// A web site whose name resolves to 127.0.0.1 must not read the pages through a browser.
func TestForeignHostsAreRefused(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	p := start(t, nil, serving(dsn, t.TempDir())...)
	for host, want := range map[string]int{"localhost": http.StatusOK, "evil.example": http.StatusForbidden} {
		for _, path := range []string{"/", "/status", "/metrics", "/livez"} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.address()+path, nil)
			require.NoError(t, err)
			request.Host = host
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, want, response.StatusCode, "%s%s", host, path)
		}
	}
	p.stopsWell()
}
