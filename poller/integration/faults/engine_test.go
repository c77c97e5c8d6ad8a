//go:build linux

package faults

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// engine is a database with the driver that dbtofile uses for it.
type engine struct {
	name   string
	driver dbtest.Driver
	create string
	start  func(testing.TB, ...dbtest.Option) *dbtest.Server // a private server; nil for SQLite
	shared func(testing.TB) *dbtest.Server
}

var (
	postgres = engine{"Postgres", dbtest.PGX,
		`CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)`, dbtest.StartPostgres, dbtest.Postgres}
	mariadb = engine{"MariaDB", dbtest.MySQL,
		`CREATE TABLE items (id bigint AUTO_INCREMENT PRIMARY KEY, note longtext NOT NULL)`, dbtest.StartMariaDB, dbtest.MariaDB}
	sqlite = engine{"SQLite", dbtest.NCruces,
		`CREATE TABLE items (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT NOT NULL)`, nil, nil}

	servers   = []engine{postgres, mariadb}
	databases = []engine{postgres, mariadb, sqlite}
)

// dsn returns the data source name for dbtofile.
func (e engine) dsn(d dbtest.Database) string {
	switch e.name {
	case "MariaDB":
		return "mysql://" + d.DSN(dbtest.MySQLText)
	case "SQLite":
		return "sqlite:" + d.Name()
	}
	return d.DSN(e.driver)
}
