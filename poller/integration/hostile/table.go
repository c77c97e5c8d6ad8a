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

// Table is the table to write to. Everything in it goes into statements as it
// is, quoted where the database needs that.
type Table struct {
	Name string // orders, public.orders
	Key  string // the column that orders the rows; an integer that the database draws

	// Token is a column for integers of 64 bits that nobody else writes to, by
	// which each row is known again. Give it a unique index: Delete and Upsert
	// find their rows by it.
	Token string

	// Columns are those that need a value besides, and Values makes one for each
	// of them. It is called from several goroutines. nil means no such column.
	Columns []string
	Values  func(r *rand.Rand) []any
}

// dialect is what differs between the databases.
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
	return "", fmt.Errorf("hostile: no writers are known for the driver %T", db.Driver())
}

func (t *Table) check() error {
	if t.Name == "" || t.Key == "" || t.Token == "" {
		return errors.New("hostile: Table needs Name, Key and Token")
	}
	if len(t.Columns) > 0 && t.Values == nil {
		return errors.New("hostile: Table has Columns, and no Values")
	}
	return nil
}

// statement collects a statement's text and arguments.
type statement struct {
	strings.Builder
	dialect dialect
	args    []any
}

// arg adds an argument and returns what stands for it in the text.
func (s *statement) arg(v any) string {
	s.args = append(s.args, v)
	if s.dialect == postgres {
		return "$" + strconv.Itoa(len(s.args))
	}
	return "?"
}

// into begins a statement that inserts, with the key too if it is given by hand.
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

// row returns the values for the columns of one row.
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

// sequence returns the sequence that draws the key, for Postgres.
func (t *Table) sequence(ctx context.Context, db *sql.DB) (string, error) {
	var name sql.NullString
	err := db.QueryRowContext(ctx, `SELECT pg_get_serial_sequence($1, $2)`, t.Name, strings.Trim(t.Key, `"`)).Scan(&name)
	if err != nil {
		return "", fmt.Errorf("hostile: looking for the sequence of %s: %w", t.Name, err)
	}
	return name.String, nil
}
