package hostile

import (
	"context"
	"database/sql"
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

// arguments are the arguments of a statement.
type arguments struct {
	dialect dialect
	values  []any
}

// add adds arguments and returns their placeholders.
func (a *arguments) add(values ...any) string {
	var holders []string
	for _, v := range values {
		a.values = append(a.values, v)
		holder := "?"
		if a.dialect == postgres {
			holder = "$" + strconv.Itoa(len(a.values))
		}
		holders = append(holders, holder)
	}
	return strings.Join(holders, ", ")
}

// into returns the beginning of an INSERT statement. Its columns include the key if withKey
// is true.
func (t *Table) into(withKey bool) string {
	columns := t.columns()
	if withKey {
		columns = append(columns, t.Key)
	}
	return "INSERT INTO " + t.Name + " (" + strings.Join(columns, ", ") + ") "
}

func (t *Table) columns() []string { return append([]string{t.Token}, t.Columns...) }

// row returns the values of one row, without the key.
func (t *Table) row(r *rand.Rand, token int64) []any {
	list := []any{token}
	if t.Values != nil {
		list = append(list, t.Values(r)...)
	}
	return list
}

// queryer is a database or a connection.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// list returns the values of a query's last column.
func list[T any](ctx context.Context, q queryer, query string, args ...any) (values []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	row := make([]any, len(columns))
	for i := range row {
		row[i] = new(any)
	}
	for rows.Next() {
		var v T
		row[len(row)-1] = &v
		if err := rows.Scan(row...); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, rows.Err()
}
