// Package webconfig checks the web configuration files of the Prometheus exporters, and
// says what is wrong with one without showing a password that it holds.
package webconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"regexp"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
)

// Check checks a web configuration file and the certificates that it names.
func Check(path string) error {
	if err := web.Validate(path); err != nil {
		return fmt.Errorf("%s: %s: want the format of the Prometheus exporters, "+
			"with a certificate in tls_server_config and bcrypt hashes of passwords in basic_auth_users", path, Text(err))
	}
	return nil
}

// texts are the errors of the toolkit by how they begin. The rest of an
// error can be any value of the file.
var texts = [][2]string{
	{"yaml: unknown anchor", "it refers to an unknown anchor"},
	{"yaml: anchor", "an anchor contains itself"},
	{"unknown TLS version: ", "min_version or max_version is unknown"},
	{"unknown cipher: ", "a name in cipher_suites is unknown"},
	{"unknown curve: ", "a name in curve_preferences is unknown"},
	{"invalid ClientAuth: ", "client_auth_type is unknown"},
	{"client CA's have been configured", "client_ca_file or client_ca is set without a client_auth_type"},
	{"missing one of cert or cert_file", "missing one of cert or cert_file"},
	{"missing one of key or key_file", "missing one of key or key_file"},
	{"failed to read cert_file", "cert_file cannot be read"},
	{"failed to read key_file", "key_file cannot be read"},
	{"failed to load X509KeyPair", "the certificate and the key do not belong together, or are not in PEM"},
	{"HTTP header ", "a name in headers is not one that can be set"},
	{"invalid value for ", "a value in headers is not valid"},
	{"crypto/bcrypt: ", "a password in basic_auth_users is not a bcrypt hash"},
	{"TLS config is not present", "tls_server_config was removed: restore it, or restart the program"},
	{"could not find allowed SANs", "the certificate of the client has none of client_allowed_sans"},
	{"strconv.", "a password in basic_auth_users is not a bcrypt hash"},
}

// yamlError finds the line and the kind of an error of the YAML parser.
var yamlError = regexp.MustCompile(`(?m)^(?:yaml: |  )line (\d+): (cannot unmarshal|field .* not found|.* already set in)?`)

// Text says what is wrong with a web configuration file. It contains no
// value of the file, because a misplaced value may be a password.
func Text(err error) string {
	text := err.Error()
	for _, e := range texts {
		if strings.HasPrefix(text, e[0]) {
			return e[1]
		}
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return "the file, or its client_ca_file, cannot be read: " + file.Err.Error()
	}
	var lines []string
	for _, m := range yamlError.FindAllStringSubmatch(text, -1) {
		what := "is not valid YAML"
		switch {
		case strings.HasPrefix(m[2], "cannot"):
			what = "has a value of the wrong type"
		case strings.HasPrefix(m[2], "field") && strings.HasSuffix(m[2], "not found"):
			what = "has an unknown field"
		case m[2] != "":
			what = "sets a field again"
		}
		lines = append(lines, "line "+m[1]+" "+what)
	}
	if lines == nil {
		return "it is not valid"
	}
	return strings.Join(lines, ", ")
}

// handshake matches what the server logs about a failed TLS handshake: the peer,
// and the beginning of an error of the connection. Any other error is one of the
// web configuration file, which is read again for each connection.
var handshake = regexp.MustCompile(`^(http: TLS handshake error from \S+: )(EOF|tls: |remote error: |read |write |client sent )?`)

// Log logs what an http.Server reports, without values of the web configuration file.
type Log struct{ *log.Logger }

// Write logs a line of the server's ErrorLog.
func (l Log) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if m := handshake.FindStringSubmatch(text); m != nil && m[2] == "" {
		text = m[1] + Text(errors.New(text[len(m[1]):]))
	}
	l.Print(text)
	return len(line), nil
}
