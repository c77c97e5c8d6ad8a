package deploytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Patience is how long anything may take on a busy machine. An alert that finds no
// Alertmanager is sent again after a minute.
const Patience = 3 * time.Minute

// The shell ends the program when its own input ends: when the test says so, or
// when the test process has gone, however that came.
const keeper = `"$@" </dev/null & pid=$!; read -r signal || signal=TERM; kill -"$signal" "$pid" 2>/dev/null; wait "$pid"`

// Process is a program that a test has started.
type Process struct {
	name  string
	stdin io.WriteCloser
	done  chan struct{}
	once  sync.Once

	mu  sync.Mutex
	out bytes.Buffer
}

// Start starts a program, which ends with the test. What it printed is logged if
// the test fails.
func Start(tb testing.TB, name string, args ...string) *Process {
	tb.Helper()
	p := &Process{name: name, done: make(chan struct{})}
	cmd := exec.Command("/bin/sh", append([]string{"-c", keeper, "keeper", name}, args...)...)
	cmd.Stdout, cmd.Stderr = p, p
	var err error
	if p.stdin, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		tb.Fatalf("deploytest: %s: %v", name, err)
	}
	go func() { _ = cmd.Wait(); close(p.done) }()
	tb.Cleanup(func() {
		p.End("TERM")
		if tb.Failed() {
			tb.Logf("deploytest: the end of what %s said:\n%s", name, p.tail())
		}
	})
	return p
}

// Write takes what the program prints.
func (p *Process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(text)
}

func (p *Process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.out.Bytes()
	return string(b[max(0, len(b)-4<<10):])
}

// End sends the program a signal that ends it, such as TERM or KILL, and waits
// until it has. Only the first call does anything.
func (p *Process) End(signal string) {
	p.once.Do(func() {
		fmt.Fprintln(p.stdin, signal)
		p.stdin.Close()
	})
	<-p.done
}

// Eventually waits until f returns nil.
func Eventually(tb testing.TB, what string, f func() error) {
	tb.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(Patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("deploytest: waited %v for %s: %v", Patience, what, err)
		}
		<-tick.C
	}
}

// Get returns the body of an answer with status 200.
func Get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return body, err
}
