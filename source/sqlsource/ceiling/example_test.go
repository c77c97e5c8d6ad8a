package ceiling_test

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Watermark is a strategy of one's own: the writers say how far they are. A job
// fills the table in several transactions, in any order, and when all rows up to
// a key are committed it writes that into the one row of the table progress. Rows
// above it are left alone. It takes the writers' word, on any database.
type Watermark struct{}

func (Watermark) String() string { return "watermark" }

// Open looks at the table once, and says what is guaranteed.
func (w Watermark) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	r := ceiling.Report{Strategy: w.String()}
	var rows int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM progress").Scan(&rows); err != nil {
		return nil, fmt.Errorf("reading the watermark: %w", err)
	}
	if rows != 1 {
		r.Add(ceiling.Unsafe, ceiling.Advice("have exactly one row, which holds the watermark"), "the table progress has %d rows, and must have one", rows)
		return nil, r.Err(t)
	}
	r.Add(ceiling.Note, nil, "that no row is added at or below the watermark is the writers' word")
	r.Guarantee = "every row up to the writers' watermark is read"
	return watermark{r, t.Key[0].Ref, "SELECT progress.done, (SELECT max(" + t.Key[0].Quoted + ") FROM " + t.Name + ") FROM progress"}, nil
}

type watermark struct {
	report ceiling.Report
	key    string
	look   string
}

func (g watermark) Report() ceiling.Report { return g.report }

// Advance is asked before rows are read, and again when all below the limit were.
func (g watermark) Advance(ctx context.Context, db ceiling.Queryer, _ []string) (ceiling.Limit, error) {
	at := time.Now()
	var done int64
	var top sql.NullInt64
	if err := db.QueryRowContext(ctx, g.look).Scan(&done, &top); err != nil {
		return ceiling.Limit{}, fmt.Errorf("reading the watermark: %w", err)
	}
	l := ceiling.Limit{Where: g.key + " <= ?", Args: []any{done}}
	if top.Int64 > done {
		l.Held = &source.Held{Since: at, By: []string{fmt.Sprintf("the writers' watermark, %d", done)}}
	}
	return l, nil
}

// A strategy of one's own takes two methods and a name. It is given to a Table or
// Query like those of this package.
func ExampleCeiling() {
	orders := &sqlsource.Table{Name: "orders", Key: []string{"id"}, Ceiling: Watermark{}}
	fmt.Println(orders.Ceiling)
	// Output: watermark
}
