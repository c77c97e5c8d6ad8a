// Package xminsource captures inserts, updates and deletes of a Postgres table with SELECT only.
//
//	orders := &xminsource.Source{
//		DB: db, Name: "orders", Key: []string{"id"},
//		Deletes: &xminsource.Deletes{Dir: "state/orders", Every: time.Hour}, // nil: inserts and updates alone
//	}
//	defer orders.Close()
//	p := &poller.Poller[row.Change]{Source: orders, Sink: sink, ...}
//
// Postgres keeps with each row version the id of the transaction that wrote it, in the hidden
// column xmin. A [Source] reads the table in passes. A pass delivers the versions that were
// written by the transactions from X0 to X1, in the order of the key. X1 is the oldest transaction
// that was running before the pass, so that all transactions below it had ended. The next pass
// begins where this one ended: its X0 is this X1. The first pass delivers all existing rows.
//
// Nothing must be added to the table: no trigger, no column, no slot. It works with any key, on
// standbys, on partitioned tables, on subscribers of logical replication and on materialized views.
// A poll reads the whole table once, at about a tenth of the cost of COPY, unless the cluster has
// given out no transaction id since the last one.
//
// Each change is an Upsert or a Delete. A version that is overwritten before a pass reads it is not seen. Rows
// wait while an older transaction is running in any database of the cluster; Held names it.
//
// # Deletes
//
// With [Deletes] the Source remembers the keys that it has delivered, in a directory. A key pass reads the keys of the table. A
// delivered key that it does not show is looked up, and is a Delete if no row has it. So each delete of a delivered row
// comes, up to Deletes.Every later, also that of a row that was inserted and deleted between two key passes. An UPDATE of
// the key is an Upsert of the new key, and a Delete of the old one in the next key pass. TRUNCATE is a Delete of each key.
//
// The directory belongs to the checkpoint. A cursor whose keys are not there is an error that wraps [ErrKeys]. The list has the
// keys of each batch before the sink gets it, so it also knows a row that a sink has stored before a crash without the cursor. Such
// a Delete can be needless: the row may not have been stored.
//
// DESIGN.md has the proof.
package xminsource
