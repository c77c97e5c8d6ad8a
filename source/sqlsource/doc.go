// Package sqlsource reads SQL databases by keyset polling: it asks for the rows
// whose key is greater than the last one read, in the order of the key, a batch
// at a time, and never skips a row that commits late.
//
//	orders := &sqlsource.Table{DB: db, Name: "public.orders", Key: []string{"id"}}
//	batch, err := orders.Fetch(ctx, "", 1000)       // from the first row
//	batch, err = orders.Fetch(ctx, batch.To, 1000)  // and on
//	check, err := orders.Check(ctx, batch.To)       // what is guaranteed, and why
//	fmt.Print(check)
//
// [Table] reads any table or view; its records are of type [row.Row]. [Query]
// reads a SELECT into your structs. Both are a [source.Source], over sqlx. The
// databases are those of package [builtin]; package [dialect] adds others.
//
// # What is guaranteed
//
// Every committed row is delivered once, in the order of the key. A new row is one
// whose key is greater than all keys read so far. Rows are read only up to a ceiling:
// a key below which no transaction in flight can still add a row.
//
// The ceiling that fits the table is chosen automatically, and the first Fetch logs
// its guarantee. Where rows could be missed, Fetch returns a [ceiling.UnsafeError]
// with the reasons and what can be done. Lossy ceilings must be chosen
// explicitly. Rows wait for transactions that were open when they were added, so keep
// transactions short: [source.Batch].Held says since when rows wait, and for whom.
//
// An update is seen only if it moves the row to a new key, and a delete never is. Packages
// changelog, diffsource and xminsource deliver them, and package recommend says which of these
// fits a table. Package [late] reports rows that appear below
// the cursor anyway, such as those with ids that clients make.
//
// # Keys
//
// A key is one column or several: unique together, never NULL, never changed, and
// the first columns of an index in this order. A poll then costs the same however
// large the table is. Two rows with one key, and a NULL, are errors that name them.
// Use a unique index and NOT NULL anyway: equal keys can be written differently, such
// as "a" and "A" under a collation that ignores case. Do not change a collation, or drop
// a NOT NULL, while a pipeline runs.
//
// # Cursors
//
// A cursor holds the key of the last row and what identifies the database's
// history, in printable ASCII. A cursor of another query is a permanent error. So
// is one of another server, of a recreated table, or of a database that has gone
// back in time since ([ErrHistory]). Continue with [Table.At] or [Table.Adopt].
//
// # Rows that cannot be read
//
// A row that is larger than MaxRowBytes, or that does not fit into T, is a
// [*source.BadRecord] with its key. A Poller with a DeadLetter sink passes it on and
// continues after it; without one, Run ends. The size of a row is known before it is
// fetched, so memory is bounded whatever the rows are.
//
// [late]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/source/sqlsource/late
package sqlsource
