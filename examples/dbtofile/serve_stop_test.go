package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
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

func TestAClientThatHangsDelaysNoStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := make(pipes)
		stop := serveOn(listener, http.NotFoundHandler(), "", slog.New(slog.DiscardHandler))
		client, server := net.Pipe()
		defer client.Close()
		listener <- server
		_, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // and never reads the answer
		require.NoError(t, err)
		synctest.Wait()
		asked := time.Now()
		stop()
		require.Equal(t, 200*time.Millisecond, time.Since(asked))
	})
}
