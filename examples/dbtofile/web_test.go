package main_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

// certificate writes a self-signed certificate for 127.0.0.1 and its key to dir,
// and returns a pool that trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write(t, filepath.Join(dir, "server.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "server.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

// write replaces a file at once: the program may be reading it.
func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// passwords returns a web configuration with TLS and one user, ada.
func passwords(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	return "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\nbasic_auth_users:\n  ada: " + string(hash) + "\n"
}

// getSecurely returns the status code and the body of an answer over TLS.
func getSecurely(t *testing.T, pool *x509.CertPool, url, host, password string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	request.Host = host
	if password != "" {
		request.SetBasicAuth("ada", password)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body), nil
}

func TestTLSAndPasswords(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	dir := t.TempDir()
	pool, file := certificate(t, dir), filepath.Join(dir, "web.yml")
	write(t, file, passwords(t, "first"))
	p := start(t, []string{"WEB_CONFIG_FILE=" + file}, serving(dsn, t.TempDir())...)
	url := "https://" + p.address()
	require.Eventually(t, func() bool { // until the rows are copied
		code, body, err := getSecurely(t, pool, url+"/metrics", "", "first")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code)
		return metric(t, body, "rows_written_total") == 5
	}, patience, 5*time.Millisecond)
	for path, text := range map[string]string{"/": "orders is healthy", "/livez": "orders: live", "/status": `"name": "orders"`} {
		code, body, err := getSecurely(t, pool, url+path, "", "first")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, body, text)
		for _, password := range []string{"", "second"} {
			code, body, err = getSecurely(t, pool, url+path, "", password)
			require.NoError(t, err)
			require.Equal(t, http.StatusUnauthorized, code)
			require.NotContains(t, body, "orders")
		}
	}
	code, _, err := getSecurely(t, pool, url, "evil.example", "first")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, code, "a foreign host")
	code, body := get(t, http.MethodGet, "http://"+p.address()+"/")
	require.Equal(t, http.StatusBadRequest, code, "without TLS")
	require.NotContains(t, body, "orders")
	_, _, err = getSecurely(t, x509.NewCertPool(), url, "", "first")
	require.ErrorContains(t, err, "certificate", "an unknown certificate")

	// A new certificate and a new password take effect without a restart.
	write(t, file, passwords(t, "second"))
	code, _, err = getSecurely(t, pool, url, "", "first")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, code)
	renewed := t.TempDir()
	pool = certificate(t, renewed)
	write(t, file, strings.NewReplacer("server.crt", filepath.Join(renewed, "server.crt"), "server.key", filepath.Join(renewed, "server.key")).Replace(passwords(t, "second")))
	code, _, err = getSecurely(t, pool, url, "", "second")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	write(t, file, "nonsense")
	_, _, err = getSecurely(t, pool, url, "", "second")
	require.Error(t, err, "an invalid file lets nobody in")
	p.stopsWell()
	require.NotContains(t, p.stderr.String(), "$2a$")
}

// Passwords without TLS are for a proxy on the same machine.
func TestPasswordsWithoutTLS(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	file := filepath.Join(t.TempDir(), "web.yml")
	_, users, _ := strings.Cut(passwords(t, "first"), "server.key\n")
	write(t, file, users)
	p := start(t, nil, serving(dsn, t.TempDir(), "-web.config.file", file)...)
	code, _ := get(t, http.MethodGet, "http://"+p.address()+"/livez")
	require.Equal(t, http.StatusUnauthorized, code)
	code, _ = get(t, http.MethodGet, "http://ada:first@"+p.address()+"/livez")
	require.Equal(t, http.StatusOK, code)
	p.stopsWell()
}

func TestInvalidWebConfiguration(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 5)
	dir := t.TempDir()
	certificate(t, dir)
	other := t.TempDir()
	certificate(t, other)
	file := filepath.Join(dir, "web.yml")
	for want, text := range map[string]string{
		"the file, or its client_ca_file, cannot be read: no such file or directory": "",
		"line 1 has a value of the wrong type":                                       "basic_auth_users: hunter2",
		"the certificate and the key do not belong together":                         fmt.Sprintf("tls_server_config: {cert_file: server.crt, key_file: %s/server.key}", other),
	} {
		if text != "" {
			write(t, file, text)
		}
		for _, action := range []string{"-once", "-check"} {
			p := run(t, nil, serving(dsn, t.TempDir(), "-web.config.file", file, action)...)
			require.Equal(t, 2, p.code(), "%s", &p.stderr)
			require.Contains(t, p.stderr.String(), "dbtofile: -web.config.file "+file+": "+want)
			require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s", &p.stderr)
			keeps(t, p)
		}
		require.NoError(t, os.RemoveAll(file))
	}
	p := run(t, nil, append(complete(t), "-web.config.file", filepath.Join(dir, "web.yml"))...)
	require.Equal(t, 2, p.code())
	require.Contains(t, p.stderr.String(), "-web.config.file is given without -listen: give both")
}
