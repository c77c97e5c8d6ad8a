// Package changelog delivers every insert, update and delete of a table. Triggers record
// the changes in a change table, and package sqlsource reads that.
//
//	orders := &changelog.Table{DB: db, Name: "public.orders", Load: true}
//	script, err := orders.Script(ctx)              // the statements that the table's owner runs, once
//	fmt.Println(script)
//	batch, err := orders.Fetch(ctx, "", 1000)      // the existing rows, then all changes
//	n, err := orders.Prune(ctx, saved)             // delete changes that every reader has saved
package changelog
