package dsn

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

const mysqlExample = "mysql://user:password@host:port/database"

// mysqlDSN accepts a URL, or a DSN of the driver, user:password@tcp(host)/database,
// which may follow mysql:// too.
func mysqlDSN(text, rest string, jdbc bool) (target, error) {
	var c *mysql.Config
	var err error
	if rest == "" || strings.Contains(text, "@tcp(") || strings.Contains(text, "@unix(") {
		c, err = mysql.ParseDSN(text)
		if err != nil {
			err = malformed("is not valid for MySQL: want %s, with special characters of the password percent-encoded, or user:password@tcp(host:port)/database", mysqlExample)
		}
	} else {
		c, err = mysqlURL(rest, jdbc)
	}
	if err != nil {
		return target{}, err
	}
	c.Timeout = cmp.Or(c.Timeout, connectTimeout)
	if c.Params["time_zone"] == "" { // for columns of type TIMESTAMP
		if c.Params == nil {
			c.Params = map[string]string{}
		}
		c.Params["time_zone"] = "'+00:00'"
	}
	c.Logger = &mysql.NopLogger{} // everything it logs is also returned as an error
	return target{mysql: c}, nil
}

var systemVariable = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func mysqlURL(rest string, jdbc bool) (*mysql.Config, error) {
	u, query, err := parseURL(rest, jdbc, mysqlExample)
	if err != nil {
		return nil, err
	}
	user, password := u.User.Username(), ""
	if u.User != nil {
		password, _ = u.User.Password()
	}
	if jdbc {
		user, password = cmp.Or(take(query, "user"), user), cmp.Or(take(query, "password"), password)
	}
	address := "tcp(" + net.JoinHostPort(cmp.Or(u.Hostname(), "localhost"), cmp.Or(u.Port(), "3306")) + ")"
	if socket := take(query, "unix_socket", "socket"); socket != "" {
		address = "unix(" + socket + ")"
	}
	take(query, ignored...)
	mode, authorities := mysqlTLS(query)
	mysqlNames(query, jdbc)
	for name := range query {
		if !systemVariable.MatchString(name) && !driverParameter(name) {
			return nil, malformed("has a parameter that is not known for MySQL: remove it%s", quotedName(u, name))
		}
	}
	c, err := mysql.ParseDSN(address + "/?" + query.Encode())
	if err != nil {
		return nil, malformed("has a parameter with a wrong value for MySQL, or none")
	}
	if mode != "" {
		c.TLSConfig = mode
	}
	if authorities != "" && mode != "false" {
		if c.TLS, err = trusting(authorities, u.Hostname()); err != nil {
			return nil, err
		}
		c.TLSConfig = ""
	}
	c.User, c.Passwd, c.DBName = user, password, strings.TrimPrefix(u.Path, "/")
	return c, nil
}

// quotedName returns a parameter's name for the error, unless it may be a part of the
// password: a ? in a password begins the parameters.
func quotedName(u *url.URL, name string) string {
	if strings.Contains(u.RawQuery, "@") {
		return ""
	}
	return ": " + strconv.Quote(name)
}

// mysqlTLS takes what clients and frameworks say about TLS. It returns the driver's name
// of a mode, "" if nothing was said, and a file of authorities.
func mysqlTLS(query url.Values) (mode, authorities string) {
	authorities = take(query, "ssl_ca", "sslcert", "ssl_root_cert")
	verify := take(query, "verify_server_certificate", "ssl_verify_cert", "ssl_verify_identity")
	ssl, accept := take(query, "ssl", "use_ssl", "require_ssl"), take(query, "sslaccept")
	switch strings.ToUpper(strings.NewReplacer("-", "_").Replace(take(query, "ssl_mode"))) {
	case "DISABLED", "DISABLE":
		return "false", ""
	case "PREFERRED", "PREFER":
		return "preferred", authorities
	case "REQUIRED", "REQUIRE":
		mode = "skip-verify"
	case "VERIFY_CA", "VERIFY_IDENTITY", "VERIFY_FULL":
		mode = "true"
	}
	switch {
	case mode == "true", isTrue(verify), accept == "strict", strings.Contains(ssl, `"rejectUnauthorized":true`), authorities != "":
		return "true", authorities
	case mode != "":
	case isTrue(ssl), accept != "", strings.HasPrefix(ssl, "{"):
		mode = "skip-verify"
	case isFalse(ssl):
		mode = "false"
	}
	return mode, ""
}

// mysqlNames gives parameters of other drivers the names of this one.
func mysqlNames(query url.Values, jdbc bool) {
	if charset := take(query, "character_encoding", "encoding"); charset != "" && query.Get("charset") == "" {
		query.Set("charset", charset)
	}
	if charset := query.Get("charset"); strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8") {
		query.Set("charset", "utf8mb4")
	}
	unit := time.Second
	if jdbc {
		unit = time.Millisecond
	}
	timeout := cmp.Or(take(query, "connect_timeout"), query.Get("timeout"))
	if n, err := strconv.Atoi(timeout); err == nil && n > 0 {
		timeout = (time.Duration(n) * unit).String()
	}
	if timeout != "" && timeout != "0" {
		query.Set("timeout", timeout)
	} else {
		query.Del("timeout")
	}
}

// driverParameter reports whether the driver knows a parameter that is no name of a
// system variable.
func driverParameter(name string) bool {
	_, err := mysql.ParseDSN("/?" + url.QueryEscape(name) + "=")
	c, _ := mysql.ParseDSN("/?" + url.QueryEscape(name) + "=x")
	return err != nil || c == nil || c.Params[name] == ""
}

// trusting returns a TLS configuration with the authorities in a file.
func trusting(file, host string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, malformed("names a file that cannot be read: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, malformed("names a file of authorities without a certificate in PEM")
	}
	return &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12}, nil
}
