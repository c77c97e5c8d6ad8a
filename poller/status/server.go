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
//   - It keeps at most 32 connections open. To accept another one it closes the
//     one that has been idle longest, so that idle clients neither use up the
//     file descriptors of the program nor keep a probe out.
//   - A client that is slow to send a request or to read the answer is cut off
//     after 10 seconds.
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
	c := &connections{busy: map[net.Conn]bool{}}
	return &http.Server{
		Handler:           checkHost(h, names),
		ConnState:         c.track,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
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

// connections limits the connections of a server.
type connections struct {
	mu   sync.Mutex
	idle []net.Conn        // without a request, the one that has been so longest first
	busy map[net.Conn]bool // with a request in progress; the server's timeouts end it
}

// track is the server's ConnState hook.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, conn)
	c.idle = slices.DeleteFunc(c.idle, func(other net.Conn) bool { return other == conn })
	switch state {
	case http.StateNew, http.StateIdle:
		c.idle = append(c.idle, conn)
	case http.StateActive:
		c.busy[conn] = true
	}
	if len(c.idle) == 0 || len(c.idle)+len(c.busy) <= maxConnections {
		return
	}
	_ = c.idle[0].Close()
	c.idle = c.idle[1:]
}
