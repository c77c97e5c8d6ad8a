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
//     While more clients than that connect again and again, a request must arrive
//     within 20 ms, and every 32 clients ahead of a probe delay it by up to 20 ms,
//     or by a second if they do not read long answers: use a firewall or a proxy.
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
	own, _ := os.Hostname() // empty if unknown, which is accepted anyway
	short, _, _ := strings.Cut(own, ".")
	names = append([]string{"localhost", own, short}, names...)
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &http.Server{
		Handler:           readOnly(checkHost(h, names)),
		Protocols:         &http1,
		ConnState:         new(connections).track,
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
	requestGrace = 20 * time.Millisecond // without a request, including a TLS handshake
	answerGrace  = time.Second           // with a request in progress
)

// connections limits the connections of a server.
type connections struct {
	mu      sync.Mutex
	open    []connection
	waiting int // accepted connections that wait for room
}

type connection struct {
	net.Conn
	expires time.Time // when it may be closed for another one
}

// track is the server's ConnState hook. For a new connection it is called by the
// goroutine that accepts, which waits here until there is room.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.open, func(other connection) bool { return other.Conn == conn })
	switch {
	case state == http.StateNew:
		c.makeRoom()
		c.open = append(c.open, connection{conn, time.Now().Add(requestGrace)})
	case i < 0: // closed for another one
	case state == http.StateActive:
		c.open[i].expires = time.Now().Add(answerGrace)
	case state == http.StateIdle && c.waiting == 0:
		c.open[i].expires = time.Now()
	case state == http.StateIdle: // or its next request would let it stay again
		c.terminate(conn)
	default:
		c.open = slices.Delete(c.open, i, i+1)
	}
}

// makeRoom waits until the limit is not reached, or the connection that expires
// first has expired, and closes that one.
func (c *connections) makeRoom() {
	c.waiting++
	for len(c.open) >= maxConnections {
		first := slices.MinFunc(c.open, func(a, b connection) int { return a.expires.Compare(b.expires) })
		if time.Until(first.expires) <= 0 {
			c.terminate(first.Conn)
			break
		}
		c.mu.Unlock()
		time.Sleep(time.Millisecond)
		c.mu.Lock()
	}
	c.waiting--
}

// terminate closes a connection. Its descriptor is free afterwards: the goodbye of
// TLS, which can take seconds, is left out.
func (c *connections) terminate(conn net.Conn) {
	c.open = slices.DeleteFunc(c.open, func(other connection) bool { return other.Conn == conn })
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.Close()
}
