package dsn

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// modes are the modes of TLS by libpq's names, the strictest last.
var modes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// spellings are other names of the modes, in the form of [fold].
var spellings = map[string]string{
	"disabled": "disable", "false": "disable", "0": "disable", "no": "disable", "off": "disable", "none": "disable",
	"preferred": "prefer",
	"required":  "require", "true": "require", "1": "require", "yes": "require", "on": "require",
	"trust": "require", "noverify": "require", "skipverify": "require",
	"verifyca": "verify-ca", "verifyidentity": "verify-full", "verifyfull": "verify-full",
}

// known lists the spellings for errors.
const known = "disable, prefer, require, verify-ca, verify-full, true or false"

// modeOf returns the mode for a value, "" if it is not known.
func modeOf(value string) string {
	value = fold(value)
	if slices.Contains(modes, value) {
		return value
	}
	return spellings[value]
}

// wish takes what drivers, clients and frameworks say about TLS. It returns one of
// modes, "" if nothing was said. Of several wishes the strictest counts. A value that is
// not known is an error, because without it a connection could be less secure than
// wanted. The error does not contain the value.
func wish(query url.Values, jdbc bool) (string, error) {
	lenient, err := factory(query)
	if err != nil {
		return "", err
	}
	strictest := -1
	add := func(mode string) { strictest = max(strictest, slices.Index(modes, mode)) }
	unknown := func(name, want string) error {
		return malformed("has a value of %s that is not known: want %s", name, want)
	}
	for _, name := range []string{"sslmode", "ssl", "use_ssl", "require_ssl", "ssl_require", "tls"} {
		given := names(query, name)
		value := take(query, name)
		mode := modeOf(value)
		switch {
		case !given || value == "" && !(jdbc && name == "ssl"): // ?ssl is a wish in JDBC
		case strings.HasPrefix(value, "{"):
			if mode = objectMode(value); mode == "" {
				return "", unknown(name, `{"rejectUnauthorized":true} or {"rejectUnauthorized":false}`)
			}
			add(mode)
		case value != "" && mode == "":
			return "", unknown(name, known)
		case mode == "disable" && strings.Contains(name, "require"): // TLS is not required
		case name == "tls" && mode == "require" && isTrue(value), jdbc && name == "ssl" && !lenient && (value == "" || isTrue(value)):
			add("verify-full")
		case value == "":
			add("require")
		default:
			add(mode)
		}
	}
	for _, name := range []string{"verify_server_certificate", "ssl_verify_cert", "ssl_verify_identity", "ssl_verify_server_cert", "ssl_check_hostname"} {
		switch value := take(query, name); {
		case isTrue(value):
			add("verify-full")
		case value != "" && !isFalse(value):
			return "", unknown(name, "true or false")
		}
	}
	switch accept := take(query, "sslaccept"); {
	case accept == "strict":
		add("verify-full")
	case accept != "" && fold(accept) != "acceptinvalidcerts":
		return "", unknown("sslaccept", "strict or accept_invalid_certs")
	case accept != "" && strictest < 0:
		add("require")
	}
	if strictest < 0 {
		return "", nil
	}
	return modes[strictest], nil
}

// objectMode returns the mode for the options of TLS in Node, "" if they have more than
// whether the certificate is checked, which it is by default.
func objectMode(text string) string {
	options := struct {
		Reject *bool `json:"rejectUnauthorized"`
	}{}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	switch err := d.Decode(&options); {
	case err != nil || d.More():
		return ""
	case options.Reject == nil || *options.Reject:
		return "verify-full"
	}
	return "require"
}

// factory takes settings of encryption of which only some values are supported.
// It reports whether the socket factory of JDBC does not check certificates.
func factory(query url.Values) (lenient bool, err error) {
	switch gss := strings.ToLower(take(query, "gss_enc_mode")); gss {
	case "", "disable", "allow", "prefer":
	default:
		return false, malformed("asks for encryption by GSS, which cannot be used: want gssencmode to be disable or prefer")
	}
	if versions := take(query, "enabled_tls_protocols", "tls_version", "tls_versions"); versions != "" && !strings.Contains(versions, "TLSv1.2") {
		return false, malformed("does not allow TLSv1.2: want enabledTLSProtocols to contain it, or leave it out")
	}
	switch take(query, "ssl_factory") {
	case "", "org.postgresql.ssl.LibPQFactory", "org.postgresql.ssl.DefaultJavaSSLFactory":
		return false, nil
	case "org.postgresql.ssl.NonValidatingFactory":
		return true, nil
	}
	return false, malformed("has an sslfactory that is not known: want LibPQFactory, DefaultJavaSSLFactory or NonValidatingFactory of org.postgresql.ssl")
}

func isTrue(value string) bool {
	return slices.Contains([]string{"true", "1", "yes", "on"}, strings.ToLower(value))
}

func isFalse(value string) bool {
	return slices.Contains([]string{"false", "0", "no", "off"}, strings.ToLower(value))
}
