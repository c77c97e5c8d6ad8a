// Package sdnotify tells systemd how pipelines do, so that it can restart what
// is stuck, and nothing else. For a unit of Type=notify with WatchdogSec:
//
//	stop, err := sdnotify.Start(ctx, p.Status)
//	if err != nil {
//		return err
//	}
//	defer stop()
//	return p.Run(ctx)
//
// # What systemd is told
//
// READY=1 when every pipeline has loaded its checkpoint. The database is not asked: one
// that is down is waited for, and a restart would not bring it up. Until then the
// start's timeout is extended, as long as every pipeline runs and is not Overdue, so
// that a checkpoint store that is slow or down makes no restart loop either.
//
// WATCHDOG=1 at half of WatchdogSec, while every pipeline runs and is not Overdue: also
// while it backs off or is held back, so an outage restarts nothing. A step or a loop
// that hangs stops it, and systemd restarts the service.
//
// STATUS with what each pipeline is about, its rows and its lag, for systemctl status:
// when it has changed, and at most every five seconds. It holds no row values and no
// error texts.
//
// STOPPING=1 when the context ends. From then on TimeoutStopSec is what limits the time
// that is left, and the watchdog is kept quiet until stop is called.
//
// # When Run returns
//
// A pipeline that ran and has ended while the context has not is a pipeline that stands
// still: the watchdog is not fed any more. So let the process end when Run
// returns an error, or run again, within WatchdogSec. The same holds for Drain: a
// program that Drains and exits is right, but one that Drains several pipelines of
// which some end long before others is a job, not a service, and wants no WatchdogSec.
//
// # The environment
//
// NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read and left as they are, so
// child processes inherit them. NotifyAccess=main, the default of Type=notify, has
// systemd ignore what children say. Without NOTIFY_SOCKET, as on a terminal or another
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
	loadEvery   = 20 * time.Millisecond // to look whether the checkpoints are loaded
	extendEvery = 10 * time.Second
	extendBy    = 30 * time.Second // three times extendEvery: one that is lost does no harm
	statusEvery = 5 * time.Second
	sendLimit   = 200 * time.Millisecond
)

// Start tells systemd about pipelines, given by their Status methods, until stop is
// called. The end of ctx, which has to be that of their Run, tells it that the service
// stops. It is an error if systemd's variables make no sense. A socket that
// is full or gone later is none: what could not be said is said again.
//
// Call stop when the pipelines have ended. It returns when the last message is sent,
// within a second, and may be called again.
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

// watchdog returns WatchdogSec of the unit, or 0 if no watchdog waits for this process.
func watchdog() (time.Duration, error) {
	text := os.Getenv("WATCHDOG_USEC")
	if pid := os.Getenv("WATCHDOG_PID"); text == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	µs, err := strconv.ParseInt(text, 10, 64)
	if d := time.Duration(µs) * time.Microsecond; err == nil && d > 0 && d/time.Microsecond == time.Duration(µs) {
		return d, nil
	}
	return 0, fmt.Errorf("sdnotify: WATCHDOG_USEC=%s is no number of microseconds: leave it to systemd to set it", text)
}

// send connects anew for each message, so that a socket that was gone may come back.
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

// notifier sends what is due. All but start belongs to its goroutine.
type notifier struct {
	pipelines []func() poller.Status
	watchdog  time.Duration
	send      func(string) error

	loaded   []bool    // of each pipeline: its checkpoint has been seen loaded
	extended time.Time // when more time was last asked for
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
			load.Reset(loadEvery) // until it is heard
			status.Stop()
			n.stopping()
		case <-end:
			if ctx.Err() != nil { // it may be that both come at once
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
				next /= 8 // the other half of the time is to get well, or through
			}
			feed.Reset(next)
		case <-status.C:
			n.status("")
		}
	}
}

// load says READY=1 once every checkpoint is loaded, and reports whether it has. Until
// then it asks for more time.
func (n *notifier) load() bool {
	all := true
	for i, pipeline := range n.pipelines {
		if !n.loaded[i] {
			s := pipeline()
			// A short Drain may be over by now, but it has polled.
			n.loaded[i] = !s.Started.IsZero() || !s.LastPoll.IsZero()
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

// status says STATUS, after what else there is to say, and reports whether it was sent.
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

// stopping says STOPPING=1 once, and reports whether it was sent.
func (n *notifier) stopping() bool {
	n.stopped = n.stopped || n.send("STOPPING=1\nSTATUS=stopping: "+words(n.pipelines, time.Now())) == nil
	return n.stopped
}

// well reports whether every pipeline runs and gets on, or waits for what may come.
func (n *notifier) well() bool {
	for _, pipeline := range n.pipelines {
		if s := pipeline(); s.State == poller.Stopped || s.Overdue {
			return false
		}
	}
	return true
}
