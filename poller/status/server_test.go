package status_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
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

// client is a client's end of a connection. It reads all answers.
type client struct {
	net.Conn
	answers bytes.Buffer // once the server has closed the connection
	end     chan struct{}
}

func (p pipes) connect() *client {
	here, there := net.Pipe()
	p <- there
	c := &client{Conn: here, end: make(chan struct{})}
	go func() {
		_, _ = io.Copy(&c.answers, here)
		close(c.end)
	}()
	return c
}

// closed reports whether the server closed the connection.
func (c *client) closed() bool {
	synctest.Wait()
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

func (c *client) send(t *testing.T, request string) {
	t.Helper()
	_, err := io.WriteString(c, request)
	require.NoError(t, err)
	synctest.Wait()
}

const probe = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

func open(clients []*client) (n int) {
	for _, c := range clients {
		if !c.closed() {
			n++
		}
	}
	return n
}

// serve serves h until the end of the test.
func serve(t *testing.T, h http.HandlerFunc) pipes {
	listener := make(pipes)
	server := status.NewServer(h)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() { server.Close(); <-ended })
	return listener
}

func TestTheConnectionThatIsIdleLongestIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan bool)
		listener := serve(t, func(http.ResponseWriter, *http.Request) { <-answer })
		var clients []*client
		connect := func() { clients = append(clients, listener.connect()) }
		for range 200 {
			connect()
		}
		time.Sleep(time.Second)
		assert.Equal(t, 32, open(clients))
		assert.True(t, clients[167].closed())
		assert.False(t, clients[168].closed())

		clients[168].send(t, probe) // busy now
		clients[169].send(t, probe)
		answer <- true // for one of the two, which is idle again, but not the longest
		time.Sleep(time.Second)
		connect()
		connect()
		time.Sleep(time.Second)
		assert.Equal(t, 32, open(clients))
		assert.False(t, clients[168].closed())
		assert.False(t, clients[169].closed())
		assert.True(t, clients[170].closed())
		assert.True(t, clients[171].closed())

		answer <- true
		for _, c := range clients {
			if !c.closed() {
				c.send(t, probe) // all 32 are busy in the end
			}
		}
		last := listener.connect()
		sent := make(chan error, 1)
		go func() { _, err := io.WriteString(last, probe); sent <- err }()
		time.Sleep(900 * time.Millisecond)
		assert.Empty(t, sent, "no connection is idle, so the new one waits")
		assert.Equal(t, 32, open(clients))
		time.Sleep(200 * time.Millisecond)
		assert.Len(t, sent, 1, "it took the place of one whose answer took too long")
		assert.Equal(t, 31, open(clients))
		assert.False(t, last.closed())
		close(answer)
		time.Sleep(2 * time.Minute)
		assert.Zero(t, open(clients), "idle connections time out")
	})
}

// 32 clients have sent their next request already, which does not let them stay.
func TestAConnectionThatHasHadItsAnswerMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan bool)
		listener := serve(t, func(http.ResponseWriter, *http.Request) { <-answer })
		var clients []*client
		for range 32 {
			c := listener.connect()
			c.send(t, probe+probe)
			clients = append(clients, c)
		}
		last := listener.connect()
		sent := make(chan error, 1)
		go func() { _, err := io.WriteString(last, probe); sent <- err }()
		time.Sleep(500 * time.Millisecond)
		assert.Empty(t, sent)
		answer <- true
		time.Sleep(10 * time.Millisecond)
		assert.Len(t, sent, 1)
		assert.Equal(t, 31, open(clients))
		close(answer)
	})
}

// counting counts the connections that are accepted and whose Close has not returned.
type counting struct {
	net.Listener
	open, most atomic.Int64
}

type counted struct {
	net.Conn
	closed func()
}

