// Package verify compares the files that a pipeline has written with the table that
// they were read from.
//
//	orders := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}}
//	report, err := verify.Files(ctx, orders, "/var/spool/orders", time.Minute)
//	if err == nil && !report.Equal() {
//		fmt.Print(report)
//	}
//
// [Files] may be called at any time, also while the pipeline runs: it compares what
// was committed when it began. It takes no lock, writes nothing, and reads table and
// files once. It holds one batch of the table, the encoded form of one row, and one record
// of the files: up to six times a row that consists of control characters, each.
//
// # What differences mean
//
// The table is read as it is now. A row that was updated after it was delivered is
// changed. A row that was deleted, or whose key was changed, as an update does to a
// stamp, is extra: the files have it, and the table has not. Neither is a fault of the
// pipeline. In a table whose rows are never updated or deleted, both mean that a file
// was damaged, or that a row was delivered twice.
//
// A row that is missing is in the table, at or before the cursor, and not in the
// files. Either it was lost, or its key appeared below the cursor later: it committed
// late under a lossy ceiling, or its key was set by hand. A row that cannot be read, as
// one larger than MaxRowBytes, is missing too, with its key as dead letters have it.
//
// # What is compared
//
// Files compares the delivered range: from the table's Start to the cursor of the
// directory. It must have the settings of the pipeline. Segments that consumers have
// taken are left out, and the report says so: the comparison then continues after the
// first row of the next segment. Where columns were added to the table, earlier
// segments are compared by their own columns.
//
// The directory records where the pipeline was rewound. The segments before a rewind are
// compared up to the cursor of that time, and those after it from the new cursor on. It
// keeps the last 50 rewinds: rows that an earlier one repeated are extra.
//
// The key must be among the columns of the files.
package verify
