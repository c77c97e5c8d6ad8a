package late_test

import (
	"context"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/late"
)

// A table is watched for an hour, at a time when all of its writers are at work,
// before a pipeline is built on it: late.Audit(ctx, table, late.Options{For: time.Hour}).
func ExampleAudit() {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	fmt.Println(late.Report{
		Table: "public.orders", Ceiling: "lock-fence", Start: at, End: at.Add(time.Hour),
		Below: late.Reading{Rows: 73_523},
		Naive: late.Reading{Rows: 73_490, Late: 1044, Keys: []string{"id 100412", "id 100413"}},
	})
	// Output:
	// public.orders, 1h0m0s from 2026-01-31T12:00:00Z
	// below the ceiling (lock-fence): 73523 rows read, 0 late
	// key > cursor, without a ceiling: 73490 rows read, 1044 late: id 100412, id 100413
	// The ceiling held for the writers at work in this time. A reader without a ceiling missed rows.
}

// Keys that clients make, such as random numbers, can appear in any order.
func ExampleSource() {
	report := func(_ context.Context, f late.Found) {
		fmt.Printf("%d late rows, %d of them known by key\n", f.Rows, len(f.Keys))
	}
	orders := &late.Source[string]{Table: nil /* a *sqlsource.Query[string] */, Every: 10 * time.Second, Report: report}
	orders.Report(context.Background(), late.Found{Rows: 2})
	// Output: 2 late rows, 0 of them known by key
}
