package status_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/status"
)

// pipes is a listener without a network, which a bubble cannot have.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, open := <-p; open {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// connect returns a client's end of a connection, and whether the server closed it.
func (p pipes) connect() (client net.Conn, closed func() bool) {
	client, server := net.Pipe()
	p <- server
	end := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, client)
		close(end)
	}()
	return client, func() bool {
		synctest.Wait()
		select {
		case <-end:
			return true
		default:
			return false
		}
	}
}

func ask(t *testing.T, client net.Conn) {
	t.Helper()
	_, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	synctest.Wait()
}

func TestTheConnectionThatIsIdleLongestIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, answer := make(pipes), make(chan bool)
		server := status.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-answer }))
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
		var clients []net.Conn
		var closed []func() bool
		connect := func() {
			client, isClosed := listener.connect()
			clients, closed = append(clients, client), append(closed, isClosed)
		}
		open := func() (n int) {
			for _, isClosed := range closed {
				if !isClosed() {
					n++
				}
			}
			return n
		}
		for range 200 {
			connect()
			synctest.Wait()
		}
		assert.Equal(t, 32, open())
		assert.True(t, closed[167]())
		assert.False(t, closed[168]())

		ask(t, clients[168]) // busy now
		ask(t, clients[169])
		answer <- true // for one of the two, which is idle again, but not the longest
		connect()
		connect()
		assert.Equal(t, 32, open())
		assert.False(t, closed[168]())
		assert.False(t, closed[169]())
		assert.True(t, closed[170]())
		assert.True(t, closed[171]())

		answer <- true
		for i, isClosed := range closed {
			if !isClosed() {
				ask(t, clients[i]) // all 32 are busy in the end
			}
		}
		connect()
		assert.True(t, closed[len(closed)-1](), "no connection is idle, so the new one is closed")
		assert.Equal(t, 32, open())
		close(answer)
		time.Sleep(2 * time.Minute)
		assert.Zero(t, open(), "idle connections time out")
	})
}

func TestForeignHostsAreRefusedOnLoopback(t *testing.T) {
	own, err := os.Hostname()
	require.NoError(t, err)
	const yes, no = http.StatusNotFound, http.StatusForbidden
	server := status.NewServer(http.NotFoundHandler(), "ops.example")
	code := func(local net.IP, host string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		r = r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: local, Port: 9464}))
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, r)
		return w
	}
	for host, want := range map[string]int{
		"": yes, "localhost": yes, "localhost:9464": yes, "LOCALHOST.:9464": yes, "127.0.0.1:9464": yes, "[::1]:9464": yes, "[::1]": yes, "::1": yes,
		"10.1.2.3": yes, own: yes, own + ":9464": yes, "ops.example": yes, "Ops.Example:443": yes,
		"evil.example": no, "evil.example:9464": no, "localhost.evil.example": no, "127.0.0.1.evil.example": no, "x.ops.example": no, "evil": no,
	} {
		for _, loopback := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 1, 1), net.IPv6loopback} {
			assert.Equal(t, want, code(loopback, host).Code, "%s at %s", host, loopback)
		}
		assert.Equal(t, yes, code(net.IPv4(10, 0, 0, 7), host).Code, "%s elsewhere", host)
	}
	assert.Equal(t, "host \"evil.example\" refused: use localhost or an IP address; in a proxy, set the Host header to localhost\n",
		code(net.IPv6loopback, "evil.example").Body.String())
}

func TestTheHostIsCheckedOnARealConnection(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config = status.NewServer(&status.Page{})
	server.Start()
	defer server.Close()
	for host, want := range map[string]int{"": http.StatusOK, "evil.example": http.StatusForbidden} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/livez", nil)
		require.NoError(t, err)
		r.Host = host
		answer, err := server.Client().Do(r)
		require.NoError(t, err)
		assert.Equal(t, want, answer.StatusCode, host)
		assert.NoError(t, answer.Body.Close())
	}
}
