// Package typed has columns of every type of each database, with the extreme values of the type.
package typed

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// Column is a column of one type.
type Column struct {
	DDL    string   // the type
	Values []string // literals and expressions of SQL
}

// Columns returns a column of each type that the database has. It creates the types that a database does not have by
// itself, and lets MariaDB accept every date, for which it limits the pool to one connection.
func Columns(t *testing.T, driver dbtest.Driver, db *sqlx.DB) []Column {
	t.Helper()
	switch {
	case lab.IsPostgres(driver):
		for _, s := range []string{`CREATE TYPE mood AS ENUM ('so "so"', 'happy', '')`, `CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE > 0)`,
			`CREATE DOMAIN moment AS timestamptz`, `CREATE TYPE pair AS (a integer, b text)`} {
			db.MustExec(s)
		}
		return known(t, db, postgres())
	case lab.IsMariaDB(driver):
		db.SetMaxOpenConns(1)
		db.MustExec(`SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'`)
		return mariaDB()
	}
	return sqlite()
}

// Create creates a table with a key id and the columns c0, c1 and so on.
func Create(driver dbtest.Driver, db *sqlx.DB, table string, columns []Column) {
	defs, null := []string{"id integer not null primary key"}, ""
	if lab.IsPostgres(driver) || lab.IsMariaDB(driver) {
		null = " NULL" // otherwise a TIMESTAMP of MariaDB is NOT NULL
	}
	for i, c := range columns {
		defs = append(defs, fmt.Sprintf("c%d %s%s", i, c.DDL, null))
	}
	db.MustExec("CREATE TABLE " + table + " (" + strings.Join(defs, ", ") + ")")
}

// Fill inserts rows into such a table, and returns how many. The first one has NULL in each column, and the n-th
// after it the n-th value, or NULL.
func Fill(db *sqlx.DB, table string, columns []Column) (rows int) {
	for _, c := range columns {
		rows = max(rows, len(c.Values)+1)
	}
	for n := range rows {
		values := []string{fmt.Sprint(n)}
		for _, c := range columns {
			value := "NULL"
			if 0 < n && n <= len(c.Values) {
				value = c.Values[n-1]
			}
			values = append(values, value)
		}
		db.MustExec("INSERT INTO " + table + " VALUES (" + strings.Join(values, ", ") + ")")
	}
	return rows
}

// known leaves out the types and values that are newer than a server.
func known(t *testing.T, db *sqlx.DB, columns []Column) []Column {
	t.Helper()
	var old bool
	if err := db.Get(&old, `SELECT current_setting('server_version_num')::int < 140000`); err != nil {
		t.Fatal(err)
	}
	if !old {
		return columns
	}
	columns = slices.DeleteFunc(columns, func(c Column) bool { return strings.Contains(c.DDL, "multirange") })
	for i, c := range columns {
		if c.DDL == "numeric" {
			columns[i].Values = slices.DeleteFunc(c.Values, func(v string) bool { return strings.Contains(v, "Infinity") })
		}
	}
	return columns
}

// sqlite has every storage class in columns of every affinity.
func sqlite() (columns []Column) {
	values := []string{"0", "-1", "9223372036854775807", "-9223372036854775808", "20260101", "1767225600123", "0.1", "1.5", "5e-324", "-0.0", "9e999", "9007199254740993.0",
		"''", "'text é'", "'2026-01-31'", "'2026-01-31 12:00:00'", "'2026-02-30'", "'true'", "'007'", "'1.10'", "'1e5'", "'{ \"a\" : 1 }'",
		"CAST(x'636166e9' AS TEXT)", "CAST(x'610062' AS TEXT)", "x''", "x'00'", "x'" + hex(everyByte(0, 0x100)) + "'", "zeroblob(100000)"}
	for _, ddl := range []string{"", "INTEGER", "REAL", "DOUBLE", "TEXT", "VARCHAR(3)", "BLOB", "NUMERIC", "DECIMAL(10,5)", "DATE", "DATETIME", "TIMESTAMP", "TIME", "BOOLEAN", "JSON", "ANY"} {
		columns = append(columns, Column{ddl, values})
	}
	return columns
}

func everyByte(from, to int) string {
	var b strings.Builder
	for c := from; c < to; c++ {
		b.WriteByte(byte(c))
	}
	return b.String()
}

func hex(s string) string { return fmt.Sprintf("%x", s) }

func everyASCII() string { return "'" + strings.ReplaceAll(everyByte(1, 0x80), "'", "''") + "'" }
