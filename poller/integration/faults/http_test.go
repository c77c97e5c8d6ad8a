//go:build linux

package faults

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// httpFaults are what clients do to the pages of a copy. None of it stops the copy.
func httpFaults() []fault {
	list := []fault{
		{name: "slow clients", how: "200 clients that send a byte of their request every 100 ms, and read nothing", begin: func(w *world) func() {
			return clients(w, 200, func(c net.Conn) {
				for _, b := range []byte("GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + strings.Repeat("x", 1000)) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					<-time.After(100 * time.Millisecond)
				}
			})
		}},
		{name: "idle clients", how: "connections that send nothing", begin: func(w *world) func() {
			return clients(w, 500, func(net.Conn) {})
		}},
		{name: "3,000 connections", how: "each asks for /status and stays open; 64 descriptors", prepare: func(w *world) {
			w.copy.wrap = []string{prlimit(w), "--nofile=64:64"}
		}, begin: func(w *world) func() {
			return clients(w, 3000, func(c net.Conn) { fmt.Fprintf(c, "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n") })
		}},
		{name: "clients that read nothing", how: "100 clients ask for /metrics 1,000 times and read no answer", begin: func(w *world) func() {
			return clients(w, 100, func(c net.Conn) {
				for range 1000 {
					if _, err := fmt.Fprintf(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
						return
					}
				}
			})
		}},
		{name: "foreign Host", how: "requests under names of other machines, as after DNS rebinding", begin: foreignHost},
		{name: "nonsense", how: "requests with long headers, bad methods, paths and lengths", begin: nonsense},
	}
	for i := range list {
		list[i].part, list[i].on, list[i].times, list[i].quiet = "HTTP", onlySQLite, 2, time.Second
	}
	return list
}

var onlySQLite = []engine{sqlite}

// clients opens connections to the pages, each of which does something, until the returned
// function closes them.
func clients(w *world, n int, do func(net.Conn)) (end func()) {
	at := w.pages()
	var conns []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", at, 10*time.Second)
		if err != nil {
			continue // the system may have refused it
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		conns = append(conns, c)
		go do(c)
	}
	require.GreaterOrEqual(w.t, len(conns), n*9/10, "the test itself needs %d descriptors (ulimit -n)", n)
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

// pages waits until the copy has logged the address of its pages.
func (w *world) pages() (address string) {
	w.eventually("it listens", func() bool {
		address = w.copy.address()
		return address != ""
	})
	return address
}

func foreignHost(w *world) func() {
	for _, host := range []string{"evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", "metadata.internal"} {
		request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.pages()+"/status", nil)
		require.NoError(w.t, err)
		request.Host = host
		answer, err := http.DefaultClient.Do(request)
		require.NoError(w.t, err)
		answer.Body.Close()
		assert.GreaterOrEqual(w.t, answer.StatusCode, 400, "Host: %s", host)
	}
	return func() {}
}

func nonsense(w *world) func() {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", "BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /status?" + strings.Repeat("a=b&", 10000) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		c, err := net.DialTimeout("tcp", w.pages(), 10*time.Second)
		require.NoError(w.t, err)
		_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, _ = c.Write([]byte(text))
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			answer.Body.Close()
			assert.True(w.t, answer.StatusCode >= 300 || strings.HasPrefix(text, "GET /status"), "%.40q: %s", text, answer.Status)
		}
		c.Close()
	}
	return func() {}
}
