package dsn

import (
	"cmp"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

const postgresExample = "postgres://user:password@host:port/database?sslmode=require"

// postgresURL accepts a URL without its scheme. In a JDBC URL, user and password are
// parameters.
func postgresURL(rest string, jdbc bool) (target, error) {
	if jdbc && !strings.HasPrefix(rest, "/") { // only a database's name
		rest = "//localhost/" + rest
	}
	u, query, err := parseURL(rest, jdbc, postgresExample)
	if err != nil {
		return target{}, err
	}
	take(query, ignored...)
	take(query, "encoding") // of Rails: "unicode"
	set := func(name, value string) {
		if value != "" && query.Get(name) == "" {
			query.Set(name, value)
		}
	}
	set("search_path", take(query, "schema", "currentSchema"))
	set("application_name", take(query, "applicationName"))
	set("connect_timeout", cmp.Or(take(query, "connectTimeout"), take(query, "loginTimeout")))
	set("target_session_attrs", map[string]string{"": "", "any": "any", "primary": "primary", "master": "primary", "secondary": "standby"}[take(query, "targetServerType")])
	if err := postgresTLS(query, jdbc); err != nil {
		return target{}, err
	}
	u.Scheme, u.RawQuery = "postgres", strings.ReplaceAll(query.Encode(), "+", "%20")
	return postgres(u.String())
}

// postgresTLS translates what drivers other than libpq call sslmode.
func postgresTLS(query url.Values, jdbc bool) error {
	mode, err := wish(query, jdbc)
	if query.Get("sslrootcert") == "system" { // the certificates of the system are the default
		query.Del("sslrootcert")
		mode = "verify-full"
	}
	if mode != "" {
		query.Set("sslmode", mode)
	}
	return err
}

// postgres accepts a URL, or the form host=... user=... of libpq.
func postgres(text string) (target, error) {
	c, err := pgx.ParseConfig(text)
	if err != nil {
		var file *fs.PathError // of a certificate
		if errors.As(err, &file) {
			return target{}, malformed("names a file that cannot be read: %v", file.Err)
		}
		return target{}, malformed("is not valid for Postgres: want %s, with special characters of the password percent-encoded", postgresExample)
	}
	for name := range c.RuntimeParams { // they would be sent to the server
		if otherKey.MatchString(name) {
			return target{}, malformed("has a parameter that is not known for Postgres: want %s, or host=... user=... password=... dbname=...", postgresExample)
		}
	}
	hosts := []string{c.Host}
	for _, other := range c.Fallbacks {
		hosts = append(hosts, other.Host)
	}
	if err := checkNames(c.User, c.Database, hosts...); err != nil {
		return target{}, err
	}
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, connectTimeout)
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = filepath.Base(os.Args[0]) // for pg_stat_activity
	}
	return target{postgres: c}, nil
}
