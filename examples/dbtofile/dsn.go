package main

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
)

// connectTimeout limits one attempt to connect, unless the DSN sets a limit. The
// Poller's Deadline limits every statement.
const connectTimeout = 10 * time.Second

// open opens a database without connecting to it, because the pipeline waits for
// a database that is down. Its errors contain no part of the DSN, and do not wrap
// the errors of the parsers, which contain all of it.
func open(dsn string) (db *sqlx.DB, err error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch {
	case scheme == "postgres" || scheme == "postgresql":
		db, err = openPostgres(dsn)
	case scheme == "mysql" || scheme == "mariadb":
		db, err = openMySQL(dsn, strings.TrimPrefix(rest, "//"))
	case scheme == "sqlite":
		db, err = openSQLite(rest)
	case strings.Contains(dsn, "@"): // the DSN of the MySQL driver has no scheme
		db, err = openMySQL(dsn, dsn)
	default:
		err = wrong("the DSN (not shown) has an unknown format: want postgres://user:password@host/database, " +
			"mysql://user:password@host/database, user:password@tcp(host)/database, or sqlite:PATH")
	}
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetConnMaxLifetime(time.Hour) // to follow a change of address or a failover
	return db, nil
}

func openPostgres(dsn string) (*sqlx.DB, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		var file *fs.PathError // of a certificate
		if errors.As(err, &file) {
			return nil, wrong("the DSN (not shown) names a file that cannot be read: %v", file)
		}
		return nil, wrong("the DSN (not shown) is not a Postgres URL: want postgres://user:password@host:port/database?sslmode=require, " +
			"with special characters of the password percent-encoded")
	}
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, connectTimeout)
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "dbtofile" // for pg_stat_activity
	}
	return sqlx.NewDb(stdlib.OpenDB(*c), "pgx"), nil
}

// openMySQL accepts a URL or a DSN of the driver, user:password@tcp(host)/database.
func openMySQL(dsn, rest string) (*sqlx.DB, error) {
	malformed := wrong("the DSN (not shown) is not a MySQL DSN: want mysql://user:password@host:port/database, " +
		"with special characters of the password percent-encoded, or user:password@tcp(host:port)/database")
	var c *mysql.Config
	var err error
	if strings.Contains(rest, "@tcp(") || strings.Contains(rest, "@unix(") || rest == dsn {
		c, err = mysql.ParseDSN(rest)
	} else {
		c, err = mysqlURL(dsn)
	}
	if err != nil {
		return nil, malformed
	}
	c.Timeout = cmp.Or(c.Timeout, connectTimeout)
	if c.Params["time_zone"] == "" { // for columns of type TIMESTAMP
		if c.Params == nil {
			c.Params = map[string]string{}
		}
		c.Params["time_zone"] = "'+00:00'"
	}
	c.Logger = &mysql.NopLogger{} // everything it logs is also returned as an error
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, malformed
	}
	return sqlx.NewDb(sql.OpenDB(connector), "mysql"), nil
}

func mysqlURL(dsn string) (*mysql.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	host := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "3306"))
	c, err := mysql.ParseDSN("tcp(" + host + ")/?" + u.Query().Encode())
	if err != nil {
		return nil, err
	}
	c.User = u.User.Username()
	c.Passwd, _ = u.User.Password()
	c.DBName = strings.TrimPrefix(u.Path, "/")
	return c, nil
}

// openSQLite opens an existing file. The file must be writable, which WAL mode
// requires, but query_only prevents changes.
func openSQLite(path string) (*sqlx.DB, error) {
	if path == "" {
		return nil, wrong("the DSN has no path: want sqlite:PATH")
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("the database file of the DSN: %w: check the path and the permissions", err)
	}
	u := url.URL{Path: filepath.ToSlash(filepath.Clean(path))}
	return sqlx.Open("sqlite3", "file:"+u.EscapedPath()+"?mode=rw&_pragma=busy_timeout(5000)&_pragma=query_only(on)")
}
