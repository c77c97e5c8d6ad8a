//go:build linux

package faults

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy is a TCP proxy that injects faults. It can count bytes, which the proxies of other
// packages do not.
type proxy struct {
	address string

	mu       sync.Mutex
	target   string
	listener net.Listener // nil while connections are refused
	conns    map[net.Conn]bool
	links    int
	rule     rule
	slow     bool // one byte at a time
}

// rule decides how many bytes of some data pass, and whether the connection is reset then.
// What does not pass is lost. Link identifies the connection, and up is the direction to the server.
type rule func(link int, up bool, data []byte) (pass int, reset bool)

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{address: "127.0.0.1:0", target: target, conns: map[net.Conn]bool{}}
	p.accept(t)
	t.Cleanup(p.refuse)
	return p
}

// accept begins to listen, at the start or after refuse.
func (p *proxy) accept(t testing.TB) {
	var listener net.Listener
	require.Eventually(t, func() (ok bool) { // another process may have the port for a moment
		var err error
		listener, err = net.Listen("tcp", p.address)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	p.mu.Lock()
	p.address, p.listener = listener.Addr().String(), listener
	p.mu.Unlock()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
}

// refuse refuses new connections, and resets those that exist.
func (p *proxy) refuse() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.resetAll()
}

// resetAll resets all connections.
func (p *proxy) resetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		abort(c)
	}
}

// abort resets a connection instead of closing it.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// set sets the rule; nil lets everything pass.
func (p *proxy) set(r rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = r
}

func (p *proxy) setSlow(slow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = slow
}

// redirect sends new connections elsewhere.
func (p *proxy) redirect(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
	p.resetAll()
}

func (p *proxy) serve(client net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		abort(client)
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.links++
	link := p.links
	p.mu.Unlock()
	go p.pipe(link, client, server, true)
	p.pipe(link, server, client, false)
}

// pipe copies in one direction until either side ends, or a rule resets the connection.
func (p *proxy) pipe(link int, from, to net.Conn, up bool) {
	defer func() {
		p.mu.Lock()
		delete(p.conns, from)
		p.mu.Unlock()
	}()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !p.forward(link, buffer[:n], to, up) {
			abort(from)
			abort(to)
			return
		}
		if err != nil {
			from.Close()
			to.Close()
			return
		}
	}
}

func (p *proxy) forward(link int, data []byte, to net.Conn, up bool) bool {
	p.mu.Lock()
	pass, reset := len(data), false
	if p.rule != nil {
		pass, reset = p.rule(link, up, data)
	}
	step := max(1, pass)
	if p.slow {
		step = 1
	}
	p.mu.Unlock()
	for at := 0; at < pass; at += step {
		if _, err := to.Write(data[at:min(at+step, pass)]); err != nil {
			return false
		}
	}
	return !reset
}

// lose loses everything in both directions, as a black hole.
func lose(int, bool, []byte) (int, bool) { return 0, false }

// cut resets each connection as soon as it carries data.
func cut(int, bool, []byte) (int, bool) { return 0, true }

// cutAfter lets n bytes pass, in both directions together, resets the connection that
// carries the next one, and then lets everything pass. Passed is called then.
func cutAfter(n int, passed func()) rule {
	done := false
	return func(_ int, _ bool, data []byte) (int, bool) {
		if done || len(data) <= n {
			n -= len(data)
			return len(data), false
		}
		done = true
		passed()
		return n, true
	}
}
