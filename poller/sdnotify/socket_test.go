//go:build unix

package sdnotify_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/sdnotify"
)

// ready is a pipeline that runs and has loaded its checkpoint.
func ready() poller.Status {
	return poller.Status{Name: "orders", State: poller.Idle, Started: time.Now()}
}

func listen(t *testing.T, address string) *net.UnixConn {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func path(t *testing.T) string {
	dir, err := os.MkdirTemp("", "sd") // t.TempDir may be longer than a socket's name can be
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "notify")
}

func receive(t *testing.T, conn *net.UnixConn) string {
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	b := make([]byte, 8192)
	n, err := conn.Read(b)
	require.NoError(t, err)
	return string(b[:n])
}

func environment(t *testing.T, socket, usec, pid string) {
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", usec)
	t.Setenv("WATCHDOG_PID", pid)
}

func TestSockets(t *testing.T) {
	addresses := []string{path(t)}
	if runtime.GOOS == "linux" {
		addresses = append(addresses, fmt.Sprintf("@sdnotify-test-%d", os.Getpid()))
	}
	for _, address := range addresses {
		conn := listen(t, address)
		environment(t, address, "20000", strconv.Itoa(os.Getpid()))
		ctx, cancel := context.WithCancel(t.Context())
		stop, err := sdnotify.Start(ctx, ready)
		require.NoError(t, err)
		seen := map[string]int{}
		for seen["WATCHDOG=1"] < 3 || seen["READY=1\nSTATUS=orders: up to date, 0 rows"] == 0 {
			seen[receive(t, conn)]++
		}
		cancel()
		for seen["STOPPING=1\nSTATUS=stopping: orders: up to date, 0 rows"] == 0 {
			seen[receive(t, conn)]++
		}
		stop()
		assert.Equal(t, address, os.Getenv("NOTIFY_SOCKET"))
	}
}

func TestAnotherProcessesWatchdogIsNotFed(t *testing.T) {
	address := path(t)
	conn := listen(t, address)
	environment(t, address, "20000", "1")
	ctx, cancel := context.WithCancel(t.Context())
	stop, err := sdnotify.Start(ctx, ready)
	require.NoError(t, err)
	assert.Contains(t, receive(t, conn), "READY=1")
	cancel()
	assert.Contains(t, receive(t, conn), "STOPPING=1", "and no WATCHDOG=1 before it")
	stop()
}

func TestNoSystemd(t *testing.T) {
	environment(t, "", "1000", "")
	before := runtime.NumGoroutine()
	stop, err := sdnotify.Start(t.Context(), func() poller.Status { panic("nobody wants to know") })
	require.NoError(t, err)
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	stop()
	stop()
}

func TestVariablesThatMakeNoSense(t *testing.T) {
	for _, c := range [][2]string{{"relative", ""}, {"vsock:2:3", ""}, {"/s", "soon"}, {"/s", "-1"}, {"/s", "0"}, {"/s", "9223372036854775807"}} {
		environment(t, c[0], c[1], "")
		_, err := sdnotify.Start(t.Context(), ready)
		require.ErrorContains(t, err, "leave it to systemd", "%v", c)
	}
}

// A systemd that does not read its socket, or whose socket is gone, holds up nothing.
func TestAFullOrGoneSocket(t *testing.T) {
	full := path(t)
	conn := listen(t, full)
	filler, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: full, Net: "unixgram"})
	require.NoError(t, err)
	defer filler.Close()
	for err = nil; err == nil; {
		require.NoError(t, filler.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
		_, err = filler.Write(make([]byte, 1024))
	}
	for _, address := range []string{full, path(t)} {
		environment(t, address, "1000", "")
		ctx, cancel := context.WithCancel(t.Context())
		asked := make(chan struct{}, 1)
		stop, err := sdnotify.Start(ctx, func() poller.Status {
			select {
			case asked <- struct{}{}:
			default:
			}
			return ready()
		})
		require.NoError(t, err)
		<-asked
		cancel()
		ended := make(chan struct{})
		go func() { stop(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatal("stop does not return")
		}
	}
	// One that comes back is told.
	gone := path(t)
	environment(t, gone, "", "")
	stop, err := sdnotify.Start(t.Context(), ready)
	require.NoError(t, err)
	defer stop()
	assert.Contains(t, receive(t, listen(t, gone)), "READY=1")
	conn.Close()
}
