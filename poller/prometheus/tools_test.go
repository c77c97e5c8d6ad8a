package prometheus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// heavy skips a test that mostly waits for other programs: with -short, because it
// takes long, and with the race detector, which does not see other programs.
func heavy(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers and waits for them: skipped with -short")
	}
	if race {
		t.Skip("other programs do the work, which the race detector does not see")
	}
}

// missing skips a test that needs something which is not installed. In CI the test
// fails, because nobody sees a skipped test there.
func missing(t testing.TB, what, install string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s not found: %s", what, install)
	}
	t.Skipf("%s not found: %s", what, install)
}

// program returns the path of a program of a Debian package.
func program(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name, "install the package "+debianPackage)
	}
	return path
}

// The shell ends the program when its own input ends: at the end of the test, or
// when the test process has ended for another reason.
const keeper = `"$@" </dev/null & pid=$!; read -r _; kill "$pid" 2>/dev/null; wait "$pid"`

// startProgram starts a program that ends with the test.
func startProgram(t testing.TB, name string, args ...string) {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", keeper, "keeper", name}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the end of the output of %s:\n%s", name, text[max(0, len(text)-4<<10):])
		}
		log.Close()
	})
}

// freeAddrs returns addresses of the loopback interface where nothing listens now.
// Their ports are below those of outgoing connections.
func freeAddrs(n int) (addrs []string) {
	for len(addrs) < n {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			defer l.Close() // after all are chosen, so that none comes twice
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// patience is how long anything may take on a busy machine.
const patience = 3 * time.Minute

// eventually waits until f returns nil.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience + *watch); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s: %v", patience, what, err)
		}
	}
}

// server is the address of a Prometheus, such as http://127.0.0.1:9090.
type server string

// series is a result of a query, as text.
type series struct {
	Metric map[string]string
	Value  [2]any   // of an instant: time and value
	Values [][2]any // of a range
}

// numbers returns how many values are numbers. A quantile of nothing is NaN, which
// no graph can show.
func (s series) numbers() (n int) {
	for _, v := range append(s.Values, s.Value) {
		if text, ok := v[1].(string); ok && text != "NaN" {
			n++
		}
	}
	return n
}

func (p server) query(ctx context.Context, expr string) (found []series, err error) {
	var data struct{ Result []series }
	err = p.get(ctx, "query", url.Values{"query": {expr}}, &data)
	return data.Result, err
}

func (p server) queryRange(ctx context.Context, expr string, over, step time.Duration) (found []series, err error) {
	var data struct{ Result []series }
	now := time.Now()
	err = p.get(ctx, "query_range", url.Values{
		"query": {expr}, "step": {fmt.Sprint(step.Seconds())},
		"start": {now.Add(-over).Format(time.RFC3339Nano)}, "end": {now.Format(time.RFC3339Nano)},
	}, &data)
	return data.Result, err
}

// labelValues returns the values of a label in the series of a selector.
func (p server) labelValues(ctx context.Context, selector, label string) (values []string, err error) {
	err = p.get(ctx, "label/"+label+"/values", url.Values{"match[]": {selector}}, &values)
	return values, err
}

func (p server) get(ctx context.Context, path string, values url.Values, data any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(p)+"/api/v1/"+path+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, &struct{ Data any }{data})
}
