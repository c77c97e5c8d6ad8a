package status

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxConnections leaves half of 64 file descriptors to the pipelines.
const maxConnections = 32

// NewServer returns a server for a [Page], or for a mux that also serves other
// things, such as metrics. It protects the pipelines and their data:
//
//   - It answers GET and HEAD only, and does not wait for the body of a request.
//   - It keeps at most 32 connections open. To accept another one it closes the
//     one that has been idle longest, so that idle clients neither use up the
//     file descriptors of the program nor keep a probe out.
//   - A client that is slow to send a request is cut off after 5 seconds, and one
//     that is slow to read the answer after 10.
//   - On a loopback address it refuses requests for foreign host names, so that
//     no web site can read the page through the browser of somebody on this
//     machine (DNS rebinding). IP addresses, localhost, the name of this machine
//     and the given names are accepted. A proxy on this machine that passes the
//     client's Host header on needs its name given here.
//
// Set Addr, TLSConfig, ErrorLog and so on as needed before serving. A ConnState
// hook must call the one that is set.
func NewServer(h http.Handler, names ...string) *http.Server {
	names = append([]string{"localhost"}, names...)
	if own, err := os.Hostname(); err == nil {
		short, _, _ := strings.Cut(own, ".")
		names = append(names, own, short)
	}
	c := &connections{busy: map[net.Conn]bool{}, changed: make(chan struct{}, 1)}
	return &http.Server{
		Handler:           readOnly(checkHost(h, names)),
		ConnState:         c.track,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// readOnly answers GET and HEAD only. It does not wait for the body that a request
// announces: it closes the connection.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // or the server reads the body after the answer
		}
		if !refused(w, r) {
			h.ServeHTTP(w, r)
		}
	})
}

// refused answers a request whose method is neither GET nor HEAD.
func refused(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	w.Header().Set("Allow", "GET, HEAD")
	w.Header().Set("Connection", "close")
	http.Error(w, "only GET and HEAD are allowed", http.StatusMethodNotAllowed)
	return true
}

// checkHost refuses requests to a loopback address for any other host name. A
// browser sends the name in the address bar, which a DNS rebinding attack
// cannot change to an IP address or to one of the names.
func checkHost(h http.Handler, names []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if addr != nil && addr.IP.IsLoopback() && !accepted(r.Host, names) {
			http.Error(w, fmt.Sprintf("host %q refused: use localhost or an IP address; in a proxy, set the Host header to localhost", r.Host), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func accepted(host string, names []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if _, err := netip.ParseAddr(host); err == nil || host == "" { // HTTP/1.0 needs no host
		return true
	}
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, host) })
}

// requestGrace is how long a connection is kept for its first or next request. Then
// it may be closed for another one. Without it, clients that connect again at once
// would push out a connection whose request has arrived but has not been read yet.
const requestGrace = 100 * time.Millisecond

// connections limits the connections of a server.
type connections struct {
	mu      sync.Mutex
	idle    []idleConn        // without a request, the one that has been so longest first
	busy    map[net.Conn]bool // with a request in progress; the server's timeouts end it
	changed chan struct{}     // receives a value after a change
}

type idleConn struct {
	net.Conn
	since time.Time
}

// track is the server's ConnState hook. For a new connection it is called by the
// goroutine that accepts, which waits here until there is room.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	for state == http.StateNew {
		wait := c.makeRoom()
		if wait == 0 {
			break
		}
		select {
		case <-c.changed:
		case <-time.After(wait):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, conn)
	c.idle = slices.DeleteFunc(c.idle, func(other idleConn) bool { return other.Conn == conn })
	switch state {
	case http.StateNew, http.StateIdle:
		c.idle = append(c.idle, idleConn{conn, time.Now()})
	case http.StateActive:
		c.busy[conn] = true
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// makeRoom closes the connection that has been idle longest if the limit is reached.
// It returns how long to wait before it can do that, or 0.
func (c *connections) makeRoom() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.idle)+len(c.busy) < maxConnections:
		return 0
	case len(c.idle) == 0:
		return time.Minute // the server's timeouts end a request before
	}
	oldest := c.idle[0]
	if wait := requestGrace - time.Since(oldest.since); wait > 0 {
		return wait
	}
	c.idle = c.idle[1:]
	go oldest.Close() // with TLS it can take seconds
	return 0
}
