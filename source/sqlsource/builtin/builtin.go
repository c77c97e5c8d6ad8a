// Package builtin lists the databases that are built in, and finds one by a
// driver, or a ceiling by its name.
//
//	d, err := builtin.Find(db)
//	c, err := builtin.ParseCeiling("grace=30s")
package builtin

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// database is one that is built in, and the drivers by which it is reached.
type database struct {
	dialect  dialect.Dialect
	names    []string // under which the drivers are registered with database/sql
	packages []string // parts of the import paths of their types, if they are registered under another name
}

func databases() []database {
	return []database{
		{postgres.Dialect{}, []string{"pgx", "pgx/v4", "pgx/v5", "postgres", "pq"}, []string{"jackc/pgx", "lib/pq"}},
		{mysql.Dialect{}, []string{"mysql", "mariadb"}, []string{"go-sql-driver/mysql"}},
		{sqlite.Dialect{}, []string{"sqlite", "sqlite3"}, []string{"sqlite"}},
	}
}

// Find returns the dialect of a database: by the name of its driver, or by the
// package of the driver's type.
func Find(db *sqlx.DB) (dialect.Dialect, error) {
	path := ""
	if v := reflect.Indirect(reflect.ValueOf(db.Driver())); v.IsValid() {
		path = v.Type().PkgPath()
	}
	var names []string
	for _, d := range databases() {
		if slices.Contains(d.names, db.DriverName()) ||
			slices.ContainsFunc(d.packages, func(part string) bool { return strings.Contains(path, part) }) {
			return d.dialect, nil
		}
		names = append(names, d.dialect.Name())
	}
	return nil, fmt.Errorf("the driver %q (%T) is not known as one of %s: set the field Dialect", db.DriverName(), db.Driver(), strings.Join(names, ", "))
}

// ParseCeiling returns the ceiling with a name, as a setting of a program has it: one of
// [Ceilings], or with a duration of package time grace=30s or stamp=30s. stamp=30s@UTC has the time
// zone of a column of times without one, and stamp=30s@2010-11-04T01:42:54.657Z/22 the epoch of snowflake
// ids and the number of bits below the milliseconds. The name stamp alone is postgres.Stamp. The name auto returns nil,
// which stands for the ceiling that fits the table. What String returns is such a name.
func ParseCeiling(text string) (ceiling.Ceiling, error) {
	if text == "auto" {
		return nil, nil
	}
	names := []string{"auto"}
	for _, c := range Ceilings() {
		if text == c.String() {
			return c, nil
		}
		names = append(names, c.String())
	}
	name, value, _ := strings.Cut(text, "=")
	value, of, given := strings.Cut(value, "@")
	d, err := time.ParseDuration(value)
	switch {
	case name == "lag":
		return nil, fmt.Errorf("ceiling: %q: lag was replaced by stamp, which waits for open transactions: write stamp=30s, with a margin for the clocks of clients", text)
	case name != "stamp" && name != "grace" || name == "grace" && given:
		return nil, fmt.Errorf("ceiling: %q: want %s, grace=30s, stamp=30s or stamp=30s@UTC", text, strings.Join(names, ", "))
	case err != nil || d <= 0:
		return nil, fmt.Errorf("ceiling: %q: want a duration of more than 0 after %s, such as %[2]s=30s", text, name)
	case name == "grace":
		return ceiling.Grace{For: d}, nil
	case given && of == "":
		return nil, fmt.Errorf("ceiling: %q: want a time zone after @, such as stamp=30s@UTC", text)
	}
	return stampOf(d, of), nil
}

// stampOf takes what follows the @ for an epoch if it is a time, and otherwise for a time zone.
func stampOf(margin time.Duration, of string) ceiling.Stamp {
	moment, text, counted := strings.Cut(of, "/")
	bits, failed := strconv.Atoi(text)
	if !counted {
		bits, failed = 22, nil
	}
	epoch, err := time.Parse(time.RFC3339, moment)
	if err != nil || failed != nil {
		return ceiling.Stamp{Margin: margin, Zone: of}
	}
	return ceiling.Stamp{Margin: margin, Epoch: epoch, Bits: bits}
}

// Ceilings returns the ceilings that need no options: those of the databases, and ceiling.None.
func Ceilings() []ceiling.Ceiling {
	return []ceiling.Ceiling{postgres.LockFence{}, postgres.TransactionID{}, postgres.Stamp{}, mysql.DirtyProbe{}, sqlite.SingleWriter{}, ceiling.None{}}
}