func (l *counting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.most.Store(max(l.most.Load(), l.open.Add(1)))
	return &counted{conn, sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

func (c *counted) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

// crowds are clients that connect again as soon as they are cut off. visit uses a
// connection until then.
var crowds = map[string]struct {
	clients int
	secure  bool
	visit   func(net.Conn)
}{
	"send nothing": {1000, false, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }},
	"ask 25 times a second": {32, false, func(conn net.Conn) {
		answers := bufio.NewReader(conn)
		for {
			time.Sleep(40 * time.Millisecond)
			if _, err := io.WriteString(conn, probe); err != nil {
				return
			}
			answer, err := http.ReadResponse(answers, nil)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, answer.Body)
		}
	}},
	"send nothing after the TLS handshake": {100, true, func(conn net.Conn) {
		_, _ = io.Copy(io.Discard, tls.Client(conn, &tls.Config{InsecureSkipVerify: true}))
	}},
	"do not complete the TLS handshake": {200, true, func(conn net.Conn) {
		_, _ = conn.Write([]byte{22, 3, 1, 2, 0})
		_, _ = io.Copy(io.Discard, conn)
	}},
	"do not read after the TLS handshake": {100, true, func(conn net.Conn) {
		_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake()
		_, _ = io.CopyN(io.Discard, conn, 1) // of a session ticket, so that the server ends its handshake
		time.Sleep(time.Minute)
	}},
}

func TestAProbeGetsThroughACrowd(t *testing.T) {
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	for name, crowd := range crowds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				queue := make(pipes)
				listener := &counting{Listener: queue}
				server := status.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "live") }))
				server.ErrorLog = log.New(io.Discard, "", 0)
				var served sync.WaitGroup
				served.Go(func() {
					if crowd.secure {
						_ = server.Serve(tls.NewListener(listener, certificate.TLS))
					} else {
						_ = server.Serve(listener)
					}
				})
				over, end := context.WithCancel(t.Context())
				var clients sync.WaitGroup
				for range crowd.clients {
					clients.Go(func() {
						for {
							here, there := net.Pipe()
							select {
							case queue <- there:
							case <-over.Done():
								return
							}
							stop := context.AfterFunc(over, func() { here.Close() })
							crowd.visit(here)
							stop()
							here.Close()
						}
					})
				}
				synctest.Wait()
				for range 3 {
					began := time.Now()
					here, there := net.Pipe()
					require.NoError(t, here.SetDeadline(began.Add(time.Second)))
					select {
					case queue <- there:
					case <-time.After(time.Second):
						t.Error("not accepted within a second")
						continue
					}
					if crowd.secure {
						here = tls.Client(here, &tls.Config{InsecureSkipVerify: true})
					}
					_, err := io.WriteString(here, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
					assert.NoError(t, err)
					answer, err := io.ReadAll(here)
					assert.NoError(t, err)
					assert.Contains(t, string(answer), "live")
					assert.Less(t, time.Since(began), time.Second) // in the bubble's time
					here.Close()
				}
				assert.LessOrEqual(t, listener.most.Load(), int64(33), "32, and one that waits for room")
				end()
				clients.Wait()
				server.Close()
				served.Wait()
			})
		})
	}
}

// Nobody waits for the body of a request, so no client can occupy a connection with it.
func TestBodiesAreNotAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "live") })
		began := time.Now()
		for request, want := range map[string]string{
			"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n":                          "live",
			"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n":                  "live",
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n":                         "405 Method Not Allowed",
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n": "405 Method Not Allowed",
			"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel":          "405 Method Not Allowed",
			"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n":                                             "405 Method Not Allowed",
		} {
			for range 40 {
				c := listener.connect()
				c.send(t, request)
				require.True(t, c.closed(), request)
				assert.Contains(t, c.answers.String(), want)
				assert.Contains(t, c.answers.String(), "Connection: close")
				assert.NotContains(t, c.answers.String(), "100 Continue")
			}
		}
		assert.Equal(t, began, time.Now(), "at once")
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
