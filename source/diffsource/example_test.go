package diffsource_test

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// A pipeline by updated_at with a margin of 30 seconds may miss rows. An hourly comparison with its
// copy counts them: rows within the margin, and twice as long, are left out.
func ExampleComparison() {
	missed := func(ctx context.Context, source, warehouse *sqlx.DB) (int64, error) {
		c := &diffsource.Comparison{
			Source: &sqlsource.Table{DB: source, Name: "orders", Key: []string{"id"}, Where: "t.updated_at < now() - interval '1 minute'"},
			Copy:   &sqlsource.Table{DB: warehouse, Name: "orders", Key: []string{"id"}},
			Settle: time.Minute,
		}
		report, err := c.Run(ctx)
		return report.Missing + report.Changed, err
	}
	_ = missed
	fmt.Println(diffsource.Report{Rows: 1_000_000, Missing: 3})
	// Output: 1000000 rows: 3 missing, 0 extra, 0 changed, 0 moving, 0 unreadable
}
