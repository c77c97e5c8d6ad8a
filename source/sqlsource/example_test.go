package sqlsource_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// nowhere stands for a database, which these examples do not ask.
type nowhere struct{}

func (nowhere) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("nowhere") }
func (nowhere) Driver() driver.Driver                        { return nil }

var db = sqlx.NewDb(sql.OpenDB(nowhere{}), "pgx")

// A cursor tells where it stands, and one can be made of a key, to start there
// or to rewind to it.
func ExampleTable() {
	orders := &sqlsource.Table{DB: db, Name: "public.orders", Key: []string{"placed_at", "id"}}

	cursor, err := orders.At("2026-01-31T12:00:00Z", 4711)
	if err != nil {
		fmt.Println(err)
		return
	}
	orders.Start = cursor
	fmt.Println(orders.Describe(cursor))
	// Output: public.orders after placed_at = "2026-01-31T12:00:00Z", id = 4711
}

// A Query's Select has no ORDER BY and no LIMIT: those are put around it.
func ExampleQuery() {
	type Order struct {
		ID    int64
		Email string
	}
	orders := &sqlsource.Query[Order]{
		DB:     db,
		Select: `SELECT o.id, c.email FROM orders o JOIN customers c ON c.id = o.customer_id`,
		Key:    []string{"id"},
		Table:  "orders",
	}
	fmt.Println(orders.Describe(""))
	// Output: query of orders before the first row
}
