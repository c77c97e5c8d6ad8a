// Package sdnotify reports the state of pipelines to systemd, so that systemd restarts
// a process that hangs, and only then. For a unit with Type=notify and WatchdogSec:
//
//	stop, err := sdnotify.Start(ctx, p.Status)
//	if err != nil {
//		return err
//	}
//	defer stop()
//	return p.Run(ctx)
//
// # What is sent
//
// READY=1 when every pipeline has loaded its checkpoint, stands by (see poller.Lease), or
// has failed in a poller.Group that will restart it, so that the others are ready. The database need not answer:
// a restart would not end its outage, so the pipeline waits for it. Before READY=1, the
// start timeout is extended while every pipeline runs and is not Overdue, so a slow or
// unreachable checkpoint store does not cause a restart loop.
//
// WATCHDOG=1 twice per WatchdogSec, while every pipeline runs and is not Overdue. That
// includes pipelines in backoff and pipelines that are held back, so an outage restarts
// nothing. It stops when a step or the loop hangs, and systemd restarts the service.
//
// STATUS when it changes, at most every five seconds: the state, the rows and the lag of
// each pipeline, for systemctl status. It contains no row values and no error texts.
//
// STOPPING=1 when the context ends. From then on TimeoutStopSec limits the remaining
// time, and WATCHDOG=1 is sent until stop is called.
//
// # When Run returns
//
// While a pipeline is stopped because its Run returned an error, WATCHDOG=1 is not sent.
// Exit then, or call Run again, within WatchdogSec. A poller.Group calls it again: its
// pipelines are not stopped during the wait. A pipeline that is Done needs nobody.
//
// # The environment
//
// NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read and not changed, so child
// processes inherit them. NotifyAccess=main, the default of Type=notify, makes systemd
// ignore messages from children. Without NOTIFY_SOCKET, as on a terminal or on another
// system than Linux, Start does nothing.
package sdnotify

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
)

const (
	loadEvery   = 20 * time.Millisecond // how often the checkpoints are checked
	extendEvery = 10 * time.Second
	extendBy    = 30 * time.Second // three times extendEvery: one may be lost
	statusEvery = 5 * time.Second
	sendLimit   = 200 * time.Millisecond
)

// Start reports pipelines, given by their Status methods, to systemd until stop is
// called. ctx must be the context of their Run: when it ends, systemd is told that the
// service stops. Start returns an error if systemd's variables are not valid. A socket
// that is full or missing later is not an error: the message is sent again.
//
// Call stop when the pipelines have ended. It returns within a second, when the last
// message has been sent, and may be called again.
func Start(ctx context.Context, pipelines ...func() poller.Status) (stop func(), err error) {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return func() {}, nil
	}
	if address[0] != '/' && address[0] != '@' {
		return nil, fmt.Errorf("sdnotify: NOTIFY_SOCKET=%s is neither a path nor an abstract socket: leave it to systemd to set it", address)
	}
	watchdog, err := watchdog()
	if err != nil {
		return nil, err
	}
	n := &notifier{pipelines: pipelines, watchdog: watchdog, loaded: make([]bool, len(pipelines)), send: func(text string) error {
		return send(address, text)
	}}
	return n.start(ctx), nil
}

// watchdog returns the unit's WatchdogSec, or 0 if this process is not watched.
func watchdog() (time.Duration, error) {
	text := os.Getenv("WATCHDOG_USEC")
	if pid := os.Getenv("WATCHDOG_PID"); text == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	µs, err := strconv.ParseInt(text, 10, 64)
	if d := time.Duration(µs) * time.Microsecond; err == nil && d > 0 && d/time.Microsecond == time.Duration(µs) {
		return d, nil
	}
	return 0, fmt.Errorf("sdnotify: WATCHDOG_USEC=%s is not a number of microseconds: leave it to systemd", text)
}

// send connects again for each message, because the socket may be recreated.
func send(address, text string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(text))
	return err
}

// notifier sends the messages that are due. Its fields belong to its goroutine, except
// in start.
type notifier struct {
	pipelines []func() poller.Status
	watchdog  time.Duration
	send      func(string) error

	loaded   []bool    // per pipeline: its checkpoint is loaded
	extended time.Time // when the start timeout was last extended
	said     string    // the last STATUS
	stopped  bool      // STOPPING=1 was sent
}

func (n *notifier) start(ctx context.Context) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		n.run(ctx, end)
	}()
	return sync.OnceFunc(func() { close(end); <-ended })
}

func (n *notifier) run(ctx context.Context, end <-chan struct{}) {
	var feed *time.Ticker
	var hungry <-chan time.Time
	if n.watchdog > 0 {
		feed = time.NewTicker(n.watchdog / 2)
		defer feed.Stop()
		hungry = feed.C
	}
	load, status := time.NewTicker(loadEvery), time.NewTicker(statusEvery)
	defer load.Stop()
	defer status.Stop()

	done, stopping := ctx.Done(), false
	for {
		select {
		case <-done:
			done, stopping = nil, true
			load.Reset(loadEvery) // until it is sent
			status.Stop()
			n.stopping()
		case <-end:
			if ctx.Err() != nil { // both may be ready at once
				n.stopping()
			}
			return
		case <-load.C:
			if stopping && n.stopping() || !stopping && n.load() {
				load.Stop()
			}
		case <-hungry:
			next := n.watchdog / 2
			if !stopping && !n.well() || n.send("WATCHDOG=1") != nil {
				next /= 8 // the other half of the time is for recovering, or for sending
			}
			feed.Reset(next)
		case <-status.C:
			n.status("")
		}
	}
}

// load sends READY=1 once every checkpoint is loaded, and reports whether it did. Until
// then it extends the start timeout.
func (n *notifier) load() bool {
	all := true
	for i, pipeline := range n.pipelines {
		if !n.loaded[i] {
			s := pipeline()
			// A short Drain may have ended already, but it has polled.
			n.loaded[i] = !s.Started.IsZero() || !s.LastPoll.IsZero() || s.State == poller.Standby || s.State == poller.Restarting
		}
		all = all && n.loaded[i]
	}
	switch now := time.Now(); {
	case all:
		return n.status("READY=1\n")
	case now.Sub(n.extended) >= extendEvery && n.well() && n.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds())) == nil:
		n.extended = now
	}
	return false
}

// status sends STATUS and the other fields, and reports whether they were sent.
func (n *notifier) status(also string) bool {
	text := words(n.pipelines, time.Now())
	if also == "" && text == n.said {
		return true
	}
	if n.send(also+"STATUS="+text) != nil {
		return false
	}
	n.said = text
	return true
}

// stopping sends STOPPING=1 once, and reports whether it was sent.
func (n *notifier) stopping() bool {
	n.stopped = n.stopped || n.send("STOPPING=1\nSTATUS=stopping: "+words(n.pipelines, time.Now())) == nil
	return n.stopped
}

// well reports whether every pipeline runs and makes progress, waits for something or is done.
func (n *notifier) well() bool {
	for _, pipeline := range n.pipelines {
		if s := pipeline(); s.State == poller.Stopped && !s.Done || s.Overdue {
			return false
		}
	}
	return true
}
