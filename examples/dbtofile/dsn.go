package main

import (
	"cmp"
	"database/sql"
	"errors"
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

// connectTimeout is for one attempt to connect, unless the DSN says otherwise.
// Every statement is limited by the Poller's Timeout.
const connectTimeout = 10 * time.Second

// open opens a database without connecting to it: one that is down is no error,
// the pipeline waits for it. The errors never hold the DSN or a part of it, nor
// do they wrap those of the parsers, which do.
func open(dsn string) (*sqlx.DB, error) {
	db, err := dial(dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetConnMaxLifetime(time.Hour) // so that a change of address or a failover is noticed
	return db, nil
}

func dial(dsn string) (*sqlx.DB, error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch scheme {
	case "postgres", "postgresql":
		return openPostgres(dsn)
	case "mysql", "mariadb":
		return openMySQL(dsn, strings.TrimPrefix(rest, "//"))
	case "sqlite":
		return openSQLite(rest)
	}
	if strings.Contains(dsn, "@") { // the form of the MySQL driver has no scheme
		return openMySQL(dsn, dsn)
	}
	return nil, wrong("the DSN (not shown) is of no known kind: want postgres://user:password@host/database, " +
		"mysql://user:password@host/database, user:password@tcp(host)/database, or sqlite:PATH")
}

func openPostgres(dsn string) (*sqlx.DB, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		var file *fs.PathError // of a certificate
		if errors.As(err, &file) {
			return nil, wrong("the DSN (not shown) names a file: %v", file)
		}
		return nil, wrong("the DSN (not shown) is no URL of Postgres: want postgres://user:password@host:port/database?sslmode=require, " +
			"with special characters of the password percent-encoded")
	}
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, connectTimeout)
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "dbtofile" // shown in pg_stat_activity
	}
	return sqlx.NewDb(stdlib.OpenDB(*c), "pgx"), nil
}

// openMySQL takes the form of a URL, or the driver's own, user:password@tcp(host)/database.
func openMySQL(dsn, rest string) (*sqlx.DB, error) {
	malformed := wrong("the DSN (not shown) is none of MySQL: want mysql://user:password@host:port/database, " +
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
	if c.Params["time_zone"] == "" { // of columns of type TIMESTAMP
		if c.Params == nil {
			c.Params = map[string]string{}
		}
		c.Params["time_zone"] = "'+00:00'"
	}
	c.Logger = &mysql.NopLogger{} // what it would log comes as an error, too
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

// openSQLite opens a file to read. It is opened for writing all the same, as
// readers of a database in WAL mode must be able to, but must exist.
func openSQLite(path string) (*sqlx.DB, error) {
	if path == "" {
		return nil, wrong("the DSN has no path: want sqlite:PATH")
	}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	u := url.URL{Path: filepath.ToSlash(filepath.Clean(path))}
	return sqlx.Open("sqlite3", "file:"+u.EscapedPath()+"?mode=rw&_pragma=busy_timeout(5000)&_pragma=query_only(on)")
}
