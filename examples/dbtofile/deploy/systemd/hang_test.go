//go:build linux

package systemd_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/poller/sdnotify"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

func TestMain(m *testing.M) {
	if os.Getenv("HANG_WHEN_TOLD") != "" {
		hang()
		return
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // the labs wait more than they work
	os.Exit(m.Run())
}

// hangs has a step and the loop of a pipeline hang: dbtofile does not do so on demand, so it is
// another program, this one, that is put into the unit.
func hangs(t *testing.T, packages string, f *figures) {
	m := boot(t, packages)
	m.install("1.0.0")
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(m.Dir(), "hang"), self, 0o755))
	m.configure("", "none")
	m.Unit(service+".d/test.conf", "[Service]\nWatchdogSec=2s\nExecStart=\nExecStart=/opt/lab/hang\nEnvironment=HANG_WHEN_TOLD=yes\n")
	m.Must("systemctl", "start", service)
	for i, c := range []struct{ signal, name string }{
		{"USR1", "a step hangs -> ready (Deadline=1s, WatchdogSec=2s, RestartSec=2s)"},
		{"USR2", "the loop hangs -> ready (Deadline=1s, WatchdogSec=2s, RestartSec=2s)"},
	} {
		m.Must("systemctl", "kill", "--kill-whom=main", "--signal="+c.signal, service)
		f.add(c.name, m.ready(service, m.said(service, "hangs on "+c.signal)))
		assert.Equal(t, fmt.Sprint(i+1), m.Show(service, "NRestarts"))
	}
	m.Must("systemctl", "stop", service)
	assert.Equal(t, "success", m.Show(service, "Result"))

	// A checkpoint store that is down for longer than a start may take is waited for.
	m.Unit(service+".d/slow.conf", "[Service]\nTimeoutStartSec=1s\nEnvironment=STORE_DOWN_FOR=4s\n")
	took := m.ready(service, m.at("systemctl", "start", service))
	f.add("start -> ready, checkpoint store down for 4 s (TimeoutStartSec=1s)", took)
	assert.Greater(t, took, 4*time.Second)
	assert.Equal(t, "0", m.Show(service, "NRestarts"))
}

// hang runs a pipeline in which a step hangs after SIGUSR1, and a hook after SIGUSR2.
func hang() {
	ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer restore()
	var told atomic.Value
	told.Store("")
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		told.Store(map[os.Signal]string{syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2"}[<-signals])
	}()
	if err := pipeline(ctx, func(on string) {
		if told.Load() == on {
			fmt.Println("hangs on", on)
			select {}
		}
	}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func pipeline(ctx context.Context, maybeHang func(on string)) error {
	checkpoint, err := filecheckpoint.Open(filepath.Join(os.Getenv("STATE_DIRECTORY"), "cursor"), filecheckpoint.Options{})
	if err != nil {
		return err
	}
	defer checkpoint.Close()
	down, _ := time.ParseDuration(os.Getenv("STORE_DOWN_FOR"))
	p := &poller.Poller[int]{
		Name: "hang",
		Source: source.Func[int](func(_ context.Context, after source.Cursor, _ int) (source.Batch[int], error) {
			to := source.Cursor("1")
			if after == to {
				to = "2"
			}
			return source.Batch[int]{From: after, To: to, Records: []int{1}}, nil
		}),
		Sink:         sink.Func[int](func(context.Context, source.Batch[int]) error { maybeHang("USR1"); return nil }),
		Checkpointer: late{checkpoint, time.Now().Add(down)},
		Interval:     50 * time.Millisecond,
		Deadline:     time.Second,
		Hooks:        poller.Hooks{Poll: func(poller.PollInfo) { maybeHang("USR2") }},
		Logger:       slog.New(slog.DiscardHandler),
	}
	stop, err := sdnotify.Start(ctx, p.Status)
	if err != nil {
		return err
	}
	defer stop()
	return p.Run(ctx)
}

// late is a checkpoint store that is down until some time.
type late struct {
	poller.Checkpointer
	up time.Time
}

func (l late) Load(ctx context.Context) (source.Cursor, error) {
	if time.Now().Before(l.up) {
		return "", errors.New("the store is down")
	}
	return l.Checkpointer.Load(ctx)
}
