package status

import (
	"crypto/tls"
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
//   - It keeps at most 32 connections open, and one that waits for room. To make
//     room it closes the one that has been idle longest, or the next one that has
//     had its answer, or one whose answer takes longer than a second, so that
//     clients neither use up the file descriptors of the program nor keep a probe
//     out. It speaks HTTP/1 only, so that a connection has one request at a time.
//   - Connections are accepted in order. While clients connect again all the time,
//     every 32 of them that come before a probe delay it by 10 ms if they send no
//     request, by 25 ms with TLS, and by a second if they do not read a long answer.
//     Only a firewall or a proxy prevents that. A client whose request takes longer
//     than these 10 or 25 ms to arrive is then cut off, and has to try again.
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
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           readOnly(checkHost(h, names)),
		Protocols:         &protocols,
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
	requestGrace = 10 * time.Millisecond // without a request
	secureGrace  = 25 * time.Millisecond // without a request, with TLS: a handshake takes a round trip
	answerGrace  = time.Second           // with a request in progress
)

// connections limits the connections of a server.
type connections struct {
	mu      sync.Mutex
	open    []connection
	waiting int           // accepted connections that wait for room
	changed chan struct{} // receives a value after a change
}

type connection struct {
	net.Conn
	expires time.Time // when it may be closed for another one
}

// track is the server's ConnState hook. For a new connection it is called by the
// goroutine that accepts, which waits here until there is room.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	if state == http.StateNew {
		c.admit(conn)
	} else {
		c.update(conn, state)
	}
}

// admit adds a connection when there is room. If the limit is reached it closes the
// connection that expires first, once it has expired.
func (c *connections) admit(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting++
	for len(c.open) >= maxConnections {
		first := slices.MinFunc(c.open, func(a, b connection) int { return a.expires.Compare(b.expires) })
		if wait := time.Until(first.expires); wait > 0 {
			c.mu.Unlock()
			select {
			case <-c.changed:
			case <-time.After(wait):
			}
			c.mu.Lock()
			continue
		}
		terminate(first.Conn)
		c.open = slices.DeleteFunc(c.open, func(other connection) bool { return other == first })
	}
	c.waiting--
	grace := requestGrace
	if _, secure := conn.(*tls.Conn); secure {
		grace = secureGrace
	}
	c.open = append(c.open, connection{conn, time.Now().Add(grace)})
}

// update records a new state of an open connection. One that has had its answer
// makes room for one that waits: otherwise its next request would let it stay again.
func (c *connections) update(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.open, func(other connection) bool { return other.Conn == conn })
	switch {
	case i < 0: // closed by admit
		return
	case state == http.StateActive:
		c.open[i].expires = time.Now().Add(answerGrace)
	case state == http.StateIdle && c.waiting == 0:
		c.open[i].expires = time.Now()
	default:
		if state == http.StateIdle {
			terminate(conn)
		}
		c.open = slices.Delete(c.open, i, i+1)
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// terminate closes a connection. Its descriptor is free afterwards: the goodbye of
// TLS, which can take seconds, is left out.
func terminate(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.Close()
}
