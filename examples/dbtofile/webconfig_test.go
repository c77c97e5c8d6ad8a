package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const marker = "hunter2"

// goodPEM returns a certificate, also as a file that has its key.
func goodPEM(t *testing.T) (tls.Certificate, []byte) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	return server.TLS.Certificates[0], append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
}

// records receives what a log writes.
type records chan string

func (r records) Write(b []byte) (int, error) { r <- string(b); return len(b), nil }

// Some errors of the toolkit occur only in a connection.
func TestTheLogSaysWhyAConnectionIsRefused(t *testing.T) {
	own, good := goodPEM(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "web.yml")
	configure := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	require.NoError(t, os.WriteFile(filepath.Join(dir, "good.pem"), good, 0o600))
	valid := "cert_file: good.pem, key_file: good.pem"
	configure("tls_server_config: {" + valid + "}")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	logged := make(records, 10)
	defer serveOn(listener, http.NotFoundHandler(), path, slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug})))()
	request := func() {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}})
		if err == nil {
			_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}
	request() // the server runs with TLS from here on
	assert.Empty(t, logged)
	for want, text := range map[string]string{
		"tls_server_config was removed: restore it, or restart the program": "basic_auth_users: {}",
		"the certificate of the client has none of client_allowed_sans":     "tls_server_config: {" + valid + ", client_auth_type: RequireAnyClientCert, client_allowed_sans: [hunter2]}",
		"client_auth_type is unknown":                                       "tls_server_config: {" + valid + ", client_auth_type: hunter2}",
	} {
		configure(text)
		request()
		line := <-logged
		assert.Contains(t, line, want)
		assert.NotContains(t, line, marker)
	}
}
