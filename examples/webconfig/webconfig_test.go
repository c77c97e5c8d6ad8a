package webconfig

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/exporter-toolkit/web"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const marker = "hunter2"

// Each kind of error of a web configuration file in which a password is misplaced.
// good.pem has a certificate and its key.
var webConfigCases = map[string]struct{ file, want string }{
	"no file":         {"", "cannot be read: no such file or directory"},
	"syntax":          {"basic_auth_users:\n  ada: {hunter2", "line 2 is not valid YAML"},
	"unknown anchor":  {"basic_auth_users: *hunter2", "unknown anchor"},
	"own anchor":      {"basic_auth_users: &hunter2 {<<: *hunter2}", "an anchor contains itself"},
	"unknown field":   {"tls_server_config:\n  hunter2: x", "line 2 has an unknown field"},
	"field again":     {"basic_auth_users: {}\nbasic_auth_users: {a: hunter2}", "line 2 sets a field again"},
	"key again":       {"basic_auth_users:\n  hunter2: a\n  hunter2: b", "line 3 sets a field again"},
	"wrong type":      {"basic_auth_users: hunter2\nhttp_server_config: hunter2", "line 1 has a value of the wrong type, line 2 has a value of the wrong type"},
	"wrong tag":       {"tls_server_config: {min_version: !!int hunter2}", "it is not valid"},
	"not UTF-8":       {"basic_auth_users: {hunter2: \"\xff\"}", "it is not valid"},
	"TLS version":     {"tls_server_config: {min_version: hunter2}", "min_version or max_version is unknown"},
	"cipher":          {"tls_server_config: {cipher_suites: [hunter2]}", "a name in cipher_suites is unknown"},
	"curve":           {"tls_server_config: {curve_preferences: [hunter2]}", "a name in curve_preferences is unknown"},
	"client auth":     {"tls_server_config: {cert_file: good.pem, key_file: good.pem, client_auth_type: hunter2}", "client_auth_type is unknown"},
	"client CA":       {"tls_server_config: {cert_file: good.pem, key_file: good.pem, client_ca: hunter2}", "without a client_auth_type"},
	"client CA file":  {"tls_server_config: {cert_file: good.pem, key_file: good.pem, client_ca_file: hunter2}", "client_ca_file, cannot be read: no such file or directory"},
	"no certificate":  {"tls_server_config: {key: hunter2}", "missing one of cert or cert_file"},
	"no key":          {"tls_server_config: {cert: hunter2}", "missing one of key or key_file"},
	"cert_file":       {"tls_server_config: {cert_file: hunter2, key_file: good.pem}", "cert_file cannot be read"},
	"key_file":        {"tls_server_config: {cert_file: good.pem, key_file: hunter2}", "key_file cannot be read"},
	"pair":            {"tls_server_config: {cert: hunter2, key: hunter2}", "the certificate and the key do not belong together"},
	"header":          {"http_server_config: {headers: {hunter2: x}}", "a name in headers"},
	"value of header": {"http_server_config: {headers: {X-Frame-Options: hunter2}}", "a value in headers"},
	"no hash":         {"basic_auth_users: {ada: hunter2}", "a password in basic_auth_users is not a bcrypt hash"},
	"cost of hash":    {"basic_auth_users: {ada: $2a$hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2}", "a password in basic_auth_users is not a bcrypt hash"},
}

// goodPEM returns a certificate, also as a file that has its key.
func goodPEM(t *testing.T) (tls.Certificate, []byte) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	return server.TLS.Certificates[0], append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
}

func TestNoErrorShowsAValueOfTheWebConfiguration(t *testing.T) {
	_, good := goodPEM(t)
	for name, c := range webConfigCases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "web.yml")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "good.pem"), good, 0o600))
			if c.file != "" {
				require.NoError(t, os.WriteFile(path, []byte(c.file), 0o600))
			}
			original := web.Validate(path)
			require.Error(t, original)
			err := Check(path)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "bcrypt hashes of passwords in basic_auth_users")
			assert.NotContains(t, err.Error(), marker)

			// The file is read again for each connection, and the server logs the error.
			var out bytes.Buffer
			_, _ = Log{log.New(&out, "", 0)}.Write([]byte("http: TLS handshake error from 127.0.0.1:4711: " + original.Error() + "\n"))
			assert.Contains(t, out.String(), "http: TLS handshake error from 127.0.0.1:4711: ")
			assert.NotContains(t, out.String(), marker)
		})
	}

	// Errors of the connection itself are logged as they are.
	var out bytes.Buffer
	_, _ = Log{log.New(&out, "", 0)}.Write([]byte("http: TLS handshake error from 127.0.0.1:4711: remote error: tls: bad certificate\n"))
	assert.Contains(t, out.String(), "4711: remote error: tls: bad certificate")
}
