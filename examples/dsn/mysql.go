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
	if c.Net != "tcp" && c.Net != "unix" {
		return target{}, malformed("has a network that is not known: want user:password@tcp(host:port)/database or user:password@unix(/socket)/database")
	}
	if err := checkNames(c.User, c.DBName, withoutPort.ReplaceAllString(c.Addr, "$1")); err != nil {
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

// withoutPort matches an address of TCP. Brackets are around an address of IPv6.
var withoutPort = regexp.MustCompile(`^\[?([^/@].*?)\]?:[0-9]+$`)

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
	mode, authorities, err := mysqlTLS(query, jdbc)
	if err != nil {
		return nil, err
	}
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
	if authorities != "" {
		if c.TLS, err = trusting(authorities, u.Hostname()); err != nil {
			return nil, err
		}
		c.TLSConfig = ""
	}
	c.User, c.Passwd, c.DBName = user, password, strings.TrimPrefix(u.Path, "/")
	return c, nil
}

// quotedName returns a parameter's name for the error, unless it may be a part of the
// password: a ? in a password begins the parameters, and a & in a parameter ends it.
func quotedName(u *url.URL, name string) string {
	if _, set := u.User.Password(); !set || strings.Contains(u.RawQuery, "@") || strings.Contains(strings.ToLower(u.RawQuery), "pass") {
		return ""
	}
	return ": " + strconv.Quote(name)
}

// mysqlTLS takes what clients and frameworks say about TLS. It returns the driver's name
// of a mode, "" if nothing was said, and a file of authorities.
func mysqlTLS(query url.Values, jdbc bool) (mode, authorities string, err error) {
	authorities = take(query, "ssl_ca", "sslcert", "ssl_root_cert")
	mode, err = wish(query, jdbc)
	switch {
	case mode == "disable":
		return "false", "", err
	case authorities != "", strings.HasPrefix(mode, "verify"):
		return "true", authorities, err
	}
	return map[string]string{"": "", "allow": "preferred", "prefer": "preferred", "require": "skip-verify"}[mode], "", err
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

// driverParameter reports whether the driver knows a parameter that is not the name of a
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
		return nil, malformed("names a file that cannot be read: %v", cause(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, malformed("names a file of authorities without a certificate in PEM")
	}
	return &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12}, nil
}
