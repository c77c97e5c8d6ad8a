// Package dsn opens databases by the data source names that people have: those of
// drivers, hosting providers and frameworks.
//
//	db, err := dsn.Open(func() (string, error) { return os.Getenv("DATABASE_URL"), nil })
//
// The DSN is asked for at each connect, so that a password can be rotated while the
// program runs. An error contains no other text of the DSN than the name or address
// of a host, the path of a SQLite database and the name of an unknown parameter, and
// none of these if a password may be in it.
//
// # Forms
//
//	postgres://user:password@host:port/database?sslmode=require
//	host=localhost user=ada password=secret dbname=shop
//	mysql://user:password@host:port/database?ssl-mode=REQUIRED
//	user:password@tcp(host:port)/database
//	sqlite:PATH
//
// Other names of the same schemes are accepted too, such as postgresql+psycopg2://,
// mysql2://, mariadb://, jdbc:postgresql:// and sqlite:////path. So are the parameters
// of libpq, JDBC, Prisma, Django, Rails and SQLAlchemy. What they say about TLS and the
// search path is obeyed, and settings of their pools are ignored. Of several wishes for
// TLS the strictest counts, and one that is not known is refused. Quotes, a byte order
// mark and DATABASE_URL= around the DSN are removed.
//
// With ssl-mode=REQUIRED of MySQL, as with sslmode=require of Postgres, the connection
// is encrypted and the server's certificate is not checked. VERIFY_CA and
// VERIFY_IDENTITY both check the certificate and the name.
package dsn

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	sqlite "github.com/ncruces/go-sqlite3/driver"

	"github.com/artifactofdevotion/devotion/retry"
)

// ErrMalformed is wrapped by the error about a DSN that cannot be used. The error says
// why, and does not contain the DSN.
var ErrMalformed = errors.New("the DSN (not shown)")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w "+format, append([]any{ErrMalformed}, args...)...)
}

// connectTimeout limits one attempt to connect, unless the DSN sets a limit.
const connectTimeout = 10 * time.Second

// Open opens the database whose DSN ask returns, without connecting to it. It calls ask,
// and each connect calls it again. An error of ask at a connect is worth a retry, and so
// is a DSN that is malformed then: someone may be writing it.
//
// Until the first connect has succeeded, an error of TLS is marked as permanent.
func Open(ask func() (string, error)) (*sqlx.DB, error) {
	text, err := ask()
	if err != nil {
		return nil, err
	}
	t, err := parse(text)
	if err != nil {
		return nil, err
	}
	inner, err := t.connector()
	if err != nil {
		return nil, malformed("cannot be used by the driver %s", t.driver())
	}
	db := sqlx.NewDb(sql.OpenDB(&connector{ask: ask, driver: inner.Driver(), name: t.driver(), file: t.sqlite}), t.driver())
	db.SetMaxOpenConns(4)
	db.SetConnMaxLifetime(time.Hour) // to follow a change of address or a failover
	return db, nil
}

// target is the database that a DSN names. One field is set.
type target struct {
	postgres *pgx.ConnConfig
	mysql    *mysql.Config
	sqlite   string // a URI
}

// driver returns the name of the driver.
func (t target) driver() string {
	switch {
	case t.postgres != nil:
		return "pgx"
	case t.mysql != nil:
		return "mysql"
	}
	return "sqlite3"
}

func (t target) connector() (driver.Connector, error) {
	switch {
	case t.postgres != nil:
		return stdlib.GetConnector(*t.postgres), nil
	case t.mysql != nil:
		return mysql.NewConnector(t.mysql)
	}
	return (&sqlite.SQLite{}).OpenConnector(t.sqlite)
}

// connector asks for the DSN at each connect.
type connector struct {
	ask       func() (string, error)
	name      string // of the driver
	file      string // the URI of an SQLite database, where package sqlsource finds its path
	driver    driver.Driver
	connected atomic.Bool
}

func (c *connector) Driver() driver.Driver { return c.driver }

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	text, err := c.ask()
	if err != nil {
		return nil, err
	}
	t, err := parse(text)
	if err != nil {
		return nil, err
	}
	if t.driver() != c.name {
		return nil, malformed("names another kind of database than at the start: restart the program")
	}
	inner, err := t.connector()
	if err != nil {
		return nil, malformed("cannot be used by the driver %s", c.name)
	}
	if t.mysql != nil { // the driver limits the dial only, and not the handshake
		limited, cancel := context.WithTimeout(ctx, t.mysql.Timeout)
		defer cancel()
		ctx = limited
	}
	conn, err := inner.Connect(ctx)
	if err == nil {
		c.connected.Store(true)
		return conn, nil
	}
	rejected := tlsRejected(err)
	err = public(err)
	if rejected && !c.connected.Load() {
		err = retry.Permanent(err)
	}
	return nil, err
}
