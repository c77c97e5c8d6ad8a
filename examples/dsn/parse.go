package dsn

import (
	"encoding/binary"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
)

var (
	scheme     = regexp.MustCompile(`^(?i)(jdbc:)?([a-z][a-z0-9]*)(\+[a-z0-9_]+)?:(.*)$`)
	assignment = regexp.MustCompile(`^(?:export +)?[A-Z][A-Z0-9_]*=`)
	keyValue   = regexp.MustCompile(`(?i)^\s*(host|hostaddr|user|dbname|port|password|service|sslmode)\s*=`)
	otherKey   = regexp.MustCompile(`(?i)^(` + keys + `)$|[ ;,=]`)
	separators = regexp.MustCompile(`(?i)[;,&]\s*(` + keys + `)\s*=`)
)

// keys are the names of the parts of a DSN without a scheme.
const keys = `host|hostaddr|server|data source|port|user|username|user id|uid|password|passwd|pwd|pass|dbname|database|initial catalog|service|sslmode`

// others are schemes of databases that cannot be read, to name them in the error.
var others = []string{"sqlserver", "mssql", "oracle", "mongodb", "redis", "rediss", "clickhouse", "snowflake", "libsql", "http", "https", "h2"}

// parse returns the database that a DSN names.
func parse(text string) (target, error) {
	text = clean(text)
	switch {
	case text == "":
		return target{}, malformed("is empty")
	case strings.ContainsAny(text, "\r\n\x00"):
		return target{}, malformed("has several lines: want one")
	case strings.Contains(strings.ToUpper(text), "[YOUR-PASSWORD]"):
		return target{}, malformed("still has the placeholder [YOUR-PASSWORD]: put the password there, with special characters percent-encoded")
	case keyValue.MatchString(text) && separators.MatchString(text):
		return target{}, malformed("does not have spaces between its parts: want host=... user=... password=... dbname=..., with quotes around a password of special characters")
	case keyValue.MatchString(text):
		return postgres(text)
	}
	m := scheme.FindStringSubmatch(text)
	if m == nil {
		m = make([]string, 5)
	}
	jdbc, kind, rest := m[1] != "", strings.ToLower(m[2]), m[4]
	switch {
	case slices.Contains([]string{"postgres", "postgresql", "postgis", "pgsql"}, kind):
		return postgresURL(rest, jdbc)
	case slices.Contains([]string{"mysql", "mysql2", "mariadb"}, kind):
		return mysqlDSN(strings.TrimPrefix(rest, "//"), rest, jdbc)
	case slices.Contains([]string{"sqlite", "sqlite3"}, kind), kind == "file" && !jdbc:
		return sqliteFile(rest)
	case slices.Contains(others, kind):
		return target{}, malformed("names a database of the kind %s, which cannot be read: want Postgres, MySQL, MariaDB or SQLite", kind)
	case strings.Contains(text, "@"): // the DSN of the MySQL driver has no scheme
		return mysqlDSN(text, "", false)
	}
	return target{}, malformed("has an unknown format: want postgres://user:password@host/database, " +
		"mysql://user:password@host/database, user:password@tcp(host)/database, or sqlite:PATH")
}

// clean removes what is often pasted around a DSN.
func clean(text string) string {
	if rest, ok := strings.CutPrefix(text, "\xff\xfe"); ok { // UTF-16, as PowerShell writes files
		units := make([]uint16, len(rest)/2)
		for i := range units {
			units[i] = binary.LittleEndian.Uint16([]byte(rest[2*i:]))
		}
		text = string(utf16.Decode(units))
	}
	for before := ""; before != text; {
		before = text
		text = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
		text = strings.TrimPrefix(text, "psql ") // as Neon and Supabase show it
		if at := assignment.FindString(text); scheme.MatchString(strings.TrimLeft(text[len(at):], "\"'")) {
			text = text[len(at):]
		}
		for _, quotes := range []string{`""`, `''`, "``", "“”"} {
			open, end := []rune(quotes)[0], []rune(quotes)[1]
			if inner, ok := strings.CutPrefix(text, string(open)); ok && strings.HasSuffix(inner, string(end)) {
				text = strings.TrimSuffix(inner, string(end))
			}
		}
	}
	return text
}

// parseURL parses what follows the scheme. Its error contains nothing of it. A plus
// stands for a space in JDBC only.
func parseURL(rest string, jdbc bool, example string) (*url.URL, url.Values, error) {
	u, err := url.Parse("x:" + rest)
	var query url.Values
	if err == nil {
		if !jdbc {
			u.RawQuery = strings.ReplaceAll(u.RawQuery, "+", "%2B")
		}
		query, err = url.ParseQuery(u.RawQuery)
	}
	if err != nil || u.Opaque != "" || u.Fragment != "" || u.User == nil && !query.Has("user") && strings.Contains(u.RawQuery, "@") {
		return nil, nil, malformed("is not valid: want %s, with special characters of the password percent-encoded", example)
	}
	return u, query, nil
}

// take removes parameters by any of their names, and returns the value of the last one
// that is set.
func take(query url.Values, names ...string) (value string) {
	for key, values := range query {
		if slices.ContainsFunc(names, func(name string) bool { return fold(name) == fold(key) }) {
			if values[0] != "" {
				value = values[0]
			}
			delete(query, key)
		}
	}
	return value
}

// names reports whether a parameter is there, also without a value.
func names(query url.Values, name string) bool {
	for key := range query {
		if fold(key) == fold(name) {
			return true
		}
	}
	return false
}

// fold makes names equal that differ in case, dashes and underscores only.
func fold(name string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
}

// ignored are settings of pools and of other drivers.
var ignored = []string{
	"allow_multi_queries", "auto_reconnect", "binary_transfer", "cache_prep_stmts", "checkout_timeout", "conn_health_checks", "conn_max_age",
	"connection_limit", "create_database_if_not_exist", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
	"max_overflow", "null_catalog_means_current", "pgbouncer", "pool", "pool_max_conns", "pool_mode", "pool_pre_ping", "pool_recycle", "pool_size", "pool_timeout",
	"prep_stmt_cache_size", "prep_stmt_cache_sql_limit", "prepare_threshold", "prepared_statements", "re_write_batched_inserts", "reaping_frequency",
	"reconnect", "rewrite_batched_statements", "server_timezone", "server_version", "socket_timeout", "ssl_compression", "statement_cache_size", "string_type",
	"supa", "tcp_keep_alive", "tcp_user_timeout", "tiny_int_1_is_bit", "use_legacy_datetime_code", "use_libpq_compat", "use_server_prep_stmts",
	"use_unicode", "zero_date_time_behavior", "allow_public_key_retrieval", "fallback_application_name",
}
