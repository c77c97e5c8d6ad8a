package sqlsource

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A row with an id made by hand appears behind the cursor. The Auditor finds it, and
// hands it out.
func Example_lateRows() {
	db := sqlx.MustOpen("sqlite", ":memory:")
	defer db.Close()
	db.SetMaxOpenConns(1) // each connection would have a memory of its own
	db.MustExec(`create table orders (id integer primary key, note text)`)
	db.MustExec(`insert into orders values (10, 'a'), (20, 'b')`)

	orders := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}, Logger: slog.New(slog.DiscardHandler)}
	orders.Audit = &sqlsource.Auditor{
		Every:   1, // at each Fetch
		Deliver: true,
		Late:    func(_ context.Context, l sqlsource.Late) { fmt.Println("late:", l.Keys) },
	}
	var cursor source.Cursor
	for _, statement := range []string{``, `insert into orders values (15, 'c')`, `insert into orders values (30, 'd')`} {
		db.MustExec(statement)
		batch, err := orders.Fetch(context.Background(), cursor, 100)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, r := range batch.Records {
			fmt.Println("read:", r.Text(0), r.Text(1))
		}
		cursor = batch.To
	}
	// Output:
	// read: 10 a
	// read: 20 b
	// late: [[15]]
	// read: 15 c
	// read: 30 d
}
