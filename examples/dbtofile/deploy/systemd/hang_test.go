//go:build linux

package systemd_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/sdnotify"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

func TestMain(m *testing.M) {
	if os.Getenv("HANG_WHEN_TOLD") != "" {
		hang()
		return
	}
	if os.Getenv("SERVE") != "" {
		serve()
	}
	if version := os.Getenv("STICKS"); version != "" {
		stick(version)
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "12") // the labs wait more than they work
	os.Exit(m.Run())
}

// stuck makes a step of dbtofile hang: a tracer delays each fsync until systemd has noticed, like a
// disk that is gone for a while. The step's deadline is a minute, as always.
func stuck(t *testing.T, packages string, f *figures) {
	deploytest.Program(t, "strace", "strace") // to hold up a system call
	m := boot(t, packages)
	m.postgres()
	m.install("1.0.0")
	m.Unit(service+".d/test.conf", "[Service]\nWatchdogSec=10s\n")
	m.configure("", postgresDSN, "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id", "DBTOFILE_INTERVAL=50ms")
	m.Must("systemctl", "start", service)
	stopWriting := m.write()
	m.flows(out)
	m.Unit("tracer.service", "[Service]\nExecStart=strace -f -o /dev/null -e trace=fsync -e inject=fsync:delay_enter=1000s -p "+m.Show(service, "MainPID")+"\n")
	at, began := m.at("systemctl", "start", "tracer"), time.Now()
	m.Eventually("most of the deadline is over", func() bool { return time.Since(began) > 50*time.Second })
	assert.Equal(t, "0", m.Show(service, "NRestarts"), "a slow step is no hung one")
	m.said(service, "Watchdog timeout")
	m.Must("systemctl", "kill", "--signal=KILL", "tracer")
	f.add("fsync hangs -> ready (Deadline 1 min, WatchdogSec=10s)", m.ready(service, at))
	assert.Equal(t, "1", m.Show(service, "NRestarts"))
	m.said(service, "filesink.")
	m.flows(out)
	stopWriting()
	m.same(out, m.rows())
}

// hangs makes the loop of a pipeline hang. dbtofile's loop does not hang on demand, so this program
// runs in the unit instead.
func hangs(t *testing.T, packages string, f *figures) {
	m := boot(t, packages)
	m.install("1.0.0")
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(m.Dir(), "hang"), self, 0o755))
	m.configure("", "none")
	m.Unit(service+".d/test.conf", "[Service]\nWatchdogSec=10s\nExecStart=\nExecStart=/opt/lab/hang\nEnvironment=HANG_WHEN_TOLD=yes\n")
	m.Must("systemctl", "start", service)
	m.Must("systemctl", "kill", "--kill-whom=main", "--signal=USR1", service)
	f.add("the loop hangs -> ready (Deadline=1s, WatchdogSec=10s, RestartSec=2s)", m.ready(service, m.said(service, "hangs")))
	assert.Equal(t, "1", m.Show(service, "NRestarts"))
	m.Must("systemctl", "stop", service)
	assert.Equal(t, "success", m.Show(service, "Result"))

	// A checkpoint store that is down for longer than a start may take is waited for.
	m.Unit(service+".d/slow.conf", "[Service]\nTimeoutStartSec=10s\nEnvironment=STORE_DOWN_FOR=12s\n")
	took := m.ready(service, m.at("systemctl", "start", service))
	f.add("start -> ready, checkpoint store down for 12 s (TimeoutStartSec=10s)", took)
	moment := func(property string) (µs int) { // systemd's own, which no journal is late to take in
		_, err := fmt.Sscan(m.Show(service, property), &µs)
		require.NoError(t, err)
		return µs
	}
	assert.Greater(t, moment("ActiveEnterTimestampMonotonic")-moment("ExecMainStartTimestampMonotonic"), 12_000_000)
	assert.Equal(t, "0", m.Show(service, "NRestarts"))
}

// hang runs a pipeline in which a hook hangs after SIGUSR1.
func hang() {
	ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer restore()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	if err := pipeline(ctx, told); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func pipeline(ctx context.Context, told <-chan os.Signal) error {
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
		Sink:         sink.Func[int](func(context.Context, source.Batch[int]) error { return nil }),
		Checkpointer: late{checkpoint, time.Now().Add(down)},
		Interval:     50 * time.Millisecond,
		Deadline:     time.Second,
		Hooks: poller.Hooks{Poll: func(poller.PollInfo) {
			select {
			case <-told:
				fmt.Println("hangs")
				select {}
			default:
			}
		}},
		Logger: slog.New(slog.DiscardHandler),
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

// stick is a version of dbtofile that polls twice, and then hangs as if the disk did. It stays ready for a minute.
func stick(version string) {
	polls := 0
	p := &poller.Poller[int]{
		Name: "orders",
		Source: source.Func[int](func(_ context.Context, after source.Cursor, _ int) (source.Batch[int], error) {
			if polls++; polls > 2 {
				select {}
			}
			return source.Batch[int]{From: after, To: after}, nil
		}),
		Sink:         sink.Func[int](func(context.Context, source.Batch[int]) error { return nil }),
		Checkpointer: &pollertest.Checkpointer{},
		Interval:     100 * time.Millisecond,
		Logger:       slog.New(slog.DiscardHandler),
	}
	page := &status.Page{Version: version}
	page.Attach(&p.Hooks, p.Status)
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("DBTOFILE_LISTEN"), page)) }()
	if _, err := sdnotify.Start(context.Background(), p.Status); err != nil {
		log.Fatal(err)
	}
	log.Fatal(p.Run(context.Background()))
}
