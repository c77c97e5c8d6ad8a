package sqlsink

import (
	"fmt"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// engineOf returns the engine for the database of a dialect.
func engineOf(d dialect.Dialect) (engine, error) {
	switch d.(type) {
	case postgres.Dialect:
		return postgresEngine{d}, nil
	case mysql.Dialect:
		return mysqlEngine{d}, nil
	case sqlite.Dialect:
		return sqliteEngine{d}, nil
	}
	return nil, fmt.Errorf("writing into %s is not supported: use Postgres, MySQL, MariaDB or SQLite", d.Name())
}
