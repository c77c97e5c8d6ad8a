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
//     one that has been idle longest, or one whose answer takes longer than a
//     second, so that clients neither use up the file descriptors of the program
//     nor keep a probe out.
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
	c := &connections{changed: make(chan struct{}, 1)}
	return &http.Server{
		Handler:           readOnly(checkHost(h, names)),
		ConnState:         c.track,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second, // a handler around this one may wait for a body
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

// A connection may be closed for another one after these times. Without requestGrace,
// clients that connect again at once would push out a connection whose request has
// arrived but has not been read yet. answerGrace is far longer than an answer takes.
const (
	requestGrace = 100 * time.Millisecond // without a request
	answerGrace  = time.Second            // with a request in progress
)

// connections limits the connections of a server.
type connections struct {
	mu      sync.Mutex
	open    []connection
	changed chan struct{} // receives a value after a change
}

type connection struct {
	net.Conn
	expires time.Time // when it may be closed for another one
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
	c.open = slices.DeleteFunc(c.open, func(other connection) bool { return other.Conn == conn })
	switch state {
	case http.StateNew, http.StateIdle:
		c.open = append(c.open, connection{conn, time.Now().Add(requestGrace)})
	case http.StateActive:
		c.open = append(c.open, connection{conn, time.Now().Add(answerGrace)})
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// makeRoom closes the connection that has expired first if the limit is reached. It
// returns how long to wait before it can do that, or 0.
func (c *connections) makeRoom() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) < maxConnections {
		return 0
	}
	first := slices.MinFunc(c.open, func(a, b connection) int { return a.expires.Compare(b.expires) })
	if wait := time.Until(first.expires); wait > 0 {
		return wait
	}
	c.open = slices.DeleteFunc(c.open, func(other connection) bool { return other == first })
	go first.Close() // with TLS it can take seconds
	return 0
}
