package sqlsource_test

import (
	"context"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Ids that the clients make, as they do here, may appear in any order. What
// appears behind the cursor is told to an operator, and read all the same.
func ExampleAuditor() {
	orders := &sqlsource.Table{DB: db, Name: "public.orders", Key: []string{"id"}}
	orders.Audit = &sqlsource.Auditor{
		Every: 10 * time.Second,
		Late: func(_ context.Context, l sqlsource.Late) {
			fmt.Printf("%d late rows, the first is %q\n", len(l.Keys), l.Keys[0])
		},
		Deliver: true,
	}
	// A Poller reads orders from here on.
	orders.Audit.Late(context.Background(), sqlsource.Late{Keys: [][]string{{"4711"}}})
	// Output: 1 late rows, the first is ["4711"]
}

// A table is watched for an hour, at a time when all of its writers are at work,
// before a pipeline is built on it.
func ExampleAudit() {
	orders := &sqlsource.Table{DB: db, Name: "public.orders", Key: []string{"id"}}
	report, err := sqlsource.Audit(context.Background(), orders, sqlsource.AuditOptions{For: time.Hour, Behind: 1000})
	if err != nil {
		fmt.Println(err) // here, there is no database
		return
	}
	fmt.Println(report)
	if report.Ceiling.Late > 0 || report.Ceiling.Unseen > 0 {
		fmt.Println("not safe")
	}
	// Output: nowhere
}

func ExampleAuditReport_String() {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	fmt.Println(sqlsource.AuditReport{
		Table: "public.orders", Strategy: "lock-fence", Start: at, End: at.Add(time.Hour),
		Ceiling: sqlsource.Reading{Rows: 73_523},
		Naive:   sqlsource.Reading{Rows: 73_490, Late: 1044, Keys: [][]string{{"100412"}, {"100413"}}, Worst: 2300 * time.Millisecond, Behind: 61},
	})
	// Output:
	// public.orders, 1h0m0s from 2026-01-31T12:00:00Z
	// below the ceiling (lock-fence): 73523 rows, 0 of them late
	// key > cursor, without one: 73490 rows, 1044 of them late, by up to 2.3s or 61 rows; the first: 100412, 100413
	// The ceiling held, for the writers at work in this time, where a reader without one missed rows.
}
