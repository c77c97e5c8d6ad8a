package dbtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // registers "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"
	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq"                    // registers "postgres"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
	_ "modernc.org/sqlite"                   // registers "sqlite"
)

// Driver is a way to talk to a database: a driver, and a setting of it that
// changes its values. The package imports all of them. The text can be the name of
// a subtest.
type Driver string

// The drivers.
const (
	PGX       Driver = "pgx"        // Postgres: github.com/jackc/pgx/v5
	PQ        Driver = "pq"         // Postgres: github.com/lib/pq
	MySQL     Driver = "mysql"      // MariaDB: github.com/go-sql-driver/mysql with parseTime=true: times as time.Time
	MySQLText Driver = "mysql-text" // the same without parseTime: times as text
	Modernc   Driver = "modernc"    // SQLite: modernc.org/sqlite
	NCruces   Driver = "ncruces"    // SQLite: github.com/ncruces/go-sqlite3
)

// SQLName returns the name under which the driver is registered with
// database/sql.
func (d Driver) SQLName() string {
	switch d {
	case PQ:
		return "postgres"
	case MySQLText:
		return "mysql"
	case Modernc:
		return "sqlite"
	case NCruces:
		return "sqlite3"
	}
	return string(d)
}

// Database is a database that a test may fill. It is a value: As and At return
// changed copies.
type Database struct {
	name     string // of the database, or the path of the SQLite file
	addr     string // empty: SQLite
	user     string
	password string
	drivers  []Driver
}

// NewDatabase creates an empty database, which is dropped when the test ends.
func (s *Server) NewDatabase(tb testing.TB) Database {
	tb.Helper()
	name := "db" + strconv.FormatInt(s.names.Add(1), 10)
	s.exec(tb, s.engine.createDatabase(name))
	if s.shared { // a private server goes with all it has, and may be down by then
		tb.Cleanup(func() { s.exec(tb, s.engine.dropDatabase(name)) })
	}
	return s.Database(name)
}

func (s *Server) exec(tb testing.TB, statement string) {
	tb.Helper()
	driver, name := s.engine.admin()
	db, err := s.Database(name).open(driver)
	if err != nil {
		tb.Fatalf("dbtest: %s: %v", statement, err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		tb.Fatalf("dbtest: %s: %v", statement, err)
	}
}

// Database returns the database called name, which need not exist. Each server
// has one to begin with: postgres, or mysql.
func (s *Server) Database(name string) Database {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.database(name, s.port)
}

func (s *Server) database(name string, port int) Database {
	d := Database{name: name, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), user: s.user, password: s.password}
	if driver, _ := s.engine.admin(); driver == PGX {
		d.drivers = []Driver{PGX, PQ}
	} else {
		d.drivers = []Driver{MySQL, MySQLText}
	}
	return d
}

// SQLite returns a database in a file that is removed when the test ends. Use
// it through one of the two drivers at a time: within one process their file
// locks do not see each other.
func SQLite(tb testing.TB) Database {
	tb.Helper()
	return Database{name: filepath.Join(tb.TempDir(), "test.db"), drivers: []Driver{Modernc, NCruces}}
}

// Name returns the database's name; of SQLite, the path of its file.
func (d Database) Name() string { return d.name }

// Password returns the password of the database's user, for tests that look
// for it where it must not be.
func (d Database) Password() string { return d.password }

// Drivers returns the drivers that can open the database.
func (d Database) Drivers() []Driver { return d.drivers }

// As returns the database as another user opens it.
func (d Database) As(user, password string) Database {
	d.user, d.password = user, password
	return d
}

// At returns the database as it is reached over another address, such as that
// of a proxy before the server.
func (d Database) At(addr string) Database {
	d.addr = addr
	return d
}

// DSN returns the data source name with which the driver opens the database.
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
	// The settings of a program that reads while another writes. Both drivers
	// know the parameter _pragma.
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(d.name), RawQuery: "_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)"}
	return u.String()
}

// Open opens the database and closes it when the test ends.
func (d Database) Open(tb testing.TB, driver Driver) *sqlx.DB {
	tb.Helper()
	db, err := d.open(driver)
	if err != nil {
		tb.Fatalf("dbtest: opening %s with %s: %v", d.name, driver, err)
	}
	tb.Cleanup(func() { db.Close() })
	return db
}

func (d Database) open(driver Driver) (*sqlx.DB, error) {
	db, err := sqlx.Open(driver.SQLName(), d.DSN(driver))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}
