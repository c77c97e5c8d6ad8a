// Package autoinc reads what both the histories and the ceilings of MySQL and
// MariaDB go by: a table's AUTO_INCREMENT counter, and the numbers of errors.
package autoinc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
)

// Counter is a table's AUTO_INCREMENT counter.
type Counter struct {
	Column string // that draws from it, quoted
	Next   uint64 // the number that is drawn next, if none was drawn since
}

// Queryer is a *sql.Conn or *sql.DB.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Read reads the counter of a table, whose name is quoted; ok says that there
// is one, and that it may be seen. It asks by SHOW CREATE TABLE, which shows the
// counter as it is. INFORMATION_SCHEMA.TABLES of MySQL 8 shows what it was at
// some time in the last 24 hours.
func Read(ctx context.Context, db Queryer, name string) (c Counter, ok bool, err error) {
	rows, err := db.QueryContext(ctx, "SHOW CREATE TABLE "+name)
	if err != nil {
		switch Number(err) {
		case 1142, 1143, 1044, 1227: // no privilege
			return c, false, nil
		}
		return c, false, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return c, false, err
	}
	if len(columns) != 2 { // a view
		return c, false, rows.Close()
	}
	var table, statement string
	if rows.Next() {
		if err := rows.Scan(&table, &statement); err != nil {
			return c, false, err
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return c, false, err
	}
	return parse(statement)
}

var (
	// No type of number, and nothing else that may stand before the word, has a quote.
	column  = regexp.MustCompile("(?m)^ +(`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\") [^'\"`]*\\bAUTO_INCREMENT\\b")
	options = regexp.MustCompile(`\n\) (?:/\*.*?\*/ )?ENGINE=\w+(?: AUTO_INCREMENT=(\d+))?`)
)

func parse(statement string) (c Counter, ok bool, err error) {
	col, opt := column.FindStringSubmatch(statement), options.FindStringSubmatch(statement)
	if col == nil || opt == nil {
		return c, false, nil
	}
	c = Counter{col[1], 1} // the option is left out as long as it is 1
	if opt[1] != "" {
		if c.Next, err = strconv.ParseUint(opt[1], 10, 64); err != nil {
			return c, false, fmt.Errorf("the AUTO_INCREMENT counter: %w", err)
		}
	}
	return c, true, nil
}

// Number returns the number of a *mysql.MySQLError, which is not imported, and 0
// of other errors.
func Number(err error) uint64 {
	if err == nil {
		return 0
	}
	if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct && v.Type().Name() == "MySQLError" {
		if f := v.FieldByName("Number"); f.IsValid() && f.CanUint() {
			return f.Uint()
		}
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range several.Unwrap() {
			if n := Number(err); n != 0 {
				return n
			}
		}
	}
	return Number(errors.Unwrap(err))
}
