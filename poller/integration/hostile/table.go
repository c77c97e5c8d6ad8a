package hostile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	gomysql "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
)

// Table describes the table to write to. Its names are inserted into statements unchanged,
// so quote them where the database requires it.
type Table struct {
	Name string // such as orders or public.orders
	Key  string // the integer column that orders the rows, whose values the database generates

	// Token is a column of 64-bit integers that identifies each row, and that nobody else
	// writes to. It should have a unique index: deletes and Upsert find rows by it.
	Token string

	// Columns are further columns that need a value. nil means none. Values must be set
	// with them.
	Columns []string

	// Values returns a value for each of Columns, in their order. It is called from
	// several goroutines, each with its own r.
	Values func(r *rand.Rand) []any
}

// dialect is the kind of database.
type dialect string

const (
	postgres dialect = "postgres"
	mysql    dialect = "mysql"
)

func findDialect(db *sql.DB) (dialect, error) {
	switch db.Driver().(type) {
	case *stdlib.Driver, *pq.Driver:
		return postgres, nil
	case *gomysql.MySQLDriver:
		return mysql, nil
	}
	return "", fmt.Errorf("hostile: the driver %T is not supported: use pgx, lib/pq or go-sql-driver/mysql", db.Driver())
}

func (t *Table) check() error {
	if t.Name == "" || t.Key == "" || t.Token == "" {
		return errors.New("hostile: Table needs Name, Key and Token")
	}
	if len(t.Columns) > 0 && t.Values == nil {
		return errors.New("hostile: Table has Columns but no Values")
	}
	return nil
}

// statement builds the text and the arguments of a statement.
type statement struct {
	strings.Builder
	dialect dialect
	args    []any
}

// arg adds an argument and returns its placeholder.
func (s *statement) arg(v any) string {
	s.args = append(s.args, v)
	if s.dialect == postgres {
		return "$" + strconv.Itoa(len(s.args))
	}
	return "?"
}

// into begins an INSERT statement. Its columns include the key if withKey is true.
func (t *Table) into(d dialect, withKey bool) *statement {
	s := &statement{dialect: d}
	s.WriteString("INSERT INTO " + t.Name + " (" + strings.Join(t.columns(withKey), ", ") + ") ")
	return s
}

func (t *Table) columns(withKey bool) []string {
	list := append([]string{t.Token}, t.Columns...)
	if withKey {
		list = append(list, t.Key)
	}
	return list
}

// row returns the values of one row.
func (t *Table) row(r *rand.Rand, token int64, key ...int64) []any {
	list := []any{token}
	if t.Values != nil {
		list = append(list, t.Values(r)...)
	}
	for _, k := range key {
		list = append(list, k)
	}
	return list
}

// sequence returns the Postgres sequence that generates the key, or "" if the key has none.
func (t *Table) sequence(ctx context.Context, db *sql.DB) (string, error) {
	var name sql.NullString
	err := db.QueryRowContext(ctx, `SELECT pg_get_serial_sequence($1, $2)`, t.Name, strings.Trim(t.Key, `"`)).Scan(&name)
	if err != nil {
		return "", fmt.Errorf("hostile: looking for the sequence of %s: %w", t.Name, err)
	}
	return name.String, nil
}
