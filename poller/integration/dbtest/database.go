package dbtest

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"

	_ "github.com/go-sql-driver/mysql" // registers "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"
	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq"                    // registers "postgres"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
	_ "modernc.org/sqlite"                   // registers "sqlite"
)

// Driver is a database driver together with its settings. This package imports all of the
// drivers. The value can be used as the name of a subtest.
type Driver string

// The drivers.
const (
	PGX       Driver = "pgx"        // Postgres: github.com/jackc/pgx/v5
	PQ        Driver = "pq"         // Postgres: github.com/lib/pq
	MySQL     Driver = "mysql"      // MariaDB: github.com/go-sql-driver/mysql with parseTime=true: returns times as time.Time
	MySQLText Driver = "mysql-text" // MariaDB: the driver of MySQL without parseTime: returns times as text
	Modernc   Driver = "modernc"    // SQLite: modernc.org/sqlite
	NCruces   Driver = "ncruces"    // SQLite: github.com/ncruces/go-sqlite3
)

var sqlNames = map[Driver]string{PGX: "pgx", PQ: "postgres", MySQL: "mysql", MySQLText: "mysql", Modernc: "sqlite", NCruces: "sqlite3"}

// SQLName returns the name that the driver registers with database/sql.
func (d Driver) SQLName() string { return sqlNames[d] }

// Database is a database that a test may write to. It is a value: WithUser and WithAddr
// return changed copies. The zero Database is not usable.
type Database struct {
	name     string // the database's name, or the path of the SQLite file
	addr     string // host:port; empty for SQLite
	user     string
	password string
	drivers  []Driver
}

// NewDatabase creates an empty database, and drops it when the test ends. It fails the test
// on an error.
func (s *Server) NewDatabase(tb testing.TB) Database {
	tb.Helper()
	name := "db" + strconv.FormatInt(s.names.Add(1), 10)
	s.exec(tb, "CREATE DATABASE "+name)
	if s.shared { // a private server is removed with its databases, and may be stopped by then
		tb.Cleanup(func() { s.exec(tb, "DROP DATABASE IF EXISTS "+name+s.engine.kind().force) })
	}
	return s.Database(name)
}

func (s *Server) exec(tb testing.TB, statement string) {
	tb.Helper()
	admin := s.Database(s.engine.kind().admin)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	db, err := admin.open(ctx, admin.drivers[0])
	if err == nil {
		defer db.Close()
		_, err = db.ExecContext(ctx, statement)
	}
	if err != nil {
		tb.Fatalf("dbtest: %s: %v", statement, err)
	}
}

// Database returns the database of that name without creating it. A new server has one
// database: postgres, or mysql.
func (s *Server) Database(name string) Database {
	return Database{name: name, addr: s.Addr(), user: s.user, password: s.password, drivers: s.engine.kind().drivers}
}

// SQLite returns a database in a file that is removed when the test ends. Do not open it
// with both drivers at once: within one process neither driver sees the other's file locks.
func SQLite(tb testing.TB) Database {
	tb.Helper()
	return Database{name: filepath.Join(tb.TempDir(), "test.db"), drivers: []Driver{Modernc, NCruces}}
}

// Name returns the database's name, or the path of an SQLite file.
func (d Database) Name() string { return d.name }

// Password returns the password of the database's user. Tests use it to check that logs and
// errors do not contain it.
func (d Database) Password() string { return d.password }

// Drivers returns the drivers that can open the database.
func (d Database) Drivers() []Driver { return d.drivers }

// WithUser returns a copy that connects as another user. It does not create the user.
func (d Database) WithUser(user, password string) Database {
	d.user, d.password = user, password
	return d
}

// WithAddr returns a copy that connects to another address, such as a proxy in front of the
// server. addr is host:port.
func (d Database) WithAddr(addr string) Database {
	d.addr = addr
	return d
}

// DSN returns the data source name that opens the database with the driver. It contains the
// password.
func (d Database) DSN(driver Driver) string {
	switch driver {
	case PGX, PQ:
		u := url.URL{Scheme: "postgres", User: url.UserPassword(d.user, d.password), Host: d.addr, Path: d.name, RawQuery: "sslmode=disable"}
		return u.String()
	case MySQL:
		return fmt.Sprintf("%s:%s@tcp(%s)/%s?parseTime=true", d.user, d.password, d.addr, d.name)
	case MySQLText:
		return fmt.Sprintf("%s:%s@tcp(%s)/%s", d.user, d.password, d.addr, d.name)
	}
	// Settings of a program that reads while another one writes. Both drivers know the
	// parameter _pragma.
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(d.name), RawQuery: "_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)"}
	return u.String()
}

// Open connects to the database, and closes the handle when the test ends. It fails the
// test if the server does not answer within three minutes.
func (d Database) Open(tb testing.TB, driver Driver) *sqlx.DB {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	db, err := d.open(ctx, driver)
	if err != nil {
		tb.Fatalf("dbtest: opening %s with %s: %v", d.name, driver, err)
	}
	tb.Cleanup(func() { db.Close() })
	return db
}

func (d Database) open(ctx context.Context, driver Driver) (*sqlx.DB, error) {
	db, err := sqlx.Open(driver.SQLName(), d.DSN(driver))
	if err != nil {
		return nil, err
	}
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}
