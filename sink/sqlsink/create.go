package sqlsink

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// create creates a table that does not exist, or adds the columns that it lacks, and reads it
// again. It runs outside of the transaction: some databases commit before such a statement.
func create(ctx context.Context, e engine, conn *sqlx.Conn, t *target, columns *row.Columns, how use, key []string) error {
	statements, err := schemaOf(e, t, columns, how, key)
	if err != nil || len(statements) == 0 {
		return err
	}
	for _, statement := range statements {
		if err := ceiling.Exec(ctx, conn, statement); err != nil {
			return fmt.Errorf("creating the table or a column: %w", err)
		}
	}
	t.table, err = e.read(ctx, conn, t.parts)
	return err
}

// schemaOf returns the statements that make room for columns.
func schemaOf(e engine, t *target, columns *row.Columns, how use, key []string) (statements []string, err error) {
	table := dialect.QuoteAll(e, t.parts)
	var lines []string
	for i := range columns.Len() {
		name := columns.Name(i)
		ofKey := 0
		if slices.Contains(key, name) {
			ofKey = len(key)
		}
		if t.table != nil && t.table.column(name, e.traits().anyCase) != nil {
			continue
		}
		line := e.Quote(name) + " " + e.declare(declared(columns.Type(i)), ofKey)
		if ofKey > 0 {
			line += " NOT NULL"
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	if t.table != nil {
		for _, line := range lines {
			statements = append(statements, "ALTER TABLE "+table+" ADD COLUMN "+line)
		}
		return statements, nil
	}
	if how != inserts && len(key) == 0 {
		return nil, dialect.Permanent("the table does not exist, and Options.Key does not say which columns identify a row: set it")
	}
	var names []string
	for _, name := range key {
		if columns.Index(name) < 0 {
			return nil, dialect.Permanent("the source has no column %q, which Options.Key names", name)
		}
		names = append(names, e.Quote(name))
	}
	if len(names) > 0 {
		lines = append(lines, "PRIMARY KEY ("+strings.Join(names, ", ")+")")
	}
	return []string{e.CreateTable(table, strings.Join(lines, ", "))}, nil
}

// declared takes the declared type of a column that may hold values of all types, as in SQLite, for
// its type. A value of another type is rejected.
func declared(t row.Type) row.Type {
	if t.Class != row.Unknown {
		return t
	}
	switch strings.ToLower(t.Name) {
	case "integer", "int", "bigint", "smallint", "tinyint":
		t.Class, t.Bits = row.Integer, 64
	case "real", "double", "double precision", "float":
		t.Class, t.Bits = row.Float, 64
	case "blob":
		t.Class = row.Binary
	}
	return t
}

var postgresArrays = regexp.MustCompile(`^(smallint|integer|bigint|numeric|real|double precision|boolean|text|character varying|uuid|date|jsonb?|bytea|timestamp with(out)? time zone)\[\]$`)

func (postgresEngine) declare(t row.Type, _ int) string {
	switch t.Class {
	case row.Boolean:
		return "boolean"
	case row.Integer:
		return bySize(t.Bits, "smallint", "smallint", "integer", "integer", "bigint")
	case row.Unsigned:
		return bySize(t.Bits, "smallint", "integer", "integer", "bigint", "numeric(20,0)")
	case row.Decimal:
		return precise("numeric", t)
	case row.Float:
		return bySize(t.Bits, "real", "real", "real", "real", "double precision")
	case row.Array:
		if postgresArrays.MatchString(t.Name) {
			return t.Name
		}
	case row.Document:
		if t.Name == "jsonb" {
			return "jsonb"
		}
		return "json"
	}
	return cmp.Or(map[row.Class]string{row.Binary: "bytea", row.CalendarDate: "date", row.TimeOfDay: "time", row.TimeOfDayTZ: "time with time zone",
		row.DateTime: "timestamp", row.Instant: "timestamp with time zone", row.Interval: "interval", row.UUID: "uuid"}[t.Class], "text")
}

const (
	// mysqlText compares text byte by byte, with its spaces.
	mysqlText = " CHARACTER SET utf8mb4 /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */"
	mysqlKey  = 700 // characters of all columns of a key; an index takes 3,072 bytes
)

func (mysqlEngine) declare(t row.Type, key int) string {
	switch t.Class {
	case row.Boolean:
		return "tinyint(1)"
	case row.Integer:
		return bySize(t.Bits, "tinyint", "smallint", "mediumint", "int", "bigint")
	case row.Unsigned:
		return bySize(t.Bits, "tinyint", "smallint", "mediumint", "int", "bigint") + " unsigned"
	case row.Decimal:
		if 0 < t.Precision && t.Precision <= 65 && 0 <= t.Scale && t.Scale <= min(t.Precision, 30) {
			return precise("decimal", t)
		}
	case row.Float:
		return bySize(t.Bits, "float", "float", "float", "float", "double")
	case row.Binary:
		return limited(t, key, "varbinary", "longblob")
	case row.CalendarDate:
		return "date"
	case row.TimeOfDay:
		return "time(6)"
	case row.DateTime, row.Instant:
		return "datetime(6)"
	}
	return limited(t, key, "varchar", "longtext") + mysqlText
}

func limited(t row.Type, key int, short, long string) string {
	n := t.Length
	if key > 0 && (n == 0 || n > mysqlKey/key) {
		n = mysqlKey / key // a key that is longer is rejected
	}
	if n == 0 || key == 0 && n > 255 { // the columns of a row share 65,535 bytes
		return long
	}
	return fmt.Sprintf("%s(%d)", short, n)
}

func (sqliteEngine) declare(t row.Type, _ int) string {
	switch t.Class {
	case row.Unknown:
		return "" // values of all types, unchanged
	case row.Unsigned:
		return bySize(t.Bits, "INTEGER", "INTEGER", "INTEGER", "INTEGER", "TEXT")
	case row.Boolean, row.Integer:
		return "INTEGER"
	case row.Float:
		return "REAL"
	case row.Binary:
		return "BLOB"
	}
	return "TEXT"
}

// bySize chooses a type for numbers of so many bits.
func bySize(bits int, of8, of16, of24, of32, of64 string) string {
	switch {
	case bits == 8:
		return of8
	case bits == 16:
		return of16
	case bits == 24:
		return of24
	case bits == 32:
		return of32
	}
	return of64
}

func precise(name string, t row.Type) string {
	if t.Precision == 0 {
		return name
	}
	return fmt.Sprintf("%s(%d,%d)", name, t.Precision, t.Scale)
}
